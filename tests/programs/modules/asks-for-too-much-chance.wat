;; Asks for more random bytes than there is memory in the machine. Well-behaved after the first
;; attempt.
(module
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (if (i32.gt_u (local.get $attempt) (i32.const 1)) (then (return (i32.const 0))))
    (call $random (i64.const 0x100000000000) (i32.const 512))
    i32.const 0))
