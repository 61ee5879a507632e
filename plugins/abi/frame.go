package abi

// Sizes of the parts of a frame, in bytes.
const (
	HeaderSize     = 40
	DescriptorSize = 48
)

// FrameVersion is the version in a frame's header.
const FrameVersion = 1

// FlagReject marks an output descriptor that refuses its source record.
const FlagReject = 1

// Header is the head of a frame.
type Header struct {
	Count      uint32
	Partition  uint32
	Topic      uint16
	BaseOffset int64
	NowMs      int64
}

// Descriptor is one record of a frame, by reference.
type Descriptor struct {
	KeyPtr     uint32
	KeyLen     int32 // -1: null
	ValuePtr   uint32
	ValueLen   int32 // -1: null
	HeadersPtr uint32
	HeadersLen uint32
	Timestamp  int64
	Source     uint32
	Topic      uint16
	Flags      uint16
	Offset     int64
}

// FrameSize is the size of a frame of count records without the bytes they point at.
func FrameSize(count int) int { return HeaderSize + count*DescriptorSize }

// PutHeader writes h to b, which must have HeaderSize bytes.
func PutHeader(b []byte, h *Header) {
	_ = b[HeaderSize-1]
	put32(b, HeaderSize+h.Count*DescriptorSize)
	put16(b[4:], FrameVersion)
	put16(b[6:], 0)
	put32(b[8:], h.Count)
	put32(b[12:], h.Partition)
	put16(b[16:], h.Topic)
	put16(b[18:], 0)
	put32(b[20:], 0)
	put64(b[24:], uint64(h.BaseOffset))
	put64(b[32:], uint64(h.NowMs))
}

// PutDescriptor writes d to b, which must have DescriptorSize bytes.
func PutDescriptor(b []byte, d *Descriptor) {
	_ = b[DescriptorSize-1]
	put32(b, d.KeyPtr)
	put32(b[4:], uint32(d.KeyLen))
	put32(b[8:], d.ValuePtr)
	put32(b[12:], uint32(d.ValueLen))
	put32(b[16:], d.HeadersPtr)
	put32(b[20:], d.HeadersLen)
	put64(b[24:], uint64(d.Timestamp))
	put32(b[32:], d.Source)
	put16(b[36:], d.Topic)
	put16(b[38:], d.Flags)
	put64(b[40:], uint64(d.Offset))
}

// ReadDescriptor reads the descriptor at the start of b without checking it.
func ReadDescriptor(b []byte, d *Descriptor) {
	_ = b[DescriptorSize-1]
	d.KeyPtr = get32(b)
	d.KeyLen = int32(get32(b[4:]))
	d.ValuePtr = get32(b[8:])
	d.ValueLen = int32(get32(b[12:]))
	d.HeadersPtr = get32(b[16:])
	d.HeadersLen = get32(b[20:])
	d.Timestamp = int64(get64(b[24:]))
	d.Source = get32(b[32:])
	d.Topic = get16(b[36:])
	d.Flags = get16(b[38:])
	d.Offset = int64(get64(b[40:]))
}

// Frame is a frame in a guest's memory, its header checked. It aliases the memory.
type Frame struct {
	Header
	memory      []byte
	descriptors []byte
}

// Open reads the frame of size bytes at ptr in memory. It checks everything but
// the descriptors, which Descriptor checks. Nothing is allocated on the word of the frame.
func Open(memory []byte, ptr, size uint32, maxRecords int) (Frame, error) {
	if uint64(ptr)+uint64(size) > uint64(len(memory)) {
		return Frame{}, ErrOutside
	}
	b := memory[ptr : uint64(ptr)+uint64(size)]
	if len(b) < HeaderSize {
		return Frame{}, ErrTruncated
	}
	if get16(b[4:]) != FrameVersion {
		return Frame{}, ErrVersion
	}
	if get16(b[6:]) != 0 {
		return Frame{}, ErrFlags
	}
	h := Header{
		Count:      get32(b[8:]),
		Partition:  get32(b[12:]),
		Topic:      get16(b[16:]),
		BaseOffset: int64(get64(b[24:])),
		NowMs:      int64(get64(b[32:])),
	}
	if uint64(h.Count) > uint64(maxRecords) {
		return Frame{}, ErrCount
	}
	need := HeaderSize + uint64(h.Count)*DescriptorSize
	if need > uint64(len(b)) || uint64(get32(b)) != need {
		return Frame{}, ErrTruncated
	}
	return Frame{Header: h, memory: memory, descriptors: b[HeaderSize:need]}, nil
}

