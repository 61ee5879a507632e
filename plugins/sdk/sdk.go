// Package sdk is what a plugin written in Go imports. A plugin is a package main
// that registers its transform when it starts:
//
//	//go:build wasip1
//
//	package main
//
//	import "github.com/weirmq/weir/plugins/sdk"
//
//	func init() {
//		sdk.Transform(func(in *sdk.Record, out *sdk.Writer) error {
//			if len(in.Value) == 0 {
//				return errors.New("empty value")
//			}
//			out.Write(in)
//			return nil
//		})
//	}
//
//	func main() {}
//
// It is built with the stock toolchain, and its manifest is packed into it:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o plugin.wasm .
//	weir plugin pack plugin.wasm manifest.json
//
// A plugin has no files, no network and one goroutine that counts. Memory that
// outlives a call is lost when the host discards the instance, which it may do
// between any two calls: a plugin must not rely on it.
//
// encoding/json costs a plugin more than ten times what [Scanner] does.
package sdk

import (
	"fmt"

	"github.com/weirmq/weir/plugins/abi"
)

// Record is one record. What its slices point at is valid until the transform
// function returns.
type Record struct {
	Key, Value []byte // nil is Kafka's null
	Headers    []byte // a block of Kafka headers; nil for none
	Timestamp  int64  // ms since 1970
	Topic      int    // index among the manifest's inputs, or outputs
	Partition  int32  // of the input
	Offset     int64  // of the input
}

// Header returns the value of the first header with that key; ok is false when
// there is none.
func (r *Record) Header(key string) (value []byte, ok bool) {
	count, rest, ok := varint(r.Headers)
	for ; ok && count > 0; count-- {
		var name []byte
		if name, rest, ok = sized(rest); !ok {
			break
		}
		if value, rest, ok = sized(rest); ok && string(name) == key {
			return value, true
		}
	}
	return nil, false
}

// TransformFunc turns one record into none, one or more. An error rejects the
// record and undoes what was written for it: it goes where the plugin's failure
// policy says, with the error's text. So does a panic.
type TransformFunc func(in *Record, out *Writer) error

var (
	transform TransformFunc
	configure func(config []byte) error
)

// Transform registers the plugin's function. Call it from init.
func Transform(f TransformFunc) { transform = f }

// Configure registers a function that is given the configuration, a JSON object,
// before the first record. An error refuses it. Call Configure from init.
func Configure(f func(config []byte) error) { configure = f }

// Writer takes the records that a transform function makes.
type Writer struct {
	descriptors []byte // room for the header, then descriptors
	input       []byte // the region the host has filled
	source      uint32 // the input record that is being transformed
	chunks      [][]byte
	chunk       int // index of the chunk in use
}

// chunkBytes is the least that the Writer's memory grows by.
const chunkBytes = 64 << 10

// Write adds a record to output topic r.Topic. What points into the input is not
// copied; everything else is, so that buffers can be used again.
func (w *Writer) Write(r *Record) {
	d := abi.Descriptor{KeyLen: -1, ValueLen: -1, Timestamp: r.Timestamp, Topic: uint16(r.Topic)}
	if r.Key != nil {
		d.KeyPtr, d.KeyLen = w.place(r.Key), int32(len(r.Key))
	}
	if r.Value != nil {
		d.ValuePtr, d.ValueLen = w.place(r.Value), int32(len(r.Value))
	}
	if len(r.Headers) > 0 {
		d.HeadersPtr, d.HeadersLen = w.place(r.Headers), uint32(len(r.Headers))
	}
	w.add(&d)
}

func (w *Writer) reject(reason string) {
	d := abi.Descriptor{KeyLen: -1, ValuePtr: w.place([]byte(reason)), ValueLen: int32(len(reason)), Flags: abi.FlagReject}
	w.add(&d)
}

func (w *Writer) add(d *abi.Descriptor) {
	d.Source = w.source
	n := len(w.descriptors)
	w.descriptors = append(w.descriptors, blank[:]...)
	abi.PutDescriptor(w.descriptors[n:], d)
}

