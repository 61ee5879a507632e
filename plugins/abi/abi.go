// Package abi is the contract between the plugin host and its guests, version 1:
// names, error codes and the batch frame. Host and guest both import it, so it
// imports nothing.
//
// # A guest
//
// A plugin is one core WebAssembly module, a reactor. It exports its memory as
// "memory" and
//
//	weir_abi() -> i32                    Version
//	weir_alloc(n i32) -> i32             the input region: n bytes, 0 when there is no room
//	weir_transform(ptr, len i32) -> i64  an output frame (see Pack), 0 for no output, < 0 for an error
//	weir_init(ptr, len i32) -> i32       optional: the configuration, JSON; not 0 refuses it
//	weir_error() -> i64                  optional: text of the last error, as ptr<<32|len
//
// and, when its language needs it, _initialize, which runs first. It may import
//
//	weir1.log(level, ptr, len i32)       a line for the plugin's log; slog's levels
//	weir1.log_enabled(level i32) -> i32  1 when such a line would be kept
//
// and WASI preview 1, which here has clocks, randomness and standard output
// (lines for the log), but no files, no arguments and no exit.
//
// The host asks weir_alloc for a region, fills it and calls weir_transform, again
// and again with the same region while it is large enough; when it is not, the
// host asks for a larger one and the guest may free the one before. A guest
// never sees two calls at once. What weir_transform returns stays the guest's and
// must stay intact until the next call of any export.
//
// # The batch frame
//
// A frame is a header, then one descriptor per record. All integers are little
// endian; a pointer is an address in the guest's memory. In the input frame the
// bytes pointed at follow the descriptors in the same region. In an output frame
// they may be anywhere, in the input as well: a guest that filters, routes or
// changes keys copies no payload.
//
//	header, 40 bytes                     descriptor, 48 bytes
//	 0 u32 size of header+descriptors     0 u32 key pointer
//	 4 u16 version, 1                     4 i32 key length, -1 for null
//	 6 u16 flags, 0                       8 u32 value pointer
//	 8 u32 count of descriptors          12 i32 value length, -1 for null
//	12 u32 partition of the input        16 u32 headers pointer
//	16 u16 topic, index of the input     20 u32 headers length, 0 for none
//	18 u16 0                             24 i64 timestamp, ms since 1970, -1 for none
//	20 u32 0                             32 u32 source: index of the input record
//	24 i64 offset of the first record    36 u16 topic, index in inputs or outputs
//	32 i64 now, ms since 1970            38 u16 flags
//	                                     40 i64 offset (input only)
//
// Headers are a block as in a Kafka record: a varint count, then per header a
// varint length and the key, a varint length (-1 for null) and the value.
//
// An output descriptor with FlagReject refuses its source record: its value is
// the reason, and the plugin's failure policy says what becomes of the record.
package abi

// Version is what weir_abi returns: major<<16 | minor.
const (
	Major   = 1
	Minor   = 0
	Version = Major<<16 | Minor
)

// The names both sides use.
const (
	ImportModule = "weir1"       // what a guest imports from
	Section      = "weir.plugin" // the custom section that holds the manifest

	ExportMemory     = "memory"
	ExportVersion    = "weir_abi"
	ExportAlloc      = "weir_alloc"
	ExportTransform  = "weir_transform"
	ExportInit       = "weir_init"
	ExportError      = "weir_error"
	ExportInitialize = "_initialize"

	ImportLog        = "log"
	ImportLogEnabled = "log_enabled"
	ImportFuel       = "fuel" // the host's own: a module that brings it is refused
)

// CodeFailed is the code a guest returns for an error that has no number of its own.
const CodeFailed = -1

// Pack makes the i64 that points at a region. Addresses are below 2 GiB, so it
// is never negative.
func Pack(ptr, size uint32) int64 { return int64(uint64(ptr)<<32 | uint64(size)) }

// Unpack is the inverse of Pack.
func Unpack(v int64) (ptr, size uint32) { return uint32(uint64(v) >> 32), uint32(uint64(v)) }

// Error is an error of this package.
type Error string

func (e Error) Error() string { return "plugin frame: " + string(e) }

// Errors of Open and Frame.Descriptor.
const (
	ErrOutside   = Error("the frame is not inside the guest's memory")
	ErrTruncated = Error("the frame is shorter than its count of descriptors needs")
	ErrVersion   = Error("the frame has another version")
	ErrFlags     = Error("the frame has unknown flags")
	ErrCount     = Error("the frame has more records than the host takes from one call")
	ErrKey       = Error("a key is not inside the guest's memory")
	ErrValue     = Error("a value is not inside the guest's memory")
	ErrHeaders   = Error("headers are not inside the guest's memory")
	ErrBlock     = Error("headers are not a block of Kafka headers")
	ErrTimestamp = Error("a timestamp is below -1")
	ErrLength    = Error("a length is below -1")
)
