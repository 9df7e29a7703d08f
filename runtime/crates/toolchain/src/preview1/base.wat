;; WASI preview 1, answered inside of the plugin: what the standard libraries of Go
;; and C call, without any power of the host's but its log. Standard output goes to the
;; log; what standard error held when the program ends becomes the text of its panic.
;; Beside this file, one of `clock-*.wat` and one of `random-*.wat` complete the module.
;;
;; It has no memory of its own and must not ask the plugin's allocator for any, for Go's
;; runtime calls it before it can allocate: the SDK lends it `$lent` bytes instead.

(import "env" "memory" (memory 0))
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param $level i32) (param $context i32) (param $context-len i32) (param $message i32) (param $message-len i32)))

;; 8 bytes for the log's context, then two buffers of `$room` bytes: output and error
(global $lent (mut i32) (i32.const 0))
(global $room (mut i32) (i32.const 0))
(global $output-len (mut i32) (i32.const 0))
(global $error-len (mut i32) (i32.const 0))
;; how much of a crash was handed on
(global $reports (mut i32) (i32.const 0))
(global $in-place (mut i32) (i32.const 0))
;; set by the host's `init`: imports may be called from then on
(global $live (mut i32) (i32.const 0))

;; ---- called by the SDK

;; Lends `len` bytes for as long as the instance lives.
(func (export "sandbar_lend") (param $address i32) (param $len i32)
  (global.set $lent (local.get $address))
  (global.set $room (i32.shr_u (i32.sub (local.get $len) (i32.const 8)) (i32.const 1))))

;; From here on imports may be called; before, `describe` may be running.
(func (export "sandbar_live")
  (global.set $live (i32.const 1)))

;; Hands what was printed to the log: at the end of each call.
(func (export "sandbar_flush")
  (call $flush-output)
  (call $flush-error))

;; Ends the instance for the reason given, which must be UTF-8.
(func (export "sandbar_panic") (param $reason i32) (param $len i32)
  (if (global.get $lent)
    (then
      (i64.store (global.get $lent) (i64.const 0x63696e6170))
      (call $log (i32.const 5) (global.get $lent) (i32.const 5) (local.get $reason) (local.get $len))))
  (unreachable))

;; ---- standard streams

(func $output (result i32) (i32.add (global.get $lent) (i32.const 8)))
(func $error (result i32) (i32.add (call $output) (global.get $room)))

(func $flush-output
  (if (i32.and (global.get $live) (i32.ne (global.get $output-len) (i32.const 0)))
    (then
      (call $say (i32.const 2) (i64.const 0x74756f647473) (i32.const 6) ;; info, "stdout"
        (call $output) (global.get $output-len))
      (global.set $output-len (i32.const 0)))))

(func $flush-error
  (if (i32.and (global.get $live) (i32.ne (global.get $error-len) (i32.const 0)))
    (then
      (call $say (i32.const 3) (i64.const 0x727265647473) (i32.const 6) ;; warn, "stderr"
        (call $error) (global.get $error-len))
      (global.set $error-len (i32.const 0)))))

(func $say (param $level i32) (param $context i64) (param $context-len i32) (param $text i32) (param $len i32)
  ;; without the end of the last line
  (block $trimmed
    (loop $trim
      (br_if $trimmed (i32.eqz (local.get $len)))
      (br_if $trimmed (i32.ne (i32.const 10)
        (i32.load8_u (i32.sub (i32.add (local.get $text) (local.get $len)) (i32.const 1)))))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $trim)))
  (call $make-utf8 (local.get $text) (i32.add (local.get $text) (local.get $len)))
  (i64.store (global.get $lent) (local.get $context))
  (call $log (local.get $level) (global.get $lent) (local.get $context-len) (local.get $text) (local.get $len)))

(func $is-tail (param $byte i32) (result i32)
  (i32.eq (i32.and (local.get $byte) (i32.const 0xc0)) (i32.const 0x80)))

