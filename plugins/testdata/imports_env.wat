(module (import "env" "open" (func)))
