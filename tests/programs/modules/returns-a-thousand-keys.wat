;; Returns a thousand records, each with a key of its own.
(module
  (memory (export "memory") 2)
  (data (i32.const 2048) "\00\00\00\00\00\00\00\00\00\00\01\00\e8\03\00\00")
  (data (i32.const 3072) "t")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 65536))
    (loop
      ;; topic "t", a key of four bytes that is its own number
      (i32.store offset=12 (local.get $at) (i32.const 3072))
      (i32.store offset=16 (local.get $at) (i32.const 1))
      (i32.store offset=20 (local.get $at) (i32.const 1))
      (i32.store offset=24 (local.get $at) (i32.add (local.get $at) (i32.const 36)))
      (i32.store offset=36 (local.get $at) (local.get $at))
      (i32.store offset=28 (local.get $at) (i32.const 4))
      (i32.store (local.get $at) (i32.const 0))
      (local.set $at (i32.add (local.get $at) (i32.const 60)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 125536))))
    i32.const 2048))