var blank [abi.DescriptorSize]byte

// place is the address of b, or of a copy of it that stays.
func (w *Writer) place(b []byte) uint32 {
	if len(b) == 0 {
		return 0
	}
	if a := address(b); len(w.input) > 0 {
		if start := address(w.input); a >= start && a+uint32(len(b)) <= start+uint32(len(w.input)) {
			return a
		}
	}
	for ; w.chunk < len(w.chunks); w.chunk++ {
		if c := w.chunks[w.chunk]; len(c)+len(b) <= cap(c) {
			break
		}
	}
	if w.chunk == len(w.chunks) {
		w.chunks = append(w.chunks, make([]byte, 0, max(chunkBytes, len(b))))
	}
	c := w.chunks[w.chunk]
	w.chunks[w.chunk] = append(c, b...)
	return address(w.chunks[w.chunk][len(c):])
}

func (w *Writer) reset(input []byte) {
	w.input, w.chunk = input, 0
	for i := range w.chunks {
		w.chunks[i] = w.chunks[i][:0]
	}
	if w.descriptors == nil {
		w.descriptors = make([]byte, abi.HeaderSize, abi.FrameSize(64))
	}
	w.descriptors = w.descriptors[:abi.HeaderSize]
}

// batch transforms all records of the frame at the start of input and returns
// the output frame, nil when there is no output.
func (w *Writer) batch(input []byte) ([]byte, error) {
	w.reset(input)
	frame, err := abi.Open(input, 0, frameSize(input), 1<<31-1)
	if err != nil {
		return nil, err
	}
	base := address(input)
	var d abi.Descriptor
	in := Record{Partition: int32(frame.Partition)}
	for i := range int(frame.Count) {
		abi.ReadDescriptor(input[abi.HeaderSize+i*abi.DescriptorSize:], &d)
		in.Key = within(input, d.KeyPtr-base, d.KeyLen)
		in.Value = within(input, d.ValuePtr-base, d.ValueLen)
		in.Headers = nil
		if d.HeadersLen > 0 {
			in.Headers = within(input, d.HeadersPtr-base, int32(d.HeadersLen))
		}
		in.Timestamp, in.Topic, in.Offset = d.Timestamp, int(d.Topic), d.Offset
		w.source = uint32(i)
		mark := len(w.descriptors)
		if err := one(&in, w); err != nil {
			w.descriptors = w.descriptors[:mark]
			w.reject(err.Error())
		}
	}
	count := (len(w.descriptors) - abi.HeaderSize) / abi.DescriptorSize
	if count == 0 {
		return nil, nil
	}
	abi.PutHeader(w.descriptors, &abi.Header{Count: uint32(count)})
	return w.descriptors, nil
}

// one transforms one record; a panic is its error.
func one(in *Record, w *Writer) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return transform(in, w)
}

func frameSize(input []byte) uint32 {
	if len(input) < 4 {
		return 0
	}
	return uint32(input[0]) | uint32(input[1])<<8 | uint32(input[2])<<16 | uint32(input[3])<<24
}

// within is a part of the input, nil when its length is -1. The host has made
// sure of the bounds.
func within(input []byte, at uint32, size int32) []byte {
	if size < 0 {
		return nil
	}
	if size == 0 {
		return input[:0:0]
	}
	return input[at : at+uint32(size) : at+uint32(size)]
}

// sized reads a varint length and that many bytes.
func sized(b []byte) (value, rest []byte, ok bool) {
	n, rest, ok := varint(b)
	if !ok || n > int64(len(rest)) {
		return nil, nil, false
	}
	if n < 0 {
		return nil, rest, true
	}
	return rest[:n:n], rest[n:], true
}

func varint(b []byte) (v int64, rest []byte, ok bool) {
	var u uint64
	for i := 0; i < len(b) && i < 10; i++ {
		u |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return int64(u>>1) ^ -int64(u&1), b[i+1:], true
		}
	}
	return 0, nil, false
}
