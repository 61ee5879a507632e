package sdk

import "unsafe"

// address is where b begins, as the host sees it.
func address(b []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}
