;; Logs one line of two megabytes.
(module
  (import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 40)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 2097152))
    i32.const 0))
