package record

import (
	"encoding/binary"
	"fmt"
)

// A marker ends a producer's transaction in one partition: a control batch with one
// record, whose key says how, as Kafka writes it. Only the log writes them.
//
//	key    version (2), 0; type (2): 0 abort, 1 commit
//	value  version (2), 0; coordinator epoch (4)
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	Commit           bool
	CoordinatorEpoch int32
}

// MarkerLen bounds the length of a marker's batch, in bytes.
const MarkerLen = HeaderLen + 64

const (
	controlAbort  = 0
	controlCommit = 1
)

// NewMarker encodes a marker. now is in ms.
func NewMarker(m Marker, now int64) Batch {
	key, kind := make([]byte, 4), uint16(controlAbort)
	if m.Commit {
		kind = controlCommit
	}
	binary.BigEndian.PutUint16(key[2:], kind)
	value := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(m.CoordinatorEpoch))
	w := Builder{}
	w.Add(&Record{Timestamp: now, Key: key, Value: value})
	b, err := w.Build(None)
	if err != nil {
		panic("record: internal error: " + err.Error()) // nothing is compressed
	}
	binary.BigEndian.PutUint16(b[21:], attrTransactional|attrControl)
	b.setProducer(m.ProducerID, m.ProducerEpoch, NoSequence)
	return b
}

// Marker reads the marker that a control batch is. ok is false for control batches of
// other kinds, and for one of which compaction has left the header alone.
func (b Batch) Marker() (m Marker, ok bool, err error) {
	if !b.Control() || b.Count() == 0 {
		return m, false, nil
	}
	var d Decoder
	var r Record
	if err := d.Reset(b); err != nil {
		return m, false, err
	}
	if more, err := d.Next(&r); err != nil || !more {
		return m, false, fmt.Errorf("%w: control batch at offset %d holds no record", ErrCorrupt, b.BaseOffset())
	}
	if len(r.Key) < 4 || len(r.Value) < 6 {
		return m, false, fmt.Errorf("%w: control batch at offset %d: key of %d bytes, value of %d", ErrCorrupt, b.BaseOffset(), len(r.Key), len(r.Value))
	}
	kind := binary.BigEndian.Uint16(r.Key[2:])
	m = Marker{b.ProducerID(), b.ProducerEpoch(), kind == controlCommit, int32(binary.BigEndian.Uint32(r.Value[2:]))}
	return m, kind == controlAbort || kind == controlCommit, nil
}
