;; Fails to begin, with a message of two megabytes.
(module
  (memory (export "memory") 40)
  (data (i32.const 2048) "\01\00\00\00\00\00\01\00\00\00\20\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/lifecycle@0.1.0#init") (result i32)
    i32.const 2048)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
