package topic

import (
	"context"
	"fmt"
	"slices"

	"github.com/weirmq/weir/appliance/record"
)

// Fetch implements record.Fetcher. The CRC of every batch is checked: these bytes
// go to plugins, the bridge and mirrors, not to a client that would check itself. Nor
// would they know what was aborted: it is left out, as are markers. Where nothing else
// is left, a batch without records takes the reader on.
func (s *Set) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	return s.await(ctx, tp, func(p *Partition) (record.Batches, error) {
		c, aborted, _, err := p.ReadCommitted(offset, maxBytes)
		out, err := p.load(c, err)
		return withoutAborted(out, aborted), err
	})
}

// ReadUncommitted is a Set whose Fetch leaves nothing out: what it returns may be
// undecided yet or aborted, and markers are among it. It is for who keeps account of
// transactions itself.
type ReadUncommitted struct{ *Set }

// Fetch implements record.Fetcher.
func (s ReadUncommitted) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	return s.await(ctx, tp, func(p *Partition) (record.Batches, error) { return p.load(p.Read(offset, maxBytes)) })
}

// await reads until there is something.
func (s *Set) await(ctx context.Context, tp record.TopicPartition, read func(*Partition) (record.Batches, error)) (record.Batches, error) {
	p, err := s.Partition(tp)
	if err != nil {
		return nil, err
	}
	out, err := read(p)
	if err != nil || len(out) > 0 {
		return out, err
	}
	ch := make(chan struct{}, 1)
	p.Watch(ch)
	defer p.Unwatch(ch)
	for {
		// Look again: the watermark may have moved before the watch began.
		if out, err = read(p); err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.Failed(): // also what is committed may not come to its place any more
			return nil, storageError(s.Err())
		case <-s.closing:
			return nil, record.ErrClosed
		}
	}
}

// load brings a section into memory, checked.
func (p *Partition) load(c Section, err error) (record.Batches, error) {
	if err != nil || c.Len() == 0 {
		return nil, err
	}
	defer c.Close()
	out, err := c.AppendTo(make(record.Batches, 0, c.Len()))
	if err != nil {
		return nil, err
	}
	for b := range record.Batches(out).All() {
		if err := b.Validate(); err != nil {
			return nil, fmt.Errorf("%s at offset %d: %w", p.tp, b.BaseOffset(), err)
		}
	}
	return out, nil
}

// withoutAborted takes out of batches, in their memory, markers and what was aborted.
func withoutAborted(bs record.Batches, aborted []AbortedTransaction) record.Batches {
	kept, at := 0, 0
	var out record.Batch // the first of those taken out since the last that was kept
	next := int64(0)
	for b := range bs.All() {
		at += len(b)
		if b.Control() || isAborted(b, aborted) {
			if out == nil {
				out = b
			}
			next = b.NextOffset()
			continue
		}
		if out = nil; kept+len(b) < at {
			copy(bs[kept:], b)
		}
		kept += len(b)
	}
	if out == nil {
		return bs[:kept]
	}
	return append(bs[:kept], record.Skip(out.BaseOffset(), next, out.LeaderEpoch())...)
}

func isAborted(b record.Batch, aborted []AbortedTransaction) bool {
	return b.Transactional() && slices.ContainsFunc(aborted, func(a AbortedTransaction) bool {
		return a.ProducerID == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() < a.Last
	})
}
