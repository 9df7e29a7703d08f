;; Says that a dependency is down for half a billion years.
(module
  (memory (export "memory") 1)
  (data (i32.const 2048) "\01\00\00\00\00\00\00\00\03\00\00\00\00\00\00\00" "\ff\ff\ff\ff\ff\ff\ff\ff")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 2048))
