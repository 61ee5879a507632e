(module (import "weir1" "log" (func)))
