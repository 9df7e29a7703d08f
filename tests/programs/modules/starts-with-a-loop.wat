;; Loops before anything was called.
(module
  (memory (export "memory") 1)
  (func $start (loop (br 0)))
  (start $start)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
