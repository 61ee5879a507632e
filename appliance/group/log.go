package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// TopicName is the topic of committed offsets and group metadata.
const TopicName = "__consumer_offsets"

// TopicPartition is where the records of groups go: the topic has one partition.
var TopicPartition = record.TopicPartition{Topic: TopicName}

const (
	fetchBytes = 1 << 20
	// maxBatchBytes bounds one append: a commit, a group's metadata, a piece of a
	// snapshot. The topic's max.message.bytes is the same.
	maxBatchBytes = 4 << 20
	// snapshotBatchBytes is the size of a snapshot's batches.
	snapshotBatchBytes = 256 << 10
	// retryPause is how long the follower rests after a read that failed.
	retryPause = time.Second
)

// Log is what the coordinator needs of the broker's log, of transactions that are not
// decided as well; topic.ReadUncommitted is one.
type Log interface {
	record.AsyncAppender
	record.Fetcher
}

// Partition is what the coordinator needs of __consumer_offsets-0; *topic.Partition is one.
type Partition interface {
	LogStartOffset() int64
	HighWatermark() int64
	DeleteRecords(before int64) (logStart int64, err error)
	// Err is why the partition cannot be used, nil while it can.
	Err() error
	// Lost lists the records that the disk has not kept.
	Lost() []topic.Lost
}

// EnsureTopic returns the partition of __consumer_offsets, after creating the
// topic if there is none.
func EnsureTopic(s *topic.Set) (*topic.Partition, error) {
	t, err := s.Ensure(TopicName, topic.Spec{Partitions: 1, Internal: true, Configs: map[string]string{
		"cleanup.policy":    "compact",
		"segment.bytes":     "8388608",
		"max.message.bytes": fmt.Sprint(maxBatchBytes),
	}})
	if err != nil {
		return nil, fmt.Errorf("group: topic %s: %w", TopicName, err)
	}
	if n := len(t.Partitions()); n != 1 {
		return nil, fmt.Errorf("group: topic %s has %d partitions, the coordinator keeps all groups in one; delete the topic or restore it with one partition", TopicName, n)
	}
	return t.Partitions()[0], nil
}

// offsetsLog is __consumer_offsets and the table that follows from it.
type offsetsLog struct {
	log    Log
	part   Partition
	logger *slog.Logger
	table  *table

	snapshotAfter int64 // bytes
	sinceSnapshot int64 // bytes applied; the follower's own
	snapshotBytes int64 // size of the last snapshot; the follower's own

	mu      sync.Mutex
	applied int64         // every record below is in the table
	err     error         // why applied does not move, nil when it does
	moved   chan struct{} // closed at each change of applied or err

	unreadable atomic.Int64 // records
	snapshots  atomic.Int64

	// down is why the log could not be read at open; nothing works then. Groups
	// that seem to have no offsets would send their consumers back to the start.
	down error

	cancel context.CancelFunc
	ended  chan struct{}
}

