package topic

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/wal"
)

// Partition is one partition. All methods are safe for concurrent use.
type Partition struct {
	set   *Set
	topic *Topic
	tp    record.TopicPartition
	dir   string
	log   *commitlog.Log

	identified bool            // its folder has a partition.metadata; who checkpoints looks at it
	redo       *commitlog.Redo // of recovery, until the log is open

	// What is staged: ahead of the log by the rounds in flight.
	staging sync.Mutex
	next    int64              // offset of the next record
	at      commitlog.Position // place of the next batch
	from    int64              // the log start offset
	since   time.Duration      // elapsed, when the active segment got its first batch

	stateMu sync.Mutex
	state   *state
	recovered
	times  appendTimes
	opened time.Duration // elapsed; set once

	// ahead is next, for readers: who was told of an offset before it is committed
	// (flush.messages) waits there instead of being refused.
	ahead atomic.Int64

	// What is committed.
	start atomic.Int64
	hw    atomic.Int64
	// unstable is the first offset of an open transaction, math.MaxInt64 when none is.
	unstable atomic.Int64
	dirty    atomic.Bool // is in Set.dirty
	late     late
	err      atomic.Pointer[error]

	watching atomic.Int32
	watchMu  sync.Mutex
	watchers map[chan<- struct{}]struct{}
}

// TopicPartition is the partition's name.
func (p *Partition) TopicPartition() record.TopicPartition { return p.tp }

// TopicID is the identity of the partition's topic.
func (p *Partition) TopicID() ID { return p.topic.id }

// Internal reports whether the topic is Weir's own, not for clients to write.
func (p *Partition) Internal() bool { return p.topic.internal }

// LogStartOffset is the first offset that can be read.
func (p *Partition) LogStartOffset() int64 { return p.start.Load() }

// HighWatermark is the offset after the last committed record.
func (p *Partition) HighWatermark() int64 { return p.hw.Load() }

// LeaderEpoch grows at every boot and is never reset.
func (p *Partition) LeaderEpoch() int32 { return p.set.opts.LeaderEpoch }

// Size is the bytes of the partition's segments, with what is late for them. What was
// just committed may not be counted yet.
func (p *Partition) Size() int64 { return p.log.Size() + p.late.bytes.Load() }

