;; Gives itself a name that would clear a terminal.
(module
  (memory (export "memory") 1)
  (data (i32.const 512) "1\1b[2J")
  ;; name, version, description, subscriptions, publishes, config-schema, annotations
  (data (i32.const 2048) "\00\02\00\00\05\00\00\00" "\00\02\00\00\01\00\00\00" "\00\02\00\00\01\00\00\00"
    "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/plugin@0.1.0#describe") (result i32)
    i32.const 2048)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