// openLog reads the log from its start to the high watermark, then follows it. A
// log that cannot be read is returned too: it refuses everything, with the reason.
func openLog(o *Options) *offsetsLog {
	l := &offsetsLog{
		log: o.Log, part: o.Partition, logger: o.Logger, table: newTable(),
		snapshotAfter: o.SnapshotBytes, moved: make(chan struct{}), ended: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	end := l.part.HighWatermark()
	l.applied = l.part.LogStartOffset()
	l.table.copiesEnd = end // a snapshot may have been cut short anywhere
	err := l.part.Err()
	for err == nil && l.applied < end {
		err = l.followOnce(ctx)
	}
	if err != nil {
		l.down = fmt.Errorf("%w: read %s at offset %d: %w", ErrCoordinatorNotAvailable, TopicPartition, l.applied, err)
		l.err = l.down
		close(l.ended)
		return l
	}
	if n := l.lost(); n > 0 {
		l.logger.Error("records of the offsets topic were lost: some groups may go on from an older commit, or from none", "partition", TopicPartition.String(), "records", n)
	}
	go l.follow(ctx)
	return l
}

// lost is how many records the disk has not kept.
func (l *offsetsLog) lost() (n int64) {
	if l.part == nil {
		return 0
	}
	for _, g := range l.part.Lost() {
		n += g.Last - g.First + 1
	}
	return n
}

func (l *offsetsLog) close() {
	l.cancel()
	<-l.ended
}

// follow applies what is appended, by whomever, until close.
func (l *offsetsLog) follow(ctx context.Context) {
	defer close(l.ended)
	for {
		l.maybeSnapshot()
		err := l.followOnce(ctx)
		switch {
		case ctx.Err() != nil:
			l.stall(ErrCoordinatorNotAvailable)
			return
		case err != nil:
			l.logger.Error("cannot read the offsets topic, trying again", "partition", TopicPartition.String(), "offset", l.applied, "err", err)
			l.stall(fmt.Errorf("%w: read %s: %w", ErrCoordinatorNotAvailable, TopicPartition, err))
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
}

// followOnce waits for records after those applied, and applies them.
func (l *offsetsLog) followOnce(ctx context.Context) error {
	next := l.applied
	bs, err := l.log.Fetch(ctx, TopicPartition, next, fetchBytes)
	if errors.Is(err, record.ErrCorrupt) {
		bs, err = l.log.Fetch(ctx, TopicPartition, next, 1) // what is good before the damage, batch by batch
	}
	switch start := l.part.LogStartOffset(); {
	case errors.Is(err, record.ErrCorrupt):
		// The other offsets are worth more than a stop: who lost a commit reads again.
		l.ignored(next, err)
		next++
	case errors.Is(err, record.ErrOffsetOutOfRange) && start > next:
		l.logger.Warn("offsets topic was cut by somebody else", "partition", TopicPartition.String(), "from", next, "to", start)
		next = start
	case err != nil:
		return err
	}
	l.table.mu.Lock()
	for b := range bs.All() {
		if err := l.applyBatch(b); err != nil {
			l.ignored(b.BaseOffset(), err)
		}
		next = max(next+1, b.NextOffset()) // a damaged header must not hold us here
		l.sinceSnapshot += int64(len(b))
	}
	l.table.forgetDead(next)
	l.table.mu.Unlock()
	l.advance(next, nil)
	return nil
}

func (l *offsetsLog) ignored(offset int64, err error) {
	l.unreadable.Add(1)
	l.logger.Error("record of the offsets topic ignored", "partition", TopicPartition.String(), "offset", offset, "err", err)
}

// applyBatch applies all records that it can and returns the first error.
func (l *offsetsLog) applyBatch(b record.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if b.Control() {
		return l.table.applyMarker(b)
	}
	var d record.Decoder
	if err := d.Reset(b); err != nil {
		return err
	}
	var first error
	for {
		var r record.Record
		ok, err := d.Next(&r)
		if ok && err == nil {
			if b.Transactional() {
				err = l.table.hold(b.ProducerID(), &r)
			} else {
				err = l.table.apply(&r)
			}
		}
		if err != nil && first == nil {
			first = err
		}
		if !ok {
			return first
		}
	}
}

func (l *offsetsLog) advance(to int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applied, l.err = to, err
	close(l.moved)
	l.moved = make(chan struct{})
}

// stall tells those who wait that applied does not move.
func (l *offsetsLog) stall(err error) { l.advance(l.applied, err) }

// awaitApplied returns once every record below end is in the table.
func (l *offsetsLog) awaitApplied(end int64) error {
	for {
		l.mu.Lock()
		applied, err, moved := l.applied, l.err, l.moved
		l.mu.Unlock()
		if applied >= end {
			return nil
		}
		if err != nil {
			return err
		}
		<-moved
	}
}

// catchUp waits until everything committed by now is in the table.
func (l *offsetsLog) catchUp() error {
	if l.down != nil {
		return l.down
	}
	return l.awaitApplied(l.part.HighWatermark())
}

// health is the end of what is applied, and what stands in the way.
func (l *offsetsLog) health() (applied int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.applied, l.err
}

// appending is one append under way.
type appending struct {
	done chan struct{}
	base int64
	n    int64
	err  error
}

// Complete implements record.Completion.
func (a *appending) Complete(base int64, err error) {
	a.base, a.err = base, err
	close(a.done)
}

// append starts the append of one batch. It may be called under a group's lock.
func (l *offsetsLog) append(rs []record.Record) *appending {
	return l.appendWith(rs, func(b record.Batch, a *appending) { l.log.AppendAsync(TopicPartition, b, a) })
}

func (l *offsetsLog) appendWith(rs []record.Record, stage func(b record.Batch, a *appending)) *appending {
	a := &appending{done: make(chan struct{}), n: int64(len(rs))}
	b, err := record.NewBatch(record.None, rs...)
	switch {
	case err != nil:
		a.Complete(-1, err)
	case len(b) > maxBatchBytes:
		a.Complete(-1, fmt.Errorf("%w: %d bytes, at most %d", record.ErrTooLarge, len(b), maxBatchBytes))
	default:
		stage(b, a)
	}
	return a
}

// wait returns once the append is committed and its records are in the table.
func (l *offsetsLog) wait(a *appending) error {
	<-a.done
	switch {
	case errors.Is(a.err, record.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrInvalidCommitOffsetSize, a.err)
	case errors.Is(a.err, record.ErrStorage), errors.Is(a.err, record.ErrDiskFull), errors.Is(a.err, record.ErrClosed), errors.Is(a.err, record.ErrUnknownTopicOrPartition):
		return fmt.Errorf("%w: append to %s: %w", ErrCoordinatorNotAvailable, TopicPartition, a.err)
	case a.err != nil:
		return a.err // what the transaction's coordinator says
	}
	return l.awaitApplied(a.base + a.n)
}

// appendAll appends any number of records in batches, in order, and waits until
// every batch is committed or refused. It returns the offset after the last.
func (l *offsetsLog) appendAll(rs []record.Record) (end int64, err error) {
	var under []*appending
	for len(rs) > 0 {
		n, size := 0, 0
		for n < len(rs) && (n == 0 || size < snapshotBatchBytes) {
			size += len(rs[n].Key) + len(rs[n].Value)
			n++
		}
		under = append(under, l.append(rs[:n]))
		rs = rs[n:]
	}
	for _, a := range under {
		<-a.done
		switch {
		case a.err == nil:
			end = a.base + a.n
		case err == nil:
			err = fmt.Errorf("%w: append to %s: %w", ErrCoordinatorNotAvailable, TopicPartition, a.err)
		}
	}
	return end, err
}
