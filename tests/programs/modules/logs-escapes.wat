;; Logs a line that would clear a terminal and forge another line.
(module
  (import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "a\0ab\00" "\00\00\00\00" "x\1b[2J\0d\0a2026 INFO other: all is well!!")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 512) (i32.const 4) (i32.const 520) (i32.const 32))
    i32.const 0))
