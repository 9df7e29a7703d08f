;; Fails to begin when the clock says so: where it loads, later instances may not.
(module
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/lifecycle@0.1.0#init") (result i32)
    (call $now (i32.const 2048))
    (i32.store8 (i32.const 2064) (i32.and (i32.shr_u (i32.load (i32.const 2056)) (i32.const 10)) (i32.const 1)))
    i32.const 2064)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    i32.const 0))
