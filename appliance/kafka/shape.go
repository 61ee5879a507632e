package kafka

import "fmt"

// A shape says what the body of a request is made of. The general decoder makes room
// for as many elements as an array claims, as soon as that many bytes are left, and
// an element in memory is far larger than a byte. So a request that may be large is
// walked by its shape first, which takes no memory: what the decoder then makes room
// for is there. Requests of at most maxAdminFrame do without.
type shape []field

type kind int8

const (
	num8 kind = iota
	num16
	num32
	num64
	uuid
	str  // nullable or not, compact if flexible
	blob // likewise
	array
)

// maxTags bounds the tagged fields of one structure that are not known here: the
// decoder keeps them.
const maxTags = 64

// field is one field of a structure and the versions that have it.
type field struct {
	kind     kind
	min, max int16
	of       shape // of an array
	plain    bool  // an array's elements are values, not structures with tags
}

const anyVersion = int16(1<<15 - 1)

func (k kind) since(v int16) field          { return field{kind: k, min: v, max: anyVersion} }
func (k kind) between(min, max int16) field { return field{kind: k, min: min, max: max} }

func list(of ...field) field {
	return field{kind: array, max: anyVersion, of: of}
}

// values is a list of plain values.
func values(k kind) field {
	return field{kind: array, max: anyVersion, of: always(k), plain: true}
}

func (f field) since(v int16) field          { f.min = v; return f }
func (f field) between(min, max int16) field { f.min, f.max = min, max; return f }

// always are fields of every version.
func always(kinds ...kind) (s shape) {
	for _, k := range kinds {
		s = append(s, k.since(0))
	}
	return s
}

// shapes is by API key.
var shapes = [maxKey + 1]shape{
	listOffsetsKey: append(always(num32), num8.since(2),
		list(str.since(0), list(num32.since(0), num32.since(4), num64.since(0))), num32.since(10)),
	metadataKey: {list(uuid.since(10), str.since(0)), num8.since(4), num8.between(8, 10), num8.since(8)},
	offsetCommitKey: {str.since(0), num32.since(1), str.since(1), str.since(7), num64.between(2, 4),
		list(str.between(0, 9), uuid.since(10), list(num32.since(0), num64.since(0), num32.since(6), str.since(0)))},
	offsetFetchKey: {str.between(0, 7), list(str.since(0), values(num32)).between(0, 7),
		list(str.since(0), str.since(9), num32.since(9), list(str.between(8, 9), uuid.since(10), values(num32))).since(8), num8.since(7)},
	joinGroupKey: {str.since(0), num32.since(0), num32.since(1), str.since(0), str.since(5), str.since(0),
		list(str.since(0), blob.since(0)), str.since(8)},
	heartbeatKey:          append(always(str, num32, str), str.since(3)),
	leaveGroupKey:         {str.since(0), str.between(0, 2), list(str.since(0), str.since(0), str.since(5)).since(3)},
	syncGroupKey:          append(always(str, num32, str), str.since(3), str.since(5), str.since(5), list(str.since(0), blob.since(0))),
	addPartitionsToTxnKey: append(always(str, num64, num16), list(str.since(0), values(num32))),
	txnOffsetCommitKey: append(always(str, str, num64, num16), num32.since(3), str.since(3), str.since(3),
		list(str.since(0), list(num32.since(0), num64.since(0), num32.since(2), str.since(0)))),
	consumerGroupHeartbeatKey: {str.since(0), str.since(0), num32.since(0), str.since(0), str.since(0), num32.since(0),
		values(str), str.since(1), str.since(0), list(uuid.since(0), values(num32))},
	offsetForLeaderEpochKey: {num32.since(3), list(str.since(0), list(num32.since(0), num32.since(2), num32.since(0)))},
}

// checkShape reports a body that is not what its shape says, or whose arrays have more
// elements together. One with more after it is the decoder's business.
func checkShape(key, version int16, body []byte, maxElements int) error {
	s := shapes[key]
	if s == nil {
		return nil
	}
	w := walker{reader: reader{b: body, flexible: isFlexible(key, version)}, version: version, most: maxElements}
	if w.walk(s); w.bad {
		return fmt.Errorf("an array or a string is longer than the request, or all arrays have more than %d elements (max.request.elements)", maxElements)
	}
	return nil
}

type walker struct {
	reader
	version  int16
	elements int
	most     int
}

func (w *walker) walk(s shape) {
	for i := range s {
		if f := &s[i]; w.version >= f.min && w.version <= f.max {
			w.field(f)
		}
		if w.bad {
			return
		}
	}
	if !w.flexible {
		return
	}
	n := w.uvarint()
	if w.bad = w.bad || n > maxTags; w.bad {
		return
	}
	for ; n > 0; n-- {
		w.uvarint()
		w.span(w.uvarint())
	}
}

func (w *walker) field(f *field) {
	switch f.kind {
	case num8:
		w.span(1)
	case num16:
		w.span(2)
	case num32:
		w.span(4)
	case num64:
		w.span(8)
	case uuid:
		w.span(16)
	case str:
		w.nullableString()
	case blob:
		w.nullableBytes()
	case array:
		w.array(f)
	}
}

func (w *walker) array(f *field) {
	n := w.arrayLen()
	if w.elements += n; w.elements > w.most {
		w.bad = true
	}
	for ; n > 0 && !w.bad; n-- {
		if f.plain {
			w.field(&f.of[0])
		} else {
			w.walk(f.of)
		}
	}
}
