;; Writes keys of a megabyte and takes no refusal. Well-behaved after the first attempt.
(module
  (import "sandbar:events/state@0.1.1" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32)))
  (memory (export "memory") 32)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.1#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (if (i32.gt_u (local.get $attempt) (i32.const 1)) (then (return (i32.const 0))))
    (loop
      (call $set (i32.const 65536) (i32.const 1048576) (i32.const 0) (i32.const 0)
        (i32.const 0) (i64.const 0) (i32.const 3072))
      (br 0))
    unreachable))
