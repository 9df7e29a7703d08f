;; Go's runtime takes the seed of its maps and of math/rand with the very first call,
;; before imports may be called: it gets a constant one, so that a replay runs the same.
;; Every other call wants real randomness.

(global $seeded (mut i32) (i32.const 0))

(func (export "random_get") (param $at i32) (param $len i32) (result i32)
  (local $state i64)
  (if (i32.or (global.get $seeded) (global.get $live)) (then (return (call $random (local.get $at) (local.get $len)))))
  (global.set $seeded (i32.const 1))
  (local.set $state (i64.const 0x9e3779b97f4a7c15))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $len)))
      (local.set $state (i64.mul (i64.xor (local.get $state) (i64.shr_u (local.get $state) (i64.const 27)))
        (i64.const 0xbf58476d1ce4e5b9)))
      (i64.store8 (local.get $at) (i64.shr_u (local.get $state) (i64.const 56)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $next)))
  (i32.const 0))
