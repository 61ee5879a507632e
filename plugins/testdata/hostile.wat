;; A plugin that does what the first byte of each record's value says:
;;   L loops for ever            R recurses for ever         T traps
;;   G grows till it cannot      S grows a table likewise    M fills memory for ever
;;   H calls the host for ever   W writes lines for ever     Q wants to exit
;;   P a value beyond memory     N a length of -2            K a key at 2^32-1
;;   C a count of 2^31           F a frame beyond memory     V another frame version
;;   I a source beyond input     U an unknown flag           Z a topic beyond outputs
;;   B headers that are none     O 64 values of a MiB        E returns an error with text
;;   X rejects the record        all others pass.
(module
  (import "weir1" "log" (func $log (param i32 i32 i32)))
  (import "weir1" "log_enabled" (func $log_enabled (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 33)
  (table $t 1 funcref)
  ;; 0 scratch, 64 text, 4096 a frame of 64 records, 64 KiB a MiB for O, then the input
  (global $base i32 (i32.const 0x110000))
  (data (i32.const 64) "the record wants an error")
  (data (i32.const 128) "\7f\7f\7f")

  (func (export "weir_abi") (result i32) (i32.const 0x10000))
  (func (export "weir_error") (result i64) (i64.const 0x4000000019)) ;; 64<<32 | 25
  (func (export "weir_alloc") (param $n i32) (result i32)
    (local $need i32)
    (local.set $need (i32.add (i32.shr_u (i32.add (global.get $base) (local.get $n)) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $need) (memory.size))
      (then (if (i32.eq (memory.grow (i32.sub (local.get $need) (memory.size))) (i32.const -1))
        (then (return (i32.const 0))))))
    (global.get $base))

  (func $recurse (param $n i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get $n) (i32.const 1))) (i32.const 1)))

  (func $pack (param $ptr i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.load32_u (local.get $ptr))))

  ;; 64 descriptors that are copies of $d, with a value of a MiB each
  (func $huge (param $d i32) (result i64)
    (local $i i32) (local $o i32)
    (memory.copy (i32.const 4096) (global.get $base) (i32.const 40))
    (i32.store (i32.const 4096) (i32.const 3112)) ;; 40 + 64*48
    (i32.store (i32.const 4104) (i32.const 64))
    (local.set $o (i32.const 4136))
    (loop $next
      (memory.copy (local.get $o) (local.get $d) (i32.const 48))
      (i32.store offset=8 (local.get $o) (i32.const 0x10000))
      (i32.store offset=12 (local.get $o) (i32.const 0x100000))
      (local.set $o (i32.add (local.get $o) (i32.const 48)))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    (call $pack (i32.const 4096)))

  (func (export "weir_transform") (param $ptr i32) (param $len i32) (result i64)
    (local $d i32) (local $end i32) (local $c i32)
    (local.set $d (i32.add (local.get $ptr) (i32.const 40)))
    (local.set $end (i32.add (local.get $ptr) (i32.load (local.get $ptr))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (local.set $c (i32.const 0))
      (if (i32.gt_s (i32.load offset=12 (local.get $d)) (i32.const 0))
        (then (local.set $c (i32.load8_u (i32.load offset=8 (local.get $d))))))
      (if (i32.eq (local.get $c) (i32.const 76)) ;; L
        (then (loop $l (br $l))))
      (if (i32.eq (local.get $c) (i32.const 82)) ;; R
        (then (drop (call $recurse (i32.const 0)))))
      (if (i32.eq (local.get $c) (i32.const 84)) ;; T
        (then (unreachable)))
      (if (i32.eq (local.get $c) (i32.const 71)) ;; G
        (then (loop $g (br_if $g (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)))
      (if (i32.eq (local.get $c) (i32.const 83)) ;; S
        (then (loop $s (br_if $s (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)))
      (if (i32.eq (local.get $c) (i32.const 77)) ;; M
        (then (loop $m (memory.fill (i32.const 0x10000) (i32.const 1) (i32.const 0x100000)) (br $m))))
      (if (i32.eq (local.get $c) (i32.const 72)) ;; H
        (then (loop $h (drop (call $log_enabled (i32.const 0))) (br $h))))
      (if (i32.eq (local.get $c) (i32.const 87)) ;; W
        (then (loop $w (call $log (i32.const 0) (i32.const -64) (i32.const -1))
          (call $log (i32.const 0) (i32.const 64) (i32.const 25)) (br $w))))
      (if (i32.eq (local.get $c) (i32.const 81)) ;; Q
        (then (call $proc_exit (i32.const 3))))
      (if (i32.eq (local.get $c) (i32.const 80)) ;; P
        (then (i32.store offset=8 (local.get $d) (i32.const 0xffffff00)) (i32.store offset=12 (local.get $d) (i32.const 0x7fffffff))))
      (if (i32.eq (local.get $c) (i32.const 78)) ;; N
        (then (i32.store offset=12 (local.get $d) (i32.const -2))))
      (if (i32.eq (local.get $c) (i32.const 75)) ;; K
        (then (i32.store (local.get $d) (i32.const -1)) (i32.store offset=4 (local.get $d) (i32.const 1))))
      (if (i32.eq (local.get $c) (i32.const 67)) ;; C
        (then (i32.store offset=8 (local.get $ptr) (i32.const 0x80000000))))
      (if (i32.eq (local.get $c) (i32.const 70)) ;; F
        (then (return (i64.const 0x7fff0000_00001000))))
      (if (i32.eq (local.get $c) (i32.const 86)) ;; V
        (then (i32.store16 offset=4 (local.get $ptr) (i32.const 9))))
      (if (i32.eq (local.get $c) (i32.const 73)) ;; I
        (then (i32.store offset=32 (local.get $d) (i32.const 0x80000000))))
      (if (i32.eq (local.get $c) (i32.const 85)) ;; U
        (then (i32.store16 offset=38 (local.get $d) (i32.const 0x8000))))
      (if (i32.eq (local.get $c) (i32.const 90)) ;; Z
        (then (i32.store16 offset=36 (local.get $d) (i32.const 0xffff))))
      (if (i32.eq (local.get $c) (i32.const 66)) ;; B
        (then (i32.store offset=16 (local.get $d) (i32.const 128)) (i32.store offset=20 (local.get $d) (i32.const 3))))
      (if (i32.eq (local.get $c) (i32.const 79)) ;; O
        (then (return (call $huge (local.get $d)))))
      (if (i32.eq (local.get $c) (i32.const 69)) ;; E
        (then (return (i64.const -7))))
      (if (i32.eq (local.get $c) (i32.const 88)) ;; X
        (then (i32.store16 offset=38 (local.get $d) (i32.const 1))))
      (local.set $d (i32.add (local.get $d) (i32.const 48)))
      (br $next)))
    (call $pack (local.get $ptr))))
