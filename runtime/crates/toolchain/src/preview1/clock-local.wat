;; Time for a plugin without the grant `clocks`: that of the event in hand, so that a
;; replay sees the same. Waiting is not done: the clock is put forward instead.

(global $wall (mut i64) (i64.const 0)) ;; ns since the Unix epoch
(global $monotonic (mut i64) (i64.const 1)) ;; ns; each look takes 1 us, for who waits for a deadline in a loop

(func (export "sandbar_event_time") (param $ms i64)
  (global.set $wall (i64.mul (local.get $ms) (i64.const 1000000))))

(func (export "clock_res_get") (param i32) (param $resolution i32) (result i32)
  (i64.store (local.get $resolution) (i64.const 1000))
  (i32.const 0))

(func $now (param $clock i32) (result i64)
  (if (i32.eqz (local.get $clock)) (then (return (global.get $wall))))
  (global.set $monotonic (i64.add (global.get $monotonic) (i64.const 1000)))
  (global.get $monotonic))

(func $sleep (param $ns i64)
  (global.set $wall (i64.add (global.get $wall) (local.get $ns)))
  (global.set $monotonic (i64.add (global.get $monotonic) (local.get $ns))))