// Descriptor reads record i into d and checks that all it points at lies in the
// guest's memory. It does not look at Source, Topic and Flags.
func (f *Frame) Descriptor(i int, d *Descriptor) error {
	ReadDescriptor(f.descriptors[i*DescriptorSize:], d)
	end := uint64(len(f.memory))
	switch {
	case d.KeyLen < -1 || d.ValueLen < -1:
		return ErrLength
	case d.KeyLen >= 0 && uint64(d.KeyPtr)+uint64(d.KeyLen) > end:
		return ErrKey
	case d.ValueLen >= 0 && uint64(d.ValuePtr)+uint64(d.ValueLen) > end:
		return ErrValue
	case uint64(d.HeadersPtr)+uint64(d.HeadersLen) > end:
		return ErrHeaders
	case d.Timestamp < -1:
		return ErrTimestamp
	}
	return nil
}

// Key is the key of a descriptor that Descriptor has checked; nil for null.
func (f *Frame) Key(d *Descriptor) []byte { return slice(f.memory, d.KeyPtr, d.KeyLen) }

// Value is the value of a descriptor that Descriptor has checked; nil for null.
func (f *Frame) Value(d *Descriptor) []byte { return slice(f.memory, d.ValuePtr, d.ValueLen) }

// Headers is the header block of a descriptor that Descriptor has checked, not
// itself checked; empty for none.
func (f *Frame) Headers(d *Descriptor) []byte {
	return slice(f.memory, d.HeadersPtr, int32(d.HeadersLen))
}

func slice(memory []byte, ptr uint32, size int32) []byte {
	if size < 0 {
		return nil
	}
	end := uint64(ptr) + uint64(size)
	return memory[ptr:end:end]
}

// CheckHeaders reports whether block is exactly one block of Kafka headers. What
// a guest hands back must be checked even if it came from the input: the guest
// could have written over it.
func CheckHeaders(block []byte) error {
	if len(block) == 1 && block[0] == 0 {
		return nil
	}
	count, rest, ok := varint(block)
	// A header takes two bytes at least.
	if !ok || count < 0 || count > int64(len(rest))/2 {
		return ErrBlock
	}
	for ; count > 0; count-- {
		var n int64
		if n, rest, ok = varint(rest); !ok || n < 0 || n > int64(len(rest)) {
			return ErrBlock
		}
		if n, rest, ok = varint(rest[n:]); !ok || n < -1 || n > int64(len(rest)) {
			return ErrBlock
		}
		rest = rest[max(n, 0):]
	}
	if len(rest) != 0 {
		return ErrBlock
	}
	return nil
}

// varint reads a zigzag varint of 64 bits, which are ten bytes at most.
func varint(b []byte) (v int64, rest []byte, ok bool) {
	var u uint64
	for i := 0; i < len(b) && i < 10; i++ {
		u |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if i == 9 && b[i] > 1 {
				break // more than 64 bits
			}
			return int64(u>>1) ^ -int64(u&1), b[i+1:], true
		}
	}
	return 0, nil, false
}

func put16(b []byte, v uint16) { _ = b[1]; b[0], b[1] = byte(v), byte(v>>8) }

func put32(b []byte, v uint32) {
	_ = b[3]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func put64(b []byte, v uint64) { put32(b, uint32(v)); put32(b[4:], uint32(v>>32)) }

func get16(b []byte) uint16 { _ = b[1]; return uint16(b[0]) | uint16(b[1])<<8 }

func get32(b []byte) uint32 {
	_ = b[3]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func get64(b []byte) uint64 { return uint64(get32(b)) | uint64(get32(b[4:]))<<32 }