// Err is why the partition is offline; nil while it serves.
func (p *Partition) Err() error {
	if e := p.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (p *Partition) fail(err error) { p.err.CompareAndSwap(nil, &err) }

// Append stages a batch and completes it once it is committed. It is AppendAsync
// on a partition already looked up: produce's hot path.
func (p *Partition) Append(b record.Batch, done record.Completion) { p.append(b, false, done) }

// AppendTransactional is Append of a batch that is part of its producer's transaction.
// It is the coordinator's to call, which knows that the transaction is open and that
// the partition is in it, and lets it not end before this returns.
func (p *Partition) AppendTransactional(b record.Batch, done record.Completion) {
	p.append(b, true, done)
}

func (p *Partition) append(b record.Batch, transactional bool, done record.Completion) {
	err := p.check(b)
	if err == nil && b.Transactional() != transactional {
		err = fmt.Errorf("%w: the batch is said to be part of a transaction: %v; the request: %v", record.ErrInvalidTxnState, b.Transactional(), transactional)
	}
	if err == nil {
		err = p.stage(b, done)
	}
	if err != nil {
		p.topic.noteRefused(err)
		done.Complete(-1, err)
	}
}

// check is everything that can be said of a batch without the partition's lock.
func (p *Partition) check(b record.Batch) error {
	c := p.topic.config()
	if len(b) > c.maxMessageBytes {
		return fmt.Errorf("%w: %d bytes, max.message.bytes of topic %s is %d", record.ErrTooLarge, len(b), p.tp.Topic, c.maxMessageBytes)
	}
	if err := b.Validate(); err != nil {
		return err
	}
	switch {
	case b.Codec() > record.Zstd:
		return fmt.Errorf("%w: %d", record.ErrUnsupportedCodec, b.Codec())
	case b.Control():
		return fmt.Errorf("%w: a control batch is the broker's to write", record.ErrInvalidRecord)
	case b.Transactional() && b.ProducerID() < 0:
		return fmt.Errorf("%w: part of a transaction, but of no producer", record.ErrInvalidRecord)
	case b.Count() == 0 || b.Count() != b.LastOffsetDelta()+1:
		return fmt.Errorf("%w: %d records with last offset delta %d", record.ErrInvalidRecord, b.Count(), b.LastOffsetDelta())
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return fmt.Errorf("%w: producer %d with epoch %d and sequence %d", record.ErrInvalidRecord, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	if c.compact {
		return checkKeys(b)
	}
	return nil
}

// checkKeys refuses records that compaction could not tell apart.
func checkKeys(b record.Batch) error {
	d := record.Decoder{RawHeaders: true}
	if err := d.Reset(b); err != nil {
		return err
	}
	for n := 0; ; n++ {
		var r record.Record
		more, err := d.Next(&r)
		if err != nil || !more {
			return err
		}
		if r.Key == nil {
			return fmt.Errorf("%w: record %d has no key, which cleanup.policy=compact needs", record.ErrInvalidRecord, n)
		}
	}
}

// stage gives the batch its offset and its place and copies it into the open round.
func (p *Partition) stage(b record.Batch, done record.Completion) error {
	p.staging.Lock()
	defer p.staging.Unlock()
	if err := p.Err(); err != nil {
		return err
	}
	if b.ProducerID() != record.NoProducerID && !p.topic.internal { // the coordinators keep no sequence
		p.stateMu.Lock()
		base, dup, err := p.state.check(b, &p.set.opts)
		p.stateMu.Unlock()
		if err != nil {
			return err
		}
		if dup {
			return p.stageOffset(entryDuplicate, base, done)
		}
	}
	if err := p.set.space.take(len(b), p.topic.internal); err != nil {
		return err
	}
	if err := p.set.wal.Begin(1, entryAppendLen+len(b)); err != nil {
		return storageError(err)
	}
	p.put(b, done)
	if c := p.topic.config(); c.flushMessages > 1 && !p.topic.internal {
		p.set.wal.EndRelaxed(wal.Relax{Records: int64(b.Count()), Every: c.flushMessages, Within: c.flushAfter})
	} else {
		p.set.wal.End()
	}
	return nil
}

// put adds the batch to the open group of the write-ahead log. The caller holds
// staging, and has begun the group.
func (p *Partition) put(b record.Batch, tag any) {
	now, elapsed := p.set.opts.Clock.Read()
	c := p.topic.config()
	p.place(c, len(b), b.LastOffsetDelta(), elapsed)
	e := p.set.wal.Add(entryAppendLen+len(b), p, tag)
	p.putHead(e, entryAppend)
	putPosition(e, p.at)
	staged := record.Batch(e[entryAppendLen:])
	copy(staged, b)
	staged.SetBaseOffset(p.next)
	staged.SetLeaderEpoch(p.set.opts.LeaderEpoch)
	if c.logAppendTime {
		staged.SetLogAppendTime(now.UnixMilli())
		if s, ok := tag.(record.Stamped); ok {
			s.Stamped(now.UnixMilli())
		}
	}
	p.stateMu.Lock()
	p.state.note(staged, p.set.opts.MaxProducers)
	if id := staged.ProducerID(); id != record.NoProducerID {
		p.state.producers[id].seen = elapsed
	}
	if c.delete {
		p.times.note(p.at.Segment, staged.NextOffset(), elapsed)
	}
	p.stateMu.Unlock()
	p.next = staged.NextOffset()
	p.ahead.Store(p.next)
	p.at.Byte += int64(len(b))
}

// place moves on to a new segment if the active one is full or old, or if an
// offset would not fit its index.
func (p *Partition) place(c *config, n int, lastOffsetDelta int32, elapsed time.Duration) {
	full := p.at.Byte > 0 && (p.at.Byte+int64(n) > c.segmentBytes || elapsed-p.since > c.segmentAge)
	if full || p.next+int64(lastOffsetDelta)-p.at.Segment > math.MaxInt32 {
		p.at = commitlog.Position{Segment: p.next}
	}
	if p.at.Byte == 0 {
		p.since = elapsed
	}
}

// Commit lets readers have what a durable entry holds. It is the write-ahead log's
// to call. The watermark moves before the batch is in its segment, so that who is
// told of an offset, or is given a batch, is not refused what lies behind it; a
// reader who is that fast waits for the segment.
func (p *Partition) Commit(b []byte) {
	e, err := parseEntry(b)
	if err != nil {
		return // Apply says so
	}
	switch e.kind {
	case entryAppend:
		if e.batch.Transactional() {
			p.settle(e.batch)
		}
		p.hw.Store(e.batch.NextOffset())
	case entryLogStart:
		p.start.Store(max(p.start.Load(), e.offset))
	}
}

// Apply brings a durable entry to its place. It is the write-ahead log's to call.
// Batches that more follow are gathered, and written before it is told of no more.
func (p *Partition) Apply(b []byte, in wal.Context) error {
	e, err := parseEntry(b)
	if err != nil {
		return err
	}
	as := lateBatch{in.Place, e.at, len(e.batch)}
	if e.kind == entryAppend && in.Crowded && p.mayBeLate() {
		return p.putOff(nil, as)
	}
	if err := p.bring(); err != nil && !noRoom(err) {
		return err
	}
	switch e.kind {
	case entryAppend:
		err = p.applyBatch(e.batch, as, in.More)
	case entryLogStart:
		p.stateMu.Lock()
		p.state.logStart, p.state.dirty = max(p.state.logStart, e.offset), true
		p.stateMu.Unlock()
		p.touch()
	case entryRoll:
		if err = p.writeGathered(); err == nil {
			err = p.rollOrPutOff(e.offset, in.Place)
			p.touch()
		}
	}
	if err == nil && !in.More {
		err = p.writeGathered()
		if p.watching.Load() > 0 {
			p.notify()
		}
	}
	return err
}

func (p *Partition) touch() {
	if !p.dirty.Load() {
		p.set.markDirty(p)
	}
}

// Done tells who waits for an entry. It is the write-ahead log's to call.
func (p *Partition) Done(b []byte, tag any, err error) {
	done, ok := tag.(record.Completion)
	if !ok {
		return
	}
	if err != nil {
		done.Complete(-1, storageError(err))
		return
	}
	e, _ := parseEntry(b) // it was applied
	if e.kind == entryAppend {
		e.offset = e.batch.BaseOffset()
	}
	done.Complete(e.offset, nil)
}
