package fuel

import "fmt"

// reader reads the binary format. After an error all reads return zeros and pos
// stands at the end, so that loops come to theirs.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s (byte %d)", ErrInvalid, fmt.Sprintf(format, args...), r.pos)
	}
	r.pos = len(r.b)
}

func (r *reader) more() bool { return r.err == nil && r.pos < len(r.b) }

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail("it is cut short")
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) bytes(n uint32) []byte {
	if int64(n) > int64(len(r.b)-r.pos) {
		r.fail("%d bytes are said to follow, %d do", n, len(r.b)-r.pos)
		return nil
	}
	r.pos += int(n)
	return r.b[r.pos-int(n) : r.pos : r.pos]
}

// u32 reads an unsigned LEB128 of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		if shift == 28 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail("a number is longer than 32 bits")
	return 0
}

// leb skips a signed LEB128 of at most n bytes; whether its value fits is the engine's to check.
func (r *reader) leb(n int) {
	for range n {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail("a number is too long")
}

// count reads the number of things that follow. Each takes a byte at least.
func (r *reader) count(limit int, what string) uint32 {
	n := r.u32()
	if int64(n) > int64(limit) || int64(n) > int64(len(r.b)-r.pos) {
		r.fail("%d %s, the limit is %d", n, what, min(limit, len(r.b)-r.pos))
		return 0
	}
	return n
}

// limits reads the limits of a table or memory.
func (r *reader) limits() (lo, hi uint32, bounded bool) {
	flag := r.byte()
	if flag > 1 {
		r.fail("limits of kind %d are not supported", flag)
	}
	if lo = r.u32(); flag == 1 {
		return lo, r.u32(), true
	}
	return lo, 0, false
}

// rest is what has not been read; it reads it.
func (r *reader) rest() []byte {
	rest := r.b[r.pos:]
	r.pos = len(r.b)
	return rest
}

func appendU32(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendName(b []byte, name string) []byte {
	return append(appendU32(b, uint32(len(name))), name...)
}
