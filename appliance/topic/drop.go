package topic

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
)

// GapSpec is the topic of gap records as Ensure makes it. It is bounded by size
// alone: gaps of years fit.
func GapSpec() Spec {
	return Spec{Partitions: 1, Internal: true, Configs: map[string]string{
		"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "16777216", "segment.bytes": "1048576"}}
}

// drop lets go of the oldest records of a partition. The new log start offset and
// the gap record that says so commit in one round of the write-ahead log: after a
// crash both are there or neither is, and the gap record is there once.
func (s *Set) drop(d dropped) error {
	if _, err := s.Ensure(record.GapTopic, GapSpec()); err != nil {
		return fmt.Errorf("gap records: %w", err)
	}
	gaps, err := s.Partition(record.TopicPartition{Topic: record.GapTopic})
	if err != nil {
		return fmt.Errorf("gap records: %w", err)
	}
	o := newOutcome()
	gap, err := s.stageDrop(&d, gaps, o)
	if err != nil || gap == nil {
		return err
	}
	if _, err := o.wait(context.Background()); err != nil {
		return err
	}
	d.p.topic.droppedRecords.Add(gap.Count)
	d.p.topic.droppedBytes.Add(gap.Bytes)
	s.opts.Log.Warn("the disk budget is used up: the oldest records went", slog.String("topic", gap.Topic), slog.Int("partition", int(gap.Partition)),
		slog.Int64("first", gap.FirstOffset), slog.Int64("last", gap.LastOffset), slog.Int64("bytes", gap.Bytes))
	if d.roll {
		s.wal.CatchUp() // only when the next segment has begun may the last one go
	}
	if err := d.p.log.RemoveBefore(d.end); err != nil {
		return fmt.Errorf("segments below the log start stay until the next boot: %w", err)
	}
	return nil
}

// stageDrop stages a drop and its gap record as one group. There is none of
// either if the records went by another way meanwhile.
func (s *Set) stageDrop(d *dropped, gaps *Partition, done record.Completion) (*record.Gap, error) {
	p := d.p
	locked := lockStaging([]*Partition{p, gaps})
	defer func() {
		for _, p := range locked {
			p.staging.Unlock()
		}
	}()
	for _, p := range locked {
		if err := p.Err(); err != nil {
			return nil, err
		}
	}
	if d.roll { // all that is staged goes, so that the next segment begins behind it
		if d.end = p.next; d.end > d.limit {
			return nil, p.stageRoll() // it can go another time
		}
	}
	from := max(p.from, p.start.Load())
	if d.end <= from {
		return nil, nil
	}
	gap := &record.Gap{Topic: p.tp.Topic, Partition: p.tp.Partition, FirstOffset: from, LastOffset: d.end - 1, Count: d.end - from,
		Bytes: d.bytes, Reason: record.GapDisk, Detail: p.topic.config().diskPolicy, Time: s.opts.Now().UTC()}
	b, err := gap.Batch()
	if err != nil {
		return nil, err
	}
	if err := s.wal.Begin(3, 2*entryOffsetLen+entryAppendLen+len(b)); err != nil {
		return nil, storageError(err)
	}
	if d.roll {
		p.putRoll()
	}
	p.putEntry(entryLogStart, d.end, nil)
	gaps.put(b, done)
	s.wal.End()
	return gap, nil
}

// stageRoll has a new segment begin where the log ends. The caller holds staging.
func (p *Partition) stageRoll() error {
	if err := p.set.wal.Begin(1, entryOffsetLen); err != nil {
		return storageError(err)
	}
	p.putRoll()
	p.set.wal.End()
	return nil
}

func (p *Partition) putRoll() {
	if p.at.Byte > 0 {
		p.at = commitlog.Position{Segment: p.next}
		p.putEntry(entryRoll, p.next, nil)
	}
}
