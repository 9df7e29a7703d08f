;; Returns a list of four billion records. Well-behaved after the first attempt.
(module
  (memory (export "memory") 1)
  (data (i32.const 2048) "\00\00\00\00\00\00\00\00\08\00\00\00\ff\ff\ff\ff")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (if (i32.gt_u (local.get $attempt) (i32.const 1)) (then (return (i32.const 0))))
    i32.const 2048))
