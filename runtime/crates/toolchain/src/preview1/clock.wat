;; What both clocks have in common: `$now` in ns by clock (0: wall), `$sleep` for ns.

(func (export "clock_time_get") (param $clock i32) (param i64) (param $time i32) (result i32)
  (i64.store (local.get $time) (call $now (local.get $clock)))
  (i32.const 0))

;; Clocks can be waited for; of streams there is always all there will be.
(func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $ready i32) (result i32)
  (local $found i32) (local $first i32) (local $least i64) (local $wait i64)
  (local.set $least (i64.const -1))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      (if (i32.load8_u offset=8 (local.get $in))
        (then
          (call $report (local.get $in) (i32.add (local.get $out)
            (i32.shl (local.get $found) (i32.const 5))))
          (local.set $found (i32.add (local.get $found) (i32.const 1))))
        (else
          (local.set $wait (i64.load offset=24 (local.get $in)))
          ;; an absolute time
          (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1))
            (then
              (local.set $wait (i64.sub (local.get $wait) (call $now (i32.load offset=16 (local.get $in)))))
              (if (i64.lt_s (local.get $wait) (i64.const 0)) (then (local.set $wait (i64.const 0))))))
          (if (i64.lt_u (local.get $wait) (local.get $least))
            (then
              (local.set $least (local.get $wait))
              (local.set $first (local.get $in))))))
      (local.set $in (i32.add (local.get $in) (i32.const 48)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
  (if (i32.and (i32.eqz (local.get $found)) (i32.ne (local.get $first) (i32.const 0)))
    (then
      (call $sleep (local.get $least))
      (call $report (local.get $first) (local.get $out))
      (local.set $found (i32.const 1))))
  (i32.store (local.get $ready) (local.get $found))
  ;; nothing to wait for is an error of the caller
  (select (i32.const 0) (i32.const 28) (local.get $found)))

;; An event: whose it is, no error, what kind, no bytes.
(func $report (param $subscription i32) (param $event i32)
  (i64.store (local.get $event) (i64.load (local.get $subscription)))
  (i64.store offset=8 (local.get $event) (i64.shl (i64.load8_u offset=8 (local.get $subscription)) (i64.const 16)))
  (i64.store offset=16 (local.get $event) (i64.const 0))
  (i64.store offset=24 (local.get $event) (i64.const 0)))