;; Puts `?` for each byte that is no UTF-8: the host would end the plugin for it.
(func $make-utf8 (param $at i32) (param $end i32)
  (local $lead i32) (local $len i32) (local $i i32)
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $lead (i32.load8_u (local.get $at)))
      (local.set $len (i32.const 1))
      (block $good
        (br_if $good (i32.lt_u (local.get $lead) (i32.const 0x80)))
        (block $bad
          (br_if $bad (i32.lt_u (local.get $lead) (i32.const 0xc2)))
          (br_if $bad (i32.gt_u (local.get $lead) (i32.const 0xf4)))
          (local.set $len (i32.add (i32.const 2) (i32.add
            (i32.ge_u (local.get $lead) (i32.const 0xe0))
            (i32.ge_u (local.get $lead) (i32.const 0xf0)))))
          (br_if $bad (i32.gt_u (i32.add (local.get $at) (local.get $len)) (local.get $end)))
          (local.set $i (i32.const 1))
          (loop $tail
            (br_if $bad (i32.eqz (call $is-tail (i32.load8_u (i32.add (local.get $at) (local.get $i))))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $tail (i32.lt_u (local.get $i) (local.get $len))))
          ;; overlong forms, surrogates, beyond U+10FFFF
          (local.set $i (i32.load8_u (i32.add (local.get $at) (i32.const 1))))
          (br_if $bad (i32.and (i32.eq (local.get $lead) (i32.const 0xe0)) (i32.lt_u (local.get $i) (i32.const 0xa0))))
          (br_if $bad (i32.and (i32.eq (local.get $lead) (i32.const 0xed)) (i32.ge_u (local.get $i) (i32.const 0xa0))))
          (br_if $bad (i32.and (i32.eq (local.get $lead) (i32.const 0xf0)) (i32.lt_u (local.get $i) (i32.const 0x90))))
          (br_if $bad (i32.and (i32.eq (local.get $lead) (i32.const 0xf4)) (i32.ge_u (local.get $i) (i32.const 0x90))))
          (br $good))
        (i32.store8 (local.get $at) (i32.const 63))
        (local.set $len (i32.const 1)))
      (local.set $at (i32.add (local.get $at) (local.get $len)))
      (br $next))))

;; Adds to a buffer, and says how long it is now; what has no room is dropped.
(func $keep (param $buffer i32) (param $held i32) (param $from i32) (param $len i32) (result i32)
  (local $left i32)
  (local.set $left (i32.sub (global.get $room) (local.get $held)))
  (if (i32.gt_u (local.get $len) (local.get $left))
    (then (local.set $len (local.get $left))))
  (memory.copy (i32.add (local.get $buffer) (local.get $held)) (local.get $from) (local.get $len))
  (i32.add (local.get $held) (local.get $len)))

