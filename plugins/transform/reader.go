package transform

import (
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// reader takes the records out of fetched batches, some at a time. Records alias
// the fetched bytes or, of compressed batches, a decoder's memory, so each
// compressed batch of one fill has a decoder of its own.
type reader struct {
	raw      []byte
	open     bool // a decoder is inside a batch: between fills it is decoder 0
	packed   bool // the decoder in use holds records in memory of its own
	end      int64
	decoders []*record.Decoder
	bytes    int // of records in the last fill
}

const (
	maxDecoders = 16
	// maxRetained is how many bytes of one fill let its decoders keep their memory.
	maxRetained = 4 << 20
)

func (r *reader) reset(raw record.Batches) {
	r.raw, r.open = raw, false
	if r.bytes > maxRetained {
		r.decoders = nil
	}
}

// empty reports whether all has been taken out.
func (r *reader) empty() bool { return !r.open && len(r.raw) == 0 }

// fill appends records from pos on to dst, until there are maxRecords or maxBytes
// of them, and returns the position that follows them. The CRCs are the Log's to check.
func (r *reader) fill(dst []record.Record, pos int64, maxRecords, maxBytes int) ([]record.Record, int64, error) {
	used := 0 // index of the decoder in use
	r.bytes = 0
	r.packed = r.packed && r.open
	for len(dst) < maxRecords && r.bytes < maxBytes {
		if !r.open {
			if len(r.raw) == 0 || r.packed && used+1 == maxDecoders {
				break
			}
			if r.packed {
				used++
			}
			if err := r.next(used, pos); err != nil {
				return dst, pos, err
			}
			if !r.open {
				pos = max(pos, r.end)
				continue
			}
		}
		if len(dst) == cap(dst) {
			dst = append(dst, record.Record{})[:len(dst)]
		}
		rec := &dst[:len(dst)+1][len(dst)]
		ok, err := r.decoders[used].Next(rec)
		switch {
		case err != nil:
			return dst, pos, err
		case !ok:
			r.open, pos = false, max(pos, r.end)
		case rec.Offset >= pos:
			pos = rec.Offset + 1
			dst = dst[:len(dst)+1]
			r.bytes += len(rec.Key) + len(rec.Value) + len(rec.HeaderBlock)
		}
	}
	// The batch in progress goes on with decoder 0 at the next fill.
	if used > 0 {
		r.decoders[0], r.decoders[used] = r.decoders[used], r.decoders[0]
	}
	return dst, pos, nil
}

// next opens the next batch that has data at pos or after it, if it has any.
func (r *reader) next(decoder int, pos int64) error {
	b, rest, ok := record.Split(r.raw)
	if !ok {
		r.raw = nil
		return fmt.Errorf("%w: fetched bytes end inside a batch", record.ErrCorrupt)
	}
	r.raw, r.packed = rest, false
	if err := b.ValidateHeader(); err != nil {
		return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	if r.end = b.NextOffset(); b.Control() || r.end <= pos {
		return nil
	}
	for decoder >= len(r.decoders) {
		r.decoders = append(r.decoders, &record.Decoder{RawHeaders: true})
	}
	if err := r.decoders[decoder].Reset(b); err != nil {
		return err
	}
	r.open, r.packed = true, b.Codec() != record.None
	return nil
}
