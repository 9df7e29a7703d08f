;; Writes one small key after the other, for as long as it may.
(module
  (import "sandbar:events/state@0.1.1" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32)))
  (memory (export "memory") 1)
  (data (i32.const 2048) "00000000")
  ;; the next number of eight digits at 2048
  (func $count (local $digit i32)
    (local.set $digit (i32.const 2055))
    (loop
      (i32.store8 (local.get $digit) (i32.add (i32.load8_u (local.get $digit)) (i32.const 1)))
      (if (i32.gt_u (i32.load8_u (local.get $digit)) (i32.const 57)) (then
        (i32.store8 (local.get $digit) (i32.const 48))
        (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
        (br 1)))))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.1#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (loop
      (call $count)
      (call $set (i32.const 2048) (i32.const 8) (i32.const 2048) (i32.const 8)
        (i32.const 0) (i64.const 0) (i32.const 3072))
      (br_if 0 (i32.eqz (i32.load8_u (i32.const 3072)))))
    i32.const 0))
