;; The smallest plugin: its output frame is its input frame.
(module
  (memory (export "memory") 1)
  (global $base i32 (i32.const 1024))
  (func (export "weir_abi") (result i32) (i32.const 0x10000))
  (func (export "weir_alloc") (param $n i32) (result i32)
    (local $need i32)
    (local.set $need (i32.add (i32.shr_u (i32.add (global.get $base) (local.get $n)) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $need) (memory.size))
      (then (if (i32.eq (memory.grow (i32.sub (local.get $need) (memory.size))) (i32.const -1))
        (then (return (i32.const 0))))))
    (global.get $base))
  (func (export "weir_transform") (param $ptr i32) (param $len i32) (result i64)
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
      (i64.load32_u (local.get $ptr)))))