(func (export "fd_write") (param $fd i32) (param $iovs i32) (param $count i32) (param $written i32) (result i32)
  (local $from i32) (local $len i32) (local $all i32)
  (if (i32.eqz (call $is-output (local.get $fd))) (then (return (i32.const 8))))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      (local.set $from (i32.load (local.get $iovs)))
      (local.set $len (i32.load offset=4 (local.get $iovs)))
      (local.set $all (i32.add (local.get $all) (local.get $len)))
      (if (i32.eq (local.get $fd) (i32.const 1))
        (then
          (if (i32.gt_u (i32.add (global.get $output-len) (local.get $len)) (global.get $room))
            (then (call $flush-output)))
          (global.set $output-len
            (call $keep (call $output) (global.get $output-len) (local.get $from) (local.get $len))))
        (else
          (global.set $error-len
            (call $keep (call $error) (global.get $error-len) (local.get $from) (local.get $len)))
          (if (local.get $len) (then (call $hear-crash (local.get $from))))))
      (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
  (i32.store (local.get $written) (local.get $all))
  ;; whole lines go out at once
  (if (i32.and (i32.eq (local.get $fd) (i32.const 1)) (i32.ne (global.get $output-len) (i32.const 0)))
    (then
      (if (i32.eq (i32.const 10) (i32.load8_u (i32.sub
            (i32.add (call $output) (global.get $output-len)) (i32.const 1))))
        (then (call $flush-output)))))
  (i32.const 0))

;; Go as a library, and C at a failed assert(), do not exit when they crash: they trap. So
;; what they say is handed on as it comes: the message, and of Go also the first of the calls
;; that led there, whose places are lines that begin with a tab.
(func $hear-crash (param $from i32)
  (local $begins i64)
  (if (i32.eq (i32.load8_u (local.get $from)) (i32.const 9))
    (then (global.set $in-place (i32.const 1))))
  (if (i32.or (i32.lt_u (global.get $error-len) (i32.const 10)) (i32.ge_u (global.get $reports) (i32.const 8)))
    (then (return)))
  (if (i32.ne (i32.const 10) (i32.load8_u (i32.sub
        (i32.add (call $error) (global.get $error-len)) (i32.const 1))))
    (then (return)))
  ;; the end of a line: of the message, or of a place
  (if (i32.and (i32.ne (global.get $reports) (i32.const 0)) (i32.eqz (global.get $in-place)))
    (then (return)))
  (global.set $in-place (i32.const 0))
  (local.set $begins (i64.load (call $error)))
  (if (i32.or
        (i32.or
          (i64.eq (local.get $begins) (i64.const 0x7265206c61746166)) ;; "fatal er"
          (i64.eq (local.get $begins) (i64.const 0x3a656d69746e7572))) ;; "runtime:"
        (i32.or
          (i64.eq (local.get $begins) (i64.const 0x6f69747265737341)) ;; "Assertio"
          (i64.eq (i64.and (local.get $begins) (i64.const 0xffffffffffffff)) (i64.const 0x203a63696e6170)))) ;; "panic: "
    (then
      (global.set $reports (i32.add (global.get $reports) (i32.const 1)))
      (call $say (i32.const 5) (i64.const 0x63696e6170) (i32.const 5) ;; critical, "panic"
        (call $error) (global.get $error-len)))))

(func $is-output (param $fd i32) (result i32)
  (i32.or (i32.eq (local.get $fd) (i32.const 1)) (i32.eq (local.get $fd) (i32.const 2))))

;; Ends the instance. What was printed to standard error last says why.
(func (export "proc_exit") (param $code i32)
  (local $at i32) (local $unit i32)
  (if (global.get $lent)
    (then
      (call $flush-output)
      (if (i32.eqz (global.get $error-len))
        (then
          ;; "the plugin called exit(" in three parts, then the code
          (local.set $at (call $error))
          (i64.store (local.get $at) (i64.const 0x67756c7020656874))
          (i64.store offset=8 (local.get $at) (i64.const 0x656c6c6163206e69))
          (i64.store offset=16 (local.get $at) (i64.const 0x28746978652064))
          (local.set $at (i32.add (local.get $at) (i32.const 23)))
          (local.set $unit (i32.const 1000000000))
          (block $last
            (loop $skip
              (br_if $last (i32.ge_u (i32.div_u (local.get $code) (local.get $unit)) (i32.const 1)))
              (br_if $last (i32.eq (local.get $unit) (i32.const 1)))
              (local.set $unit (i32.div_u (local.get $unit) (i32.const 10)))
              (br $skip)))
          (loop $digit
            (i32.store8 (local.get $at) (i32.add (i32.const 48)
              (i32.rem_u (i32.div_u (local.get $code) (local.get $unit)) (i32.const 10))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $unit (i32.div_u (local.get $unit) (i32.const 10)))
            (br_if $digit (local.get $unit)))
          (i32.store8 (local.get $at) (i32.const 41))
          (global.set $error-len (i32.sub (i32.add (local.get $at) (i32.const 1)) (call $error)))))
      (call $say (i32.const 5) (i64.const 0x63696e6170) (i32.const 5) ;; critical, "panic"
        (call $error) (global.get $error-len))))
  (unreachable))

;; ---- what a program asks on its way up

(func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
(func (export "args_sizes_get") (param $count i32) (param $bytes i32) (result i32)
  (i32.store (local.get $count) (i32.const 0))
  (i32.store (local.get $bytes) (i32.const 0))
  (i32.const 0))
(func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))
(func (export "environ_sizes_get") (param $count i32) (param $bytes i32) (result i32)
  (i32.store (local.get $count) (i32.const 0))
  (i32.store (local.get $bytes) (i32.const 0))
  (i32.const 0))
(func (export "sched_yield") (result i32) (i32.const 0))

(func $is-standard (param $fd i32) (result i32) (i32.lt_u (local.get $fd) (i32.const 3)))
;; success for a standard stream, else "bad file descriptor"
(func $standard (param $fd i32) (result i32)
  (select (i32.const 0) (i32.const 8) (call $is-standard (local.get $fd))))

;; a character device that can be read and written, so that C prints line by line
(func (export "fd_fdstat_get") (param $fd i32) (param $stat i32) (result i32)
  (if (call $is-standard (local.get $fd))
    (then
      (i64.store (local.get $stat) (i64.const 2))
      (i64.store offset=8 (local.get $stat) (i64.const 66))
      (i64.store offset=16 (local.get $stat) (i64.const 0))))
  (call $standard (local.get $fd)))
(func (export "fd_fdstat_set_flags") (param $fd i32) (param i32) (result i32) (call $standard (local.get $fd)))
(func (export "fd_close") (param $fd i32) (result i32) (call $standard (local.get $fd)))
(func (export "fd_sync") (param $fd i32) (result i32) (call $standard (local.get $fd)))
(func (export "fd_datasync") (param $fd i32) (result i32) (call $standard (local.get $fd)))
;; input is empty
(func (export "fd_read") (param $fd i32) (param i32 i32) (param $read i32) (result i32)
  (i32.store (local.get $read) (i32.const 0))
  (select (i32.const 0) (i32.const 8) (i32.eqz (local.get $fd))))
;; a stream has no position
(func (export "fd_seek") (param $fd i32) (param i64 i32 i32) (result i32)
  (select (i32.const 70) (i32.const 8) (call $is-standard (local.get $fd))))
(func (export "fd_tell") (param $fd i32) (param i32) (result i32)
  (select (i32.const 70) (i32.const 8) (call $is-standard (local.get $fd))))

;; ---- no folder, no file, no socket: "bad file descriptor" for all of it

(func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
(func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
(func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
(func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
(func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
(func (export "fd_filestat_get") (param i32 i32) (result i32) (i32.const 8))
(func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
(func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
(func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
(func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
(func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
(func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
(func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8))
(func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
(func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 8))
(func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 8))
(func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
(func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 8))
(func (export "proc_raise") (param i32) (result i32) (unreachable))
