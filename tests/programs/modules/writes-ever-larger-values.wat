;; Doubles the value of one key, for as long as it may.
(module
  (import "sandbar:events/state@0.1.1" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32)))
  (memory (export "memory") 128)
  (data (i32.const 2048) "00000000")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.1#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (local $length i32)
    (local.set $length (i32.const 1024))
    (loop
      (local.set $length (i32.shl (local.get $length) (i32.const 1)))
      (call $set (i32.const 2048) (i32.const 8) (i32.const 65536) (local.get $length)
        (i32.const 0) (i64.const 0) (i32.const 3072))
      (br_if 0 (i32.eqz (i32.load8_u (i32.const 3072)))))
    i32.const 0))
