(module (import "weir1" "fuel" (func (result i32))))
