package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Filter takes records out of batches, as compaction does. What the batch says of
// itself stays: base offset and last offset delta, leader epoch, producer with
// epoch and sequence, codec, timestamp type; and each record that stays keeps its
// offset, timestamp, key, value and headers. The zero value is ready to use; it
// is not safe for concurrent use.
type Filter struct {
	decoder Decoder
	record  Record
	keep    []bool
	plain   []byte // the batch to be, uncompressed
	packed  []byte
}

// NoHorizon is no delete horizon.
const NoHorizon = -1

// Filtered is what a Filter made of a batch.
type Filtered struct {
	// Batch is the batch given, untouched and in its own memory, if it keeps all its
	// records. Otherwise it is valid until the next call; with no records left it is
	// a header alone.
	Batch Batch
	// Kept and Removed count records; Tombstones are those kept that have no value, or
	// are a transaction's marker: they go by the delete horizon.
	Kept, Removed, Tombstones int
}

// Apply keeps the records for which keep is true. The record is valid until keep
// returns, and has HeaderBlock only.
//
// horizon, unless it is NoHorizon, is set as the batch's delete horizon (KIP-534)
// if a record that stays is a tombstone or a marker: it takes the place of the base timestamp,
// in ms, and the records' own timestamps do not change. A horizon that the batch
// has is replaced.
//
// The error wraps ErrCorrupt or ErrTooLarge for a batch that cannot be decoded.
func (f *Filter) Apply(b Batch, horizon int64, keep func(r *Record) bool) (Filtered, error) {
	out := Filtered{Batch: b}
	f.decoder.RawHeaders = true
	if err := f.decoder.Reset(b); err != nil {
		return out, err
	}
	plain := f.decoder.rest
	f.keep = f.keep[:0]
	for {
		r := &f.record
		more, err := f.decoder.Next(r)
		if err != nil {
			return out, err
		}
		if !more {
			break
		}
		kept := keep(r)
		f.keep = append(f.keep, kept)
		switch {
		case !kept:
			out.Removed++
		case r.Value == nil || b.Control():
			out.Tombstones++
			fallthrough
		default:
			out.Kept++
		}
	}
	if out.Tombstones == 0 {
		horizon = NoHorizon
	}
	if out.Removed == 0 && horizon == NoHorizon {
		return out, nil
	}
	if out.Kept == 0 {
		out.Batch = f.empty(b)
		return out, nil
	}
	var err error
	out.Batch, err = f.build(b, plain, horizon)
	return out, err
}

// build makes the batch of the records to keep.
func (f *Filter) build(b Batch, plain []byte, horizon int64) (Batch, error) {
	base := b.BaseTimestamp()
	if horizon != NoHorizon {
		base = horizon
	}
	f.plain = append(f.plain[:0], b[:HeaderLen]...)
	count, maxTS := int32(0), int64(math.MinInt64)
	for _, keep := range f.keep {
		size, n := binary.Varint(plain)
		body := plain[n : n+int(size)]
		plain = plain[n+int(size):]
		if !keep {
			continue
		}
		delta, n := binary.Varint(body[1:])
		ts := b.BaseTimestamp() + delta
		f.plain = appendRecord(f.plain, body, n, ts-base)
		count, maxTS = count+1, max(maxTS, ts)
	}
	out := Batch(f.plain)
	if c := b.Codec(); c != None {
		packed, err := c.compress(append(f.packed[:0], f.plain[:HeaderLen]...), f.plain[HeaderLen:])
		if err != nil {
			return nil, fmt.Errorf("record: compress what is left of the batch at offset %d: %w", b.BaseOffset(), err)
		}
		f.packed, out = packed, packed
	}
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-PrefixLen))
	if horizon != NoHorizon {
		binary.BigEndian.PutUint16(out[21:], uint16(b.Attributes())|attrDeleteHorizon)
		binary.BigEndian.PutUint64(out[27:], uint64(horizon))
	}
	if !b.LogAppendTime() { // the broker's time holds for all records, whichever are left
		binary.BigEndian.PutUint64(out[35:], uint64(maxTS))
	}
	binary.BigEndian.PutUint32(out[57:], uint32(count))
	out.seal()
	return out, nil
}

// appendRecord appends a record with another timestamp delta; n is the length of
// the one it has.
func appendRecord(dst, body []byte, n int, delta int64) []byte {
	size := len(body) - n + varintLen(delta)
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, body[0])
	dst = binary.AppendVarint(dst, delta)
	return append(dst, body[1+n:]...)
}

// empty is the header of b with no records behind it, as Kafka leaves it: the
// offsets and the producer's sequence numbers stay taken.
func (f *Filter) empty(b Batch) Batch {
	f.plain = append(f.plain[:0], b[:HeaderLen]...)
	out := Batch(f.plain)
	binary.BigEndian.PutUint32(out[8:], HeaderLen-PrefixLen)
	binary.BigEndian.PutUint16(out[21:], uint16(b.Attributes())&^(attrCodecMask|attrDeleteHorizon))
	binary.BigEndian.PutUint64(out[27:], math.MaxUint64) // no timestamp
	binary.BigEndian.PutUint32(out[57:], 0)
	out.seal()
	return out
}

// Skip is a batch without records that stands for the offsets from first up to before
// next, or for as many as a batch can: readers go on behind it.
func Skip(first, next int64, leaderEpoch int32) Batch {
	b := make(Batch, HeaderLen)
	b.SetBaseOffset(first)
	binary.BigEndian.PutUint32(b[8:], HeaderLen-PrefixLen)
	b.SetLeaderEpoch(leaderEpoch)
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(min(next-first-1, math.MaxInt32)))
	binary.BigEndian.PutUint64(b[27:], math.MaxUint64) // no timestamp
	binary.BigEndian.PutUint64(b[35:], math.MaxUint64)
	b.SetProducer(NoProducerID, -1, -1)
	return b
}
