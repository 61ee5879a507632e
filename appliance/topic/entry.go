package topic

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
)

// What a partition writes to the write-ahead log, big endian:
//
//	kind (1), topic id (16), partition (4), then by kind
//	entryAppend    segment (8), byte in it (8), the batch with offset and epoch set
//	entryDuplicate base offset (8): a batch that is in the log already; changes nothing
//	entryLogStart  new log start offset (8)
//	entryRoll      base offset (8) of the segment that begins
//
// The place in the segment makes applying an entry deterministic, and twice the same as once.
const (
	entryAppend    = 1
	entryDuplicate = 2
	entryLogStart  = 3
	entryRoll      = 4

	entryHeadLen   = 1 + 16 + 4
	entryAppendLen = entryHeadLen + 16
	entryOffsetLen = entryHeadLen + 8
)

type entry struct {
	kind      byte
	id        ID
	partition int32
	offset    int64              // entryDuplicate, entryLogStart, entryRoll
	at        commitlog.Position // entryAppend
	batch     record.Batch       // entryAppend
}

func (p *Partition) putHead(b []byte, kind byte) {
	b[0] = kind
	copy(b[1:], p.topic.id[:])
	binary.BigEndian.PutUint32(b[17:], uint32(p.tp.Partition))
}

func putPosition(b []byte, at commitlog.Position) {
	binary.BigEndian.PutUint64(b[entryHeadLen:], uint64(at.Segment))
	binary.BigEndian.PutUint64(b[entryHeadLen+8:], uint64(at.Byte))
}

func putOffset(b []byte, offset int64) {
	binary.BigEndian.PutUint64(b[entryHeadLen:], uint64(offset))
}

// stageOffset stages an entry that carries an offset only. The caller holds staging.
func (p *Partition) stageOffset(kind byte, offset int64, tag any) error {
	if err := p.set.wal.Begin(1, entryOffsetLen); err != nil {
		return storageError(err)
	}
	p.putEntry(kind, offset, tag)
	p.set.wal.End()
	return nil
}

// putEntry adds an entry that carries an offset only to the open group. The caller
// holds staging, and has begun the group.
func (p *Partition) putEntry(kind byte, offset int64, tag any) {
	e := p.set.wal.Add(entryOffsetLen, p, tag)
	p.putHead(e, kind)
	putOffset(e, offset)
	if kind == entryLogStart {
		p.from = max(p.from, offset)
	}
}

func parseEntry(b []byte) (e entry, err error) {
	if len(b) < entryOffsetLen {
		return e, fmt.Errorf("topic: write-ahead entry of %d bytes", len(b))
	}
	e.kind, e.id, e.partition = b[0], ID(b[1:17]), int32(binary.BigEndian.Uint32(b[17:]))
	first := int64(binary.BigEndian.Uint64(b[entryHeadLen:]))
	switch e.kind {
	case entryDuplicate, entryLogStart, entryRoll:
		e.offset = first
		return e, nil
	case entryAppend:
		if len(b) < entryAppendLen+record.HeaderLen {
			return e, fmt.Errorf("topic: write-ahead entry holds no batch: %d bytes", len(b))
		}
		e.at = commitlog.Position{Segment: first, Byte: int64(binary.BigEndian.Uint64(b[entryHeadLen+8:]))}
		e.batch = record.Batch(b[entryAppendLen:])
		if e.at.Segment < 0 || e.at.Byte < 0 {
			return e, fmt.Errorf("topic: write-ahead entry for an impossible place %v", e.at)
		}
		return e, e.batch.ValidateHeader()
	}
	return e, fmt.Errorf("topic: write-ahead entry of unknown kind %d: was a newer version running here?", e.kind)
}
