;; What features.wat imports.
(module
  (global (export "seven") i32 (i32.const 7))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
