;; Calls the host when the host is done with what it returned.
(module
  (import "sandbar:events/context@0.1.0" "remaining-ms" (func $remaining (result i64)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0)
  (func (export "cabi_post_sandbar:events/handler@0.1.0#handle") (param i32) (drop (call $remaining))))
