package mqtt

import (
	"context"
	"errors"

	"github.com/weirmq/weir/appliance/record"
)

// seeker reads single records again. It keeps its place in the last read, so that
// going forward through a partition decodes each batch once.
type seeker struct {
	feed *feed
	rest record.Batches // behind the batch at hand
	dec  record.Decoder
	open bool  // dec is in a batch
	next int64 // offset from which dec goes on
}

const seekBytes = 64 << 10

// find reads the message at an offset; false when it is not to be had any more.
func (k *seeker) find(ctx context.Context, f *feed, offset int64, m *message) (bool, error) {
	if k.feed == f && offset >= k.next {
		if found, ok, err := k.forward(offset, m); ok || err != nil {
			return found, err
		}
	}
	k.open = false
	start, end, err := f.srv.log.Offsets(f.tp)
	if errors.Is(err, record.ErrUnknownTopicOrPartition) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if f.gone.Load() || offset < start || offset >= end {
		return false, nil
	}
	bs, err := f.srv.log.Fetch(ctx, f.tp, offset, seekBytes)
	if errors.Is(err, record.ErrOffsetOutOfRange) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	k.feed, k.rest, k.dec, k.next = f, bs, record.Decoder{RawHeaders: true}, 0
	found, _, err := k.forward(offset, m)
	return found, err
}

// forward goes on to the record at offset; ok is false when what was read ends before.
func (k *seeker) forward(offset int64, m *message) (found, ok bool, err error) {
	var r record.Record
	for {
		for k.open {
			more, err := k.dec.Next(&r)
			if err != nil {
				k.open = false
				return false, false, err
			}
			if !more {
				k.open = false
				break
			}
			if k.next = r.Offset + 1; r.Offset == offset {
				return k.feed.read(&r, m), true, nil
			}
			if r.Offset > offset { // compacted away
				return false, true, nil
			}
		}
		opened := false
		for b := range k.rest.All() {
			k.rest = k.rest[len(b):]
			if b.NextOffset() <= offset || b.Control() {
				continue
			}
			if err := k.dec.Reset(b); err != nil {
				return false, false, err
			}
			k.open, opened = true, true
			break
		}
		if !opened {
			return false, false, nil
		}
	}
}
