package topic

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/appliance/record"
)

// producerWindow is how many batches back a resend is recognised: clients keep at
// most five in flight (max.in.flight.requests.per.connection).
const producerWindow = 5

// maxProducers bounds the idempotent producers a partition remembers; the one
// idle longest is forgotten first, as if it had expired.
const maxProducers = 4096

// producer is what a partition knows of one idempotent producer.
type producer struct {
	epoch int16
	n     int // batches in the window
	last  [producerWindow]sequenced
}

// sequenced is one batch of an idempotent producer, oldest first in the window.
type sequenced struct {
	first, last int32 // sequence numbers
	base, end   int64 // offsets; end is exclusive
}

// producers maps producer ids to their state. The caller holds Partition.stateMu.
type producers map[int64]*producer

// check decides about a batch by Kafka's rules: dup is true, with the offset it
// has, when it is in the log already.
func (ps producers) check(b record.Batch) (base int64, dup bool, err error) {
	p := ps[b.ProducerID()]
	if p == nil {
		// Unknown, or forgotten: Kafka accepts any sequence too (KIP-360).
		return 0, false, nil
	}
	first := b.BaseSequence()
	last := addSequence(first, b.LastOffsetDelta())
	switch epoch := b.ProducerEpoch(); {
	case epoch < p.epoch:
		return 0, false, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", record.ErrProducerFenced, b.ProducerID(), p.epoch, epoch)
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
func (ps producers) note(b record.Batch) {
	id := b.ProducerID()
	p := ps[id]
	if p == nil {
		if len(ps) >= maxProducers {
			ps.evict()
		}
		p = &producer{epoch: b.ProducerEpoch()}
		ps[id] = p
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

// evict forgets the producer whose last batch lies furthest back in the log.
func (ps producers) evict() {
	oldest, at := int64(-1), int64(math.MaxInt64)
	for id, p := range ps {
		end := int64(0)
		if p.n > 0 {
			end = p.last[p.n-1].end
		}
		if end < at {
			oldest, at = id, end
		}
	}
	delete(ps, oldest)
}

// addSequence counts as Kafka does: after the greatest int32 comes 0.
func addSequence(s, n int32) int32 {
	if s > math.MaxInt32-n {
		return n - (math.MaxInt32 - s) - 1
	}
	return s + n
}
