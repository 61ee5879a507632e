package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/wal"
)

// outcome is a completion that somebody waits for.
type outcome struct {
	base int64
	err  error
	done chan struct{}
}

func newOutcome() *outcome { return &outcome{done: make(chan struct{})} }

func (o *outcome) Complete(base int64, err error) {
	o.base, o.err = base, err
	close(o.done)
}

func (o *outcome) wait(ctx context.Context) (int64, error) {
	select {
	case <-o.done:
		return o.base, o.err
	case <-ctx.Done():
		return -1, ctx.Err() // it may be committed all the same
	}
}

// Append implements record.Appender. When ctx ends first the batch may or may not
// be committed.
func (s *Set) Append(ctx context.Context, tp record.TopicPartition, b record.Batch) (int64, error) {
	o := newOutcome()
	s.AppendAsync(tp, b, o)
	return o.wait(ctx)
}

// AppendAsync implements record.AsyncAppender.
func (s *Set) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	p, err := s.Partition(tp)
	if err != nil {
		done.Complete(-1, err)
		return
	}
	p.Append(b, done)
}

// AppendAtomic implements record.AtomicAppender: the writes are one group of the
// write-ahead log, so one round holds them all. Writes to one partition keep
// their order. Batches of idempotent producers are not accepted here.
func (s *Set) AppendAtomic(ctx context.Context, writes []record.Write) error {
	if len(writes) == 0 {
		return nil
	}
	o := newOutcome()
	group := make([]record.AsyncWrite, len(writes))
	for i, w := range writes {
		group[i].Write = w
	}
	group[len(group)-1].Done = o
	if err := s.stageGroup(group); err != nil {
		return err
	}
	_, err := o.wait(ctx)
	return err
}

// AppendGroup implements record.AsyncAtomicAppender.
func (s *Set) AppendGroup(writes []record.AsyncWrite) {
	if err := s.stageGroup(writes); err != nil {
		for _, w := range writes {
			if w.Done != nil {
				w.Done.Complete(-1, err)
			}
		}
	}
}

func (s *Set) stageGroup(writes []record.AsyncWrite) error {
	into := make([]*Partition, len(writes))
	bytes := 0
	for i, w := range writes {
		p, err := s.Partition(w.TopicPartition)
		if err != nil {
			return err
		}
		if err := p.check(w.Batch); err != nil {
			return fmt.Errorf("%s: %w", w.TopicPartition, err)
		}
		if w.Batch.ProducerID() != record.NoProducerID {
			return fmt.Errorf("%w: %s: an atomic append takes no batch of an idempotent producer", record.ErrInvalidRecord, w.TopicPartition)
		}
		into[i], bytes = p, bytes+entryAppendLen+len(w.Batch)
	}
	locked := lockStaging(into)
	defer func() {
		for _, p := range locked {
			p.staging.Unlock()
		}
	}()
	for _, p := range locked {
		if err := p.Err(); err != nil {
			return err
		}
	}
	internal := !slices.ContainsFunc(locked, func(p *Partition) bool { return !p.topic.internal })
	if err := s.space.take(bytes, internal); err != nil {
		for _, p := range locked {
			p.topic.noteRefused(err)
		}
		return err
	}
	if err := s.wal.Begin(len(writes), bytes); err != nil {
		return storageError(err)
	}
	for i, w := range writes {
		var tag any
		if w.Done != nil {
			tag = w.Done
		}
		into[i].put(w.Batch, tag)
	}
	s.wal.End()
	return nil
}

// lockStaging locks each partition once, in an order that all callers share.
func lockStaging(ps []*Partition) []*Partition {
	locked := slices.Clone(ps)
	slices.SortFunc(locked, func(a, b *Partition) int {
		return cmp.Or(cmp.Compare(a.tp.Topic, b.tp.Topic), slices.Compare(a.topic.id[:], b.topic.id[:]), cmp.Compare(a.tp.Partition, b.tp.Partition))
	})
	locked = slices.Compact(locked)
	for _, p := range locked {
		p.staging.Lock()
	}
	return locked
}

// storageError turns the write-ahead log's errors into those of package record.
func storageError(err error) error {
	if errors.Is(err, wal.ErrClosed) {
		return record.ErrClosed
	}
	if errors.Is(err, wal.ErrTooLarge) {
		return fmt.Errorf("%w: %w", record.ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", record.ErrStorage, err)
}
