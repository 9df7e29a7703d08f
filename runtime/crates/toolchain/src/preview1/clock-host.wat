;; Time for a plugin with the grant `clocks`: the host's.

(import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall-now (param i32)))
(import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $monotonic-now (result i64)))
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block-on (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))

(func (export "sandbar_host_clocks"))
(func (export "sandbar_event_time") (param i64))

(func (export "clock_res_get") (param i32) (param $resolution i32) (result i32)
  (i64.store (local.get $resolution) (i64.const 1))
  (i32.const 0))

;; Go's runtime looks at its clocks before imports may be called.
(func $now (param $clock i32) (result i64)
  (local $ns i64)
  (if (i32.eqz (global.get $live)) (then (return (i64.const 1))))
  (if (local.get $clock) (then (return (call $monotonic-now))))
  ;; the answer takes 16 bytes, which the end of the error buffer gives
  (call $wall-now (call $scratch))
  (i64.add (i64.mul (i64.load (call $scratch)) (i64.const 1000000000))
    (i64.load32_u offset=8 (call $scratch))))

(func $scratch (result i32)
  (i32.and (i32.const -8)
    (i32.sub (i32.add (call $error) (global.get $room)) (i32.const 16))))

(func $sleep (param $ns i64)
  (local $pollable i32)
  (if (global.get $live)
    (then
      (local.set $pollable (call $subscribe (local.get $ns)))
      (call $block-on (local.get $pollable))
      (call $drop (local.get $pollable)))))
