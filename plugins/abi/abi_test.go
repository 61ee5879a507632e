package abi_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins/abi"
)

func TestDescriptorRoundTrip(t *testing.T) {
	want := abi.Descriptor{KeyPtr: 1, KeyLen: -1, ValuePtr: 0xfffffffe, ValueLen: 0x7fffffff, HeadersPtr: 5, HeadersLen: 6,
		Timestamp: -7, Source: 8, Topic: 0xffff, Flags: abi.FlagReject, Offset: 1 << 62}
	var b [abi.DescriptorSize]byte
	abi.PutDescriptor(b[:], &want)
	var got abi.Descriptor
	abi.ReadDescriptor(b[:], &got)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if string(b[:4]) != "\x01\x00\x00\x00" || binary.LittleEndian.Uint16(b[36:]) != 0xffff || binary.LittleEndian.Uint64(b[40:]) != 1<<62 {
		t.Errorf("the layout is not the documented one: %x", b)
	}
}

func TestPack(t *testing.T) {
	if v := abi.Pack(0x7fffffff, 0xffffffff); v < 0 {
		t.Errorf("packed %d", v)
	}
	if ptr, size := abi.Unpack(abi.Pack(7, 9)); ptr != 7 || size != 9 {
		t.Errorf("unpacked %d, %d", ptr, size)
	}
}

// frame is a memory with a frame of one record at 8.
func frame(change func(memory []byte, d *abi.Descriptor)) []byte {
	memory := make([]byte, 256)
	abi.PutHeader(memory[8:], &abi.Header{Count: 1, Partition: 3, Topic: 2, BaseOffset: 77, NowMs: 99})
	d := abi.Descriptor{KeyPtr: 200, KeyLen: 10, ValuePtr: 246, ValueLen: 10, HeadersPtr: 256, HeadersLen: 0}
	change(memory, &d)
	abi.PutDescriptor(memory[8+abi.HeaderSize:], &d)
	return memory
}

func TestOpen(t *testing.T) {
	size := uint32(abi.FrameSize(1))
	for name, c := range map[string]struct {
		change    func(memory []byte, d *abi.Descriptor)
		ptr, size uint32
		want      error
	}{
		"good": {func([]byte, *abi.Descriptor) {}, 8, size, nil},
		"nulls": {func(_ []byte, d *abi.Descriptor) {
			d.KeyLen, d.KeyPtr, d.ValueLen, d.ValuePtr = -1, ^uint32(0), -1, ^uint32(0)
		}, 8, size, nil},
		"outside":     {func([]byte, *abi.Descriptor) {}, 200, size, abi.ErrOutside},
		"far outside": {func([]byte, *abi.Descriptor) {}, 0xffffffff, 0xffffffff, abi.ErrOutside},
		"no header":   {func([]byte, *abi.Descriptor) {}, 8, 39, abi.ErrTruncated},
		"cut short":   {func([]byte, *abi.Descriptor) {}, 8, size - 1, abi.ErrTruncated},
		"size":        {func(m []byte, _ *abi.Descriptor) { m[8]++ }, 8, size, abi.ErrTruncated},
		"version":     {func(m []byte, _ *abi.Descriptor) { m[12]++ }, 8, size, abi.ErrVersion},
		"flags":       {func(m []byte, _ *abi.Descriptor) { m[14]++ }, 8, size, abi.ErrFlags},
		"count":       {func(m []byte, _ *abi.Descriptor) { m[19] = 0x80 }, 8, size, abi.ErrCount},
		"key":         {func(_ []byte, d *abi.Descriptor) { d.KeyPtr = 247 }, 8, size, abi.ErrKey},
		"value":       {func(_ []byte, d *abi.Descriptor) { d.ValuePtr, d.ValueLen = 0xffffffff, 0x7fffffff }, 8, size, abi.ErrValue},
		"headers":     {func(_ []byte, d *abi.Descriptor) { d.HeadersLen = 1 }, 8, size, abi.ErrHeaders},
		"length":      {func(_ []byte, d *abi.Descriptor) { d.KeyLen = -2 }, 8, size, abi.ErrLength},
		"timestamp":   {func(_ []byte, d *abi.Descriptor) { d.Timestamp = -2 }, 8, size, abi.ErrTimestamp},
	} {
		f, err := abi.Open(frame(c.change), c.ptr, c.size, 100)
		var d abi.Descriptor
		if err == nil {
			err = f.Descriptor(0, &d)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && (f.Partition != 3 || f.Topic != 2 || f.BaseOffset != 77 || f.NowMs != 99) {
			t.Errorf("%s: header %+v", name, f.Header)
		}
	}
}

// A memory full of anything: Open and Descriptor never let a caller reach outside it.
func FuzzFrame(f *testing.F) {
	f.Add(frame(func([]byte, *abi.Descriptor) {}), uint32(8), uint32(88))
	f.Add([]byte{}, uint32(0xffffffff), uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, memory []byte, ptr, size uint32) {
		frame, err := abi.Open(memory, ptr, size, 1000)
		if err != nil {
			return
		}
		var d abi.Descriptor
		for i := range int(frame.Count) {
			if frame.Descriptor(i, &d) == nil {
				_, _ = frame.Key(&d), frame.Value(&d)
				_ = abi.CheckHeaders(frame.Headers(&d))
			}
		}
	})
}

// A block that CheckHeaders passes is one that a record can have.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{4, 2, 'a', 1, 2, 'b', 4, 'x', 'y'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, block []byte) {
		ok := abi.CheckHeaders(block) == nil
		if len(block) == 0 {
			return
		}
		b, err := record.NewBatch(record.None, record.Record{Key: []byte("k"), HeaderBlock: block})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Records(); (err == nil) != ok {
			t.Errorf("CheckHeaders says %v, the record says %v", ok, err)
		}
	})
}
