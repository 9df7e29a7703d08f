;; Wants a table of a million entries to begin with.
(module
  (memory (export "memory") 1)
  (table 1000000 funcref)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
