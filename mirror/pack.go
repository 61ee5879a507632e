package mirror

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// A packer turns what was read from the source into wires. A batch that is
// large enough passes as it is, in the memory it was read into; runs of small
// ones become one. The zero value merges with no compression.
type packer struct {
	codec   record.Codec
	decoder record.Decoder
	builder record.Builder
	first   int64 // source offsets that the builder's records span
	next    int64
}

// errPack is a batch that cannot be read: the offsets it spans and why.
type errPack struct {
	first, next, bytes int64
	err                error
}

func (e *errPack) Error() string { return e.err.Error() }
func (e *errPack) Unwrap() error { return e.err }

// pack makes wires of the records in raw from offset from on, and says where
// to read on. On an *errPack the wires are what lies before the bad batch.
func (p *packer) pack(wires []wire, raw record.Batches, from int64) ([]wire, int64, error) {
	p.decoder.RawHeaders = true
	p.builder.Reset()
	for b := range raw.All() {
		next := b.NextOffset()
		if next <= from {
			continue
		}
		var err error
		wires, err = p.add(wires, b, from)
		if err != nil {
			bad := &errPack{first: max(from, b.BaseOffset()), next: max(next, from+1), bytes: int64(len(b)), err: err}
			wires, err = p.flush(wires)
			return wires, bad.first, errors.Join(bad, err)
		}
		from = next
	}
	wires, err := p.flush(wires)
	return wires, from, err
}

func (p *packer) add(wires []wire, b record.Batch, from int64) ([]wire, error) {
	// The producer identity is set under the CRC, so this is the last place
	// where a rotten batch can be told from a good one.
	if err := b.Validate(); err != nil {
		return wires, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	if b.Control() || b.Count() == 0 {
		return wires, nil
	}
	if !passes(b, from) {
		return p.merge(wires, b, from)
	}
	wires, err := p.flush(wires)
	if err != nil {
		return wires, err
	}
	x := wire{batch: b, count: int64(b.Count()), first: b.BaseOffset(), next: b.NextOffset()}
	b.SetBaseOffset(0) // or the target takes the batch apart to number it anew
	b.SetLeaderEpoch(-1)
	return append(wires, x), nil
}

// passes reports whether the target takes the batch as it is. Kafka refuses
// holes in offsets and timestamps said to be the broker's own; a transaction
// of the source means nothing at the target, and neither does a delete horizon.
func passes(b record.Batch, from int64) bool {
	if _, horizon := b.DeleteHorizon(); horizon {
		return false
	}
	return len(b) >= smallBatchBytes && b.BaseOffset() >= from && b.Count() == b.LastOffsetDelta()+1 &&
		!b.LogAppendTime() && !b.Transactional()
}

func (p *packer) merge(wires []wire, b record.Batch, from int64) ([]wire, error) {
	if p.builder.Len() > 0 && p.builder.Size()+len(b) > mergedBatchBytes {
		var err error
		if wires, err = p.flush(wires); err != nil {
			return wires, err
		}
	}
	if err := p.check(b); err != nil {
		return wires, err
	}
	if err := p.decoder.Reset(b); err != nil {
		return wires, err
	}
	var r record.Record
	for {
		ok, err := p.decoder.Next(&r)
		if err != nil || !ok {
			if p.builder.Len() > 0 {
				p.next = b.NextOffset()
			}
			return wires, err
		}
		if r.Offset < from {
			continue
		}
		if p.builder.Len() == 0 {
			p.first = r.Offset
		}
		p.builder.Add(&r)
		p.next = r.Offset + 1
		if p.builder.Size() >= mergedBatchBytes {
			if wires, err = p.flush(wires); err != nil {
				return wires, err
			}
		}
	}
}

// check reads the batch to its end first, so that a batch that does not decode
// is left out whole and never half.
func (p *packer) check(b record.Batch) error {
	if err := p.decoder.Reset(b); err != nil {
		return err
	}
	var r record.Record
	for {
		if ok, err := p.decoder.Next(&r); err != nil || !ok {
			return err
		}
	}
}

func (p *packer) flush(wires []wire) ([]wire, error) {
	if p.builder.Len() == 0 {
		return wires, nil
	}
	b, err := p.builder.Build(p.codec)
	if err != nil {
		return wires, err
	}
	w := wire{batch: bytes.Clone(b), count: int64(b.Count()), first: p.first, next: p.next}
	p.builder.Reset()
	return append(wires, w), nil
}

// split halves a wire of several records.
func (p *packer) split(x wire) ([]wire, error) {
	if x.count < 2 {
		return nil, fmt.Errorf("mirror: internal error: split of %d records", x.count)
	}
	p.decoder.RawHeaders = true
	if err := p.decoder.Reset(x.batch); err != nil {
		return nil, err
	}
	var out []wire
	var r record.Record
	p.builder.Reset()
	for i := int64(0); ; i++ {
		ok, err := p.decoder.Next(&r)
		if err != nil {
			return nil, err
		}
		if i == x.count/2 || !ok {
			if out, err = p.flush(out); err != nil {
				return nil, err
			}
		}
		if !ok {
			return out, nil
		}
		p.builder.Add(&r)
	}
}
