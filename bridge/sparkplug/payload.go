package sparkplug

import "encoding/binary"

// payload is what the state of an edge node depends on. All else in a payload is the
// business of who reads the records.
type payload struct {
	timestamp uint64 // ms; 0: none
	seq       byte   // a payload without one has 0, which some encoders leave out
	bdSeq     uint64
	hasBdSeq  bool
}

// Field numbers of org.eclipse.tahu.protobuf.Payload and its Metric.
const (
	payloadTimestamp = 1
	payloadMetrics   = 2
	payloadSeq       = 3

	metricName  = 1
	metricType  = 4
	metricInt   = 10
	metricLong  = 11
	metricTruth = 14

	typeBoolean = 11 // of metricType
)

// bdSeqName and rebirthName are metrics that the specification names.
const (
	bdSeqName   = "bdSeq"
	rebirthName = "Node Control/Rebirth"
)

// decode reads a payload, once from end to end; the metrics only if it is a birth or a
// death certificate. ok is false if it is none of Sparkplug B.
func decode(b []byte, certificate bool) (p payload, ok bool) {
	for len(b) > 0 {
		var f field
		if f, b, ok = next(b); !ok {
			return payload{}, false
		}
		switch {
		case f.number == payloadTimestamp && f.wire == wireVarint:
			p.timestamp = f.value
		case f.number == payloadSeq && f.wire == wireVarint:
			if f.value > 255 { // [tck-id-payloads-sequence-num-always-included]
				return payload{}, false
			}
			p.seq = byte(f.value)
		case f.number == payloadMetrics && f.wire == wireBytes && certificate && !p.hasBdSeq:
			if p.bdSeq, p.hasBdSeq, ok = bdSeqOf(f.bytes); !ok {
				return payload{}, false
			}
		}
	}
	return p, true
}

// bdSeqOf reads a metric and returns its value if it is bdSeq.
func bdSeqOf(b []byte) (value uint64, is, ok bool) {
	for len(b) > 0 {
		var f field
		if f, b, ok = next(b); !ok {
			return 0, false, false
		}
		switch {
		case f.number == metricName && f.wire == wireBytes:
			if is = string(f.bytes) == bdSeqName; !is {
				return 0, false, true
			}
		case (f.number == metricLong || f.number == metricInt) && f.wire == wireVarint:
			value = f.value
		}
	}
	return value, is, true
}

// Wire types of Protocol Buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

type field struct {
	number uint64
	wire   byte
	value  uint64 // of wireVarint
	bytes  []byte // of wireBytes
}

// next reads one field of a message.
func next(b []byte) (f field, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, false
	}
	b = b[n:]
	f.number, f.wire = tag>>3, byte(tag&7)
	size := uint64(0)
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		return f, b[n:], true
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		if size, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		b = b[n:]
	default:
		return f, nil, false
	}
	if size > uint64(len(b)) {
		return f, nil, false
	}
	f.bytes = b[:size]
	return f, b[size:], true
}

// AppendRebirth appends the payload of an NCMD that asks an edge node for its birth
// certificates [tck-id-operational-behavior-data-commands-rebirth-value]. ms is the time.
func AppendRebirth(dst []byte, ms uint64) []byte {
	var metric []byte
	metric = append(metric, metricName<<3|wireBytes, byte(len(rebirthName)))
	metric = append(metric, rebirthName...)
	metric = append(metric, metricType<<3|wireVarint, typeBoolean, metricTruth<<3|wireVarint, 1)
	dst = binary.AppendUvarint(append(dst, payloadTimestamp<<3|wireVarint), ms)
	dst = append(dst, payloadMetrics<<3|wireBytes, byte(len(metric)))
	return append(dst, metric...)
}
