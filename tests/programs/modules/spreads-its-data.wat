;; Two bytes of data, 60 MiB apart: an image of the memory that is nearly all zeros.
(module
  (memory (export "memory") 961)
  (data (i32.const 512) "a")
  (data (i32.const 62914560) "z")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
