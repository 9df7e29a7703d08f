;; Loops where it gets more than one event.
(module
  (memory (export "memory") 1)
  (data (i32.const 2048) "\40\00\00\00\01\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 32768)
  (func (export "sandbar:events/batch-handler@0.1.0#handle-batch")
    (param $events i32) (param $length i32) (result i32)
    (if (i32.gt_u (local.get $length) (i32.const 1)) (then (loop (br 0))))
    i32.const 2048))
