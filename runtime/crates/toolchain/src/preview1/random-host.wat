;; Randomness for a plugin with the grant `random`: the host's.

(import "wasi:random/random@0.2.0" "get-random-u64" (func $u64 (result i64)))

(func (export "sandbar_host_random"))

(func $random (param $at i32) (param $len i32) (result i32)
  (local $bits i64) (local $left i32)
  (if (i32.eqz (global.get $live)) (then (return (i32.const 76))))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $len)))
      (if (i32.eqz (local.get $left))
        (then
          (local.set $bits (call $u64))
          (local.set $left (i32.const 8))))
      (i64.store8 (local.get $at) (local.get $bits))
      (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $next)))
  (i32.const 0))
