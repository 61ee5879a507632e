package topic

import (
	"fmt"
	"math"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// producerWindow is how many batches back a resend is recognised: clients keep at
// most five in flight (max.in.flight.requests.per.connection).
const producerWindow = 5

// producer is what a partition knows of one idempotent producer.
type producer struct {
	epoch int16
	n     int // batches in the window
	last  [producerWindow]sequenced

	txn     int64     // first offset of its open transaction here; -1: none
	endedAt int64     // offset of its last marker
	before  *producer // what it was before that, until the marker is committed

	seen             time.Duration // elapsed; 0: before the start
	timestamp        int64         // of its last batch, ms; -1: before the start
	coordinatorEpoch int32         // of its last marker; -1: before the start
}

func newProducer(epoch int16) *producer {
	return &producer{epoch: epoch, txn: -1, timestamp: -1, coordinatorEpoch: -1}
}

// sequenced is one batch of an idempotent producer, oldest first in the window.
type sequenced struct {
	first, last int32 // sequence numbers
	base, end   int64 // offsets; end is exclusive
}

// producers maps producer ids to their state: Options.MaxProducers at most; the one
// idle longest is forgotten first, as if it had expired. The caller holds
// Partition.stateMu.
type producers map[int64]*producer

// check is producers.check, and refuses what cannot be remembered if it is aborted.
func (s *state) check(b record.Batch, o *Options) (base int64, dup bool, err error) {
	if base, dup, err = s.producers.check(b, o.MaxProducers); err == nil && !dup && b.Transactional() && len(s.aborted) >= o.MaxAborted {
		err = fmt.Errorf("%w: the partition remembers %d aborted transactions, no more until retention or compaction has removed them", record.ErrDiskFull, len(s.aborted))
	}
	return base, dup, err
}

// check decides about a batch by Kafka's rules: dup is true, with the offset it
// has, when it is in the log already.
func (ps producers) check(b record.Batch, most int) (base int64, dup bool, err error) {
	p := ps[b.ProducerID()]
	if p == nil {
		if len(ps) >= most && ps.idle() < 0 {
			return 0, false, fmt.Errorf("%w: %d producers have transactions open", record.ErrDiskFull, len(ps))
		}
		// Unknown, or forgotten: Kafka accepts any sequence too (KIP-360).
		return 0, false, nil
	}
	first := b.BaseSequence()
	last := addSequence(first, b.LastOffsetDelta())
	switch epoch := b.ProducerEpoch(); {
	case epoch < p.epoch:
		return 0, false, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", record.ErrProducerFenced, b.ProducerID(), p.epoch, epoch)
	case p.txn >= 0 && !b.Transactional():
		return 0, false, fmt.Errorf("%w: producer %d has a transaction open, and the batch is none of it", record.ErrInvalidTxnState, b.ProducerID())
	case epoch > p.epoch:
		if first != 0 {
			return 0, false, fmt.Errorf("%w: producer %d starts epoch %d with sequence %d", record.ErrOutOfOrderSequence, b.ProducerID(), epoch, first)
		}
		return 0, false, nil
	}
	for _, s := range p.last[:p.n] {
		if s.first == first && s.last == last {
			return s.base, true, nil
		}
	}
	if p.n > 0 && first != addSequence(p.last[p.n-1].last, 1) {
		return 0, false, fmt.Errorf("%w: producer %d sent sequence %d after %d", record.ErrOutOfOrderSequence, b.ProducerID(), first, p.last[p.n-1].last)
	}
	return 0, false, nil
}

// note remembers a batch that has its offset.
func (ps producers) note(b record.Batch, most int) {
	id := b.ProducerID()
	p := ps[id]
	if p == nil {
		for len(ps) >= most && ps.evict() {
		}
		p = newProducer(b.ProducerEpoch())
		ps[id] = p
	}
	if b.Control() {
		p.end(b)
		return
	}
	p.timestamp = b.MaxTimestamp()
	if b.Transactional() && p.txn < 0 && b.Count() > 0 {
		p.txn = b.BaseOffset()
	}
	if p.epoch != b.ProducerEpoch() {
		p.epoch, p.n = b.ProducerEpoch(), 0
	}
	if p.n > 0 && b.BaseOffset() < p.last[p.n-1].end {
		return // replayed, and known
	}
	if p.n == producerWindow {
		copy(p.last[:], p.last[1:])
		p.n--
	}
	p.last[p.n] = sequenced{b.BaseSequence(), addSequence(b.BaseSequence(), b.LastOffsetDelta()), b.BaseOffset(), b.NextOffset()}
	p.n++
}

// end takes in a marker. One of a greater epoch, as of KIP-890 they all are, begins the
// sequence anew.
func (p *producer) end(b record.Batch) {
	before := *p
	p.before, p.endedAt, p.txn = &before, b.BaseOffset(), -1
	if m, ok, err := b.Marker(); ok && err == nil {
		p.coordinatorEpoch = m.CoordinatorEpoch
	}
	if b.ProducerEpoch() > p.epoch {
		p.epoch, p.n = b.ProducerEpoch(), 0
	}
}

// at is the producer as of what lies below committed: the markers beyond have not
// happened, should the power go.
func (p *producer) at(committed int64) *producer {
	for p.before != nil && p.endedAt >= committed {
		p = p.before
	}
	return p
}

// evict forgets the idle producer whose last batch lies furthest back in the log, if
// any is idle.
func (ps producers) evict() bool {
	id := ps.idle()
	if id < 0 {
		return false
	}
	delete(ps, id)
	return true
}

// expire forgets the producers that have been idle for longer than age.
func (ps producers) expire(elapsed, opened, age time.Duration) (expired bool) {
	for id, p := range ps {
		if p.txn < 0 && p.before == nil && elapsed-max(p.seen, opened) > age {
			delete(ps, id)
			expired = true
		}
	}
	return expired
}

// idle is the producer without a transaction whose last batch lies furthest back in the
// log; -1 when there is none.
func (ps producers) idle() int64 {
	oldest, at := int64(-1), int64(math.MaxInt64)
	for id, p := range ps {
		if p.txn >= 0 || p.before != nil {
			continue
		}
		end := int64(0)
		if p.n > 0 {
			end = p.last[p.n-1].end
		}
		if end < at {
			oldest, at = id, end
		}
	}
	return oldest
}

// addSequence counts as Kafka does: after the greatest int32 comes 0.
func addSequence(s, n int32) int32 {
	if s > math.MaxInt32-n {
		return n - (math.MaxInt32 - s) - 1
	}
	return s + n
}
