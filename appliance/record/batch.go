package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
)

// Batch is one encoded record batch, magic 2:
//
//	offset size
//	 0     8   base offset              set by the log, outside the CRC
//	 8     4   length of what follows
//	12     4   partition leader epoch   set by the log, outside the CRC
//	16     1   magic, 2
//	17     4   CRC-32C of all that follows
//	21     2   attributes: 0-2 codec, 3 timestamp type, 4 transactional, 5 control,
//	           6 the base timestamp is a delete horizon
//	23     4   last offset delta
//	27     8   base timestamp, ms
//	35     8   max timestamp, ms
//	43     8   producer id, -1 when not idempotent
//	51     2   producer epoch
//	53     4   base sequence
//	57     4   record count
//	61     …   records, compressed as a whole
//
// The accessors read without checking: call [Batch.Validate] or take the batch
// from [Batches.All] first.
type Batch []byte

const (
	// HeaderLen is the length of a batch that holds no records.
	HeaderLen = 61
	// PrefixLen is the part before the bytes that the length field counts.
	PrefixLen = 12

	crcStart = 21

	attrCodecMask     = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// NoProducerID marks a batch of a producer that is not idempotent, NoSequence one that
// is in no sequence: a marker.
const (
	NoProducerID = -1
	NoSequence   = -1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b Batch) BaseOffset() int64      { return int64(binary.BigEndian.Uint64(b[0:])) }
func (b Batch) LeaderEpoch() int32     { return int32(binary.BigEndian.Uint32(b[12:])) }
func (b Batch) Magic() int8            { return int8(b[16]) }
func (b Batch) CRC() uint32            { return binary.BigEndian.Uint32(b[17:]) }
func (b Batch) Attributes() int16      { return int16(binary.BigEndian.Uint16(b[21:])) }
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }
func (b Batch) BaseTimestamp() int64   { return int64(binary.BigEndian.Uint64(b[27:])) }
func (b Batch) MaxTimestamp() int64    { return int64(binary.BigEndian.Uint64(b[35:])) }
func (b Batch) ProducerID() int64      { return int64(binary.BigEndian.Uint64(b[43:])) }
func (b Batch) ProducerEpoch() int16   { return int16(binary.BigEndian.Uint16(b[51:])) }
func (b Batch) BaseSequence() int32    { return int32(binary.BigEndian.Uint32(b[53:])) }
func (b Batch) Count() int32           { return int32(binary.BigEndian.Uint32(b[57:])) }

// Len is the length of the whole batch by its header, in bytes.
func (b Batch) Len() int64 { return int64(binary.BigEndian.Uint32(b[8:])) + PrefixLen }

// LastOffset is the offset of the batch's last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset is the offset that follows the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// Codec is how the records are compressed.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodecMask) }

// Control reports whether the batch is a transaction marker, not data.
func (b Batch) Control() bool { return b.Attributes()&attrControl != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (b Batch) Transactional() bool { return b.Attributes()&attrTransactional != 0 }

// LogAppendTime reports whether timestamps are the broker's, not the producer's.
func (b Batch) LogAppendTime() bool { return b.Attributes()&attrLogAppendTime != 0 }

// DeleteHorizon is when tombstones of the batch may go, in ms: compaction sets it
// when it first meets them (KIP-534), in the place of the base timestamp.
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	return b.BaseTimestamp(), b.Attributes()&attrDeleteHorizon != 0
}

// Payload is the records section, compressed as the codec says.
func (b Batch) Payload() []byte { return b[HeaderLen:] }

// SetBaseOffset gives the batch its place in the log.
func (b Batch) SetBaseOffset(o int64) { binary.BigEndian.PutUint64(b[0:], uint64(o)) }

// SetLeaderEpoch notes under which leadership the batch was appended.
func (b Batch) SetLeaderEpoch(e int32) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// SetProducer makes the batch one of an idempotent producer, outside of transactions.
// Unlike the base offset this is inside the CRC, which is computed anew; the records
// are not touched.
func (b Batch) SetProducer(id int64, epoch int16, baseSequence int32) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()&^attrTransactional))
	b.setProducer(id, epoch, baseSequence)
}

// SetTransactional is SetProducer for a batch that is part of the producer's transaction.
func (b Batch) SetTransactional(id int64, epoch int16, baseSequence int32) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()|attrTransactional))
	b.setProducer(id, epoch, baseSequence)
}

func (b Batch) setProducer(id int64, epoch int16, baseSequence int32) {
	binary.BigEndian.PutUint64(b[43:], uint64(id))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(baseSequence))
	b.seal()
}

// SetLogAppendTime replaces the producer's timestamps by the broker's, in ms. The
// records are not touched: readers take the batch's max timestamp for all of them.
func (b Batch) SetLogAppendTime(ts int64) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes())|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[35:], uint64(ts))
	b.seal()
}

func (b Batch) seal() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[crcStart:], castagnoli)) }

// Validate checks structure and CRC: that b is exactly one intact batch. It does
// not decompress. The error wraps ErrCorrupt.
func (b Batch) Validate() error {
	if err := b.ValidateHeader(); err != nil {
		return err
	}
	if got := crc32.Checksum(b[crcStart:], castagnoli); got != b.CRC() {
		return fmt.Errorf("%w: crc is %08x, header says %08x", ErrCorrupt, got, b.CRC())
	}
	return nil
}

// ValidateHeader is Validate without the CRC.
func (b Batch) ValidateHeader() error {
	switch {
	case len(b) < HeaderLen:
		return fmt.Errorf("%w: %d bytes, a batch has at least %d", ErrCorrupt, len(b), HeaderLen)
	case b.Len() != int64(len(b)):
		return fmt.Errorf("%w: length field says %d, there are %d bytes", ErrCorrupt, b.Len(), len(b))
	case b.Magic() != 2:
		return fmt.Errorf("%w: magic %d, want 2", ErrCorrupt, b.Magic())
	case b.Count() < 0 || b.LastOffsetDelta() < 0 || int64(b.LastOffsetDelta())+1 < int64(b.Count()):
		return fmt.Errorf("%w: %d records but last offset delta %d", ErrCorrupt, b.Count(), b.LastOffsetDelta())
	}
	return nil
}

// Split cuts the first batch off raw. ok is false when raw does not start with a
// whole batch: it is empty, cut short, or its length is impossible.
func Split(raw []byte) (first Batch, rest []byte, ok bool) {
	if len(raw) < HeaderLen {
		return nil, raw, false
	}
	n := Batch(raw).Len()
	if n < HeaderLen || n > int64(len(raw)) {
		return nil, raw, false
	}
	return Batch(raw[:n:n]), raw[n:], true
}

// Batches is whole batches end to end, as they lie in a segment.
type Batches []byte

// All yields the batches in order; it stops at the first that is not whole.
func (bs Batches) All() iter.Seq[Batch] {
	return func(yield func(Batch) bool) {
		for rest := []byte(bs); ; {
			b, r, ok := Split(rest)
			if !ok || !yield(b) {
				return
			}
			rest = r
		}
	}
}
