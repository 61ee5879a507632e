//go:build wasip1

package sdk

import (
	"unsafe"

	"github.com/weirmq/weir/plugins/abi"
)

// The memory the host sees. It stays reachable until the call that replaces it.
var (
	region []byte
	writer Writer
	failed string
)

//go:wasmexport weir_abi
func weirABI() uint32 { return abi.Version }

//go:wasmexport weir_alloc
func weirAlloc(n uint32) uint32 {
	region = make([]byte, max(n, 1))
	return address(region)
}

//go:wasmexport weir_init
func weirInit(_, n uint32) int32 {
	if configure == nil {
		return 0
	}
	if err := configure(region[:n]); err != nil {
		failed = err.Error()
		return abi.CodeFailed
	}
	return 0
}

//go:wasmexport weir_transform
func weirTransform(_, n uint32) int64 {
	if transform == nil {
		failed = "the plugin has not called sdk.Transform"
		return abi.CodeFailed
	}
	frame, err := writer.batch(region[:n])
	if err != nil {
		failed = err.Error()
		return abi.CodeFailed
	}
	if frame == nil {
		return 0
	}
	return abi.Pack(address(frame), uint32(len(frame)))
}

//go:wasmexport weir_error
func weirError() int64 {
	text := unsafe.Slice(unsafe.StringData(failed), len(failed))
	return abi.Pack(address(text), uint32(len(text)))
}

//go:wasmimport weir1 log
func hostLog(level int32, text unsafe.Pointer, n uint32)

//go:wasmimport weir1 log_enabled
func hostLogEnabled(level int32) uint32

// Levels of Log, as log/slog has them.
const (
	LevelDebug = -4
	LevelInfo  = 0
	LevelWarn  = 4
	LevelError = 8
)

// Log writes a line to the plugin's log. The host keeps the first 1024 bytes.
func Log(level int, text string) {
	if len(text) > 0 && hostLogEnabled(int32(level)) != 0 {
		hostLog(int32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
	}
}
