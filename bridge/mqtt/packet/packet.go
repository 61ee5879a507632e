// Package packet is the control packets of MQTT 3.1.1 and 5.0, as pure bytes: it
// knows no socket and no clock.
//
// [Split] cuts one packet off a stream and refuses a length over the limit before
// anything is allocated for it. Each packet type then has Decode, which checks all
// that the standard demands of one packet by itself, and Append, which encodes.
// A decoded packet is views into the bytes given; whoever keeps one longer than
// those bytes must copy. Decode reuses the memory of the packet it fills, so that a
// connection that decodes into one Publish allocates nothing.
//
// Clauses are named by their numbers in MQTT 5.0 ([MQTT-3.3.1-2]); 3.1.1 says the
// same under a nearby number.
package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Version is the protocol level of CONNECT.
type Version byte

const (
	V311 Version = 4
	V5   Version = 5
)

// Type is the control packet type, the high nibble of the first byte.
type Type byte

const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15
)

var typeNames = [...]string{"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
	"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// String returns the standard's name, in capitals.
func (t Type) String() string { return typeNames[t&15] }

// MaxRemainingLength is the largest length that the four length bytes can say.
const MaxRemainingLength = 268_435_455

// Error is why a packet is refused: the reason code that an MQTT 5 peer is told,
// the clause that the packet breaks, and what was found.
type Error struct {
	Reason Reason
	Clause string
	Text   string
}

func (e *Error) Error() string {
	if e.Clause == "" {
		return e.Text
	}
	return e.Text + " [" + e.Clause + "]"
}

func malformed(clause, format string, args ...any) error {
	return &Error{Reason: MalformedPacket, Clause: clause, Text: fmt.Sprintf(format, args...)}
}

func violation(clause, format string, args ...any) error {
	return &Error{Reason: ProtocolError, Clause: clause, Text: fmt.Sprintf(format, args...)}
}

// Frame is one control packet whose inside is not decoded yet.
type Frame struct {
	Type  Type
	Flags byte   // low nibble of the first byte
	Body  []byte // what the remaining length counts; a view
}

// Split cuts the first control packet off buf. The frame is whole when
// 0 < n <= len(buf); n is then its length. Otherwise more bytes are needed: n in
// all, or a number not known yet when n is 0. A packet longer than maxBytes, the
// fixed header included, is refused as soon as its length can be read.
func Split(buf []byte, maxBytes int) (f Frame, n int, err error) {
	if len(buf) == 0 {
		return f, 0, nil
	}
	f.Type, f.Flags = Type(buf[0]>>4), buf[0]&0x0f
	if err := checkFlags(f); err != nil {
		return f, 0, err
	}
	length, size, err := uvarint(buf[1:])
	if err != nil || size == 0 {
		return f, 0, err
	}
	if n = 1 + size + int(length); n > maxBytes {
		return f, 0, &Error{Reason: PacketTooLarge, Clause: "MQTT-3.1.2-24", Text: fmt.Sprintf("%s of %d bytes, the limit is %d", f.Type, n, maxBytes)}
	}
	if n <= len(buf) {
		f.Body = buf[1+size : n : n]
	}
	return f, n, nil
}

// checkFlags holds the first byte against table 2-2 of the standard.
func checkFlags(f Frame) error {
	want := byte(0)
	switch f.Type {
	case 0:
		return malformed("", "packet type 0 is reserved")
	case TypePublish:
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		want = 2
	}
	if f.Flags != want {
		return malformed("MQTT-2.1.3-1", "%s with flags %04b, they must be %04b", f.Type, f.Flags, want)
	}
	return nil
}

// uvarint reads a variable byte integer; size 0 means that src is cut short.
func uvarint(src []byte) (v uint32, size int, err error) {
	for i := 0; i < 4; i++ {
		if i == len(src) {
			return 0, 0, nil
		}
		v |= uint32(src[i]&0x7f) << (7 * i)
		if src[i] < 0x80 {
			if i > 0 && src[i] == 0 {
				return 0, 0, malformed("MQTT-1.5.5-1", "variable byte integer not in its shortest form")
			}
			return v, i + 1, nil
		}
	}
	return 0, 0, malformed("MQTT-1.5.5-1", "variable byte integer of more than four bytes")
}

func appendUvarint(dst []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

func uvarintLen(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

// reader takes fields off a body. After the first fault every read returns zero
// and err says what was wrong.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

var errShort = &Error{Reason: MalformedPacket, Text: "packet cut short"}

func (r *reader) u8() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) uvarint() uint32 {
	v, n, err := uvarint(r.b)
	if err != nil {
		r.fail(err)
		return 0
	}
	if n == 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// binary reads a two-byte length and that many bytes; never nil unless it failed.
func (r *reader) binary() []byte { return r.take(int(r.u16())) }

// str reads a UTF-8 string and holds it to the two rules that a server must check.
func (r *reader) str() []byte {
	v := r.binary()
	if err := CheckString(v); err != nil {
		r.fail(err)
	}
	return v
}

// packetID reads a packet identifier, which is never zero.
func (r *reader) packetID() uint16 {
	id := r.u16()
	if id == 0 && r.err == nil {
		r.fail(violation("MQTT-2.2.1-3", "packet identifier 0"))
	}
	return id
}

// end makes bytes that are left over a fault.
func (r *reader) end(t Type) error {
	if r.err == nil && len(r.b) != 0 {
		return malformed("", "%d bytes after the end of %s", len(r.b), t)
	}
	return r.err
}

// CheckString reports a string that is not well-formed UTF-8 or holds U+0000.
func CheckString(s []byte) error {
	if !utf8.Valid(s) {
		return malformed("MQTT-1.5.4-1", "string is not well-formed UTF-8")
	}
	if bytes.IndexByte(s, 0) >= 0 {
		return malformed("MQTT-1.5.4-2", "string holds the character U+0000")
	}
	return nil
}

func appendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendFixed starts a packet whose body has the given length.
func appendFixed(dst []byte, t Type, flags byte, bodyLen int) []byte {
	return appendUvarint(append(dst, byte(t)<<4|flags), uint32(bodyLen))
}
