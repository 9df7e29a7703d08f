;; Writes to its standard output without an end of line, without end. Well-behaved after the first
;; attempt.
(module
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "sandbar:events/handler@0.1.0#handle")
    (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $attempt i32)
    (param i32 i32) (result i32)
    (local $out i32)
    (if (i32.gt_u (local.get $attempt) (i32.const 1)) (then (return (i32.const 0))))
    (local.set $out (call $stdout))
    (loop (call $write (local.get $out) (i32.const 0) (i32.const 4096) (i32.const 8192)) (br 0))
    unreachable))
