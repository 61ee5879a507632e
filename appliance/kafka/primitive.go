package kafka

import (
	"encoding/binary"
	"math"
)

// reader walks over Kafka's primitive types without copying. After a read that
// runs over the end bad is set and all further reads return zeros. flexible
// selects KIP-482's compact forms.
type reader struct {
	b        []byte
	flexible bool
	bad      bool
}

func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) int8() int8 {
	if s := r.span(1); s != nil {
		return int8(s[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if s := r.span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (r *reader) int32() int32 {
	if s := r.span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

func (r *reader) int64() int64 {
	if s := r.span(8); s != nil {
		return int64(binary.BigEndian.Uint64(s))
	}
	return 0
}

func (r *reader) uvarint() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt32 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// arrayLen reads an array's length; null is 0. An element takes a byte at least, so
// a length beyond what is left is malformed.
func (r *reader) arrayLen() int {
	var n int
	if r.flexible {
		n = r.uvarint() - 1
	} else {
		n = int(r.int32())
	}
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return 0
	}
	return max(n, 0)
}

// nullableString returns nil for null, which it also does for a bad one.
func (r *reader) nullableString() []byte {
	if r.flexible {
		return r.sized(r.uvarint() - 1)
	}
	return r.sized(int(r.int16()))
}

func (r *reader) nullableBytes() []byte {
	if r.flexible {
		return r.sized(r.uvarint() - 1)
	}
	return r.sized(int(r.int32()))
}

func (r *reader) sized(n int) []byte {
	if n == -1 || r.bad {
		return nil
	}
	return r.span(n)
}

// tags skips tagged fields, which only flexible versions have.
func (r *reader) tags() {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.span(r.uvarint())
	}
}

// encoder appends Kafka's primitive types.
type encoder struct {
	b        []byte
	flexible bool
}

func (e *encoder) int16(v int16) { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)) }
func (e *encoder) int32(v int32) { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) int64(v int64) { e.b = binary.BigEndian.AppendUint64(e.b, uint64(v)) }

// arrayLen appends the length of an array, or with -1 a null one.
func (e *encoder) arrayLen(n int) { e.bytesLen(n) }

// bytesLen appends the length of bytes that follow.
func (e *encoder) bytesLen(n int) {
	if e.flexible {
		e.b = binary.AppendUvarint(e.b, uint64(n+1))
		return
	}
	e.int32(int32(n))
}

func (e *encoder) string(s string) {
	s = s[:min(len(s), math.MaxInt16)]
	if e.flexible {
		e.b = binary.AppendUvarint(e.b, uint64(len(s)+1))
	} else {
		e.int16(int16(len(s)))
	}
	e.b = append(e.b, s...)
}

func (e *encoder) nullableString(s *string) {
	switch {
	case s != nil:
		e.string(*s)
	case e.flexible:
		e.b = append(e.b, 0)
	default:
		e.int16(-1)
	}
}

func (e *encoder) tags() {
	if e.flexible {
		e.b = append(e.b, 0)
	}
}
