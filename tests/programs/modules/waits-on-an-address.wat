;; Waits on a word of its own memory that no thread will ever change.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32)
    (result i32)
    (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))))
