package txn

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Producer names a producer's session.
type Producer struct {
	ID    int64
	Epoch int16
}

// Init serves InitProducerId: it returns the producer's session. Sessions before it are
// fenced, and what they had not committed is aborted. from is NoProducer and NoEpoch
// for a producer that begins.
func (c *Coordinator) Init(id string, from Producer, timeout time.Duration) (Producer, error) {
	if err := c.opts.Limits.checkID(id); err != nil {
		return Producer{}, err
	}
	s, err := c.lock(id, true)
	if err != nil {
		return Producer{}, err
	}
	a := c.withID(s, func(newID int64) Event {
		return Init{ProducerID: from.ID, Epoch: from.Epoch, Timeout: timeout, NewID: newID}
	})
	if a.Err != nil && s.t.epoch == NoEpoch {
		c.forget(s)
	}
	if err := c.leave(s, a.Err); err != nil {
		return Producer{NoProducer, NoEpoch}, err
	}
	return Producer{a.ProducerID, a.Epoch}, nil
}

// withID steps the locked slot with an event that may need a producer id.
func (c *Coordinator) withID(s *slot, ev func(newID int64) Event) (a Answer) {
	for range 2 {
		id, err := c.newID()
		if err != nil {
			return s.t.fail(err)
		}
		if a = c.step(s, ev(id)); !a.TookID {
			c.giveBack(id)
		}
		if !a.Again {
			break
		}
	}
	return a
}

// leave unlocks the slot, and returns once all that was staged is on stable storage.
func (c *Coordinator) leave(s *slot, err error) error {
	last := s.last
	s.mu.Unlock()
	return errors.Join(err, last.wait())
}

// Add serves AddPartitionsToTxn and AddOffsetsToTxn: the partitions are part of the
// producer's transaction, which begins if there is none.
func (c *Coordinator) Add(id string, from Producer, tps []record.TopicPartition) error {
	s, err := c.known(id)
	if err != nil {
		return err
	}
	a := c.step(s, Add{ProducerID: from.ID, Epoch: from.Epoch, Partitions: tps})
	return c.leave(s, a.Err)
}

// Verify reports whether the partition is part of the producer's transaction.
func (c *Coordinator) Verify(id string, from Producer, tp record.TopicPartition) error {
	s, err := c.known(id)
	if err != nil {
		return err
	}
	return c.leave(s, s.t.Check(from.ID, from.Epoch, tp))
}

// End serves EndTxn: it returns once the outcome is on stable storage, and for as long
// as no partition is offline the markers as well. With bump the producer goes on with
// the session returned (KIP-890).
func (c *Coordinator) End(id string, from Producer, commit, bump bool) (Producer, error) {
	s, err := c.known(id)
	if err != nil {
		return Producer{NoProducer, NoEpoch}, err
	}
	a := c.withID(s, func(newID int64) Event {
		return End{ProducerID: from.ID, Epoch: from.Epoch, Commit: commit, Bump: bump, NewID: newID}
	})
	if err := c.leave(s, a.Err); err != nil {
		return Producer{NoProducer, NoEpoch}, err
	}
	return Producer{a.ProducerID, a.Epoch}, nil
}

// Append stages a batch of the producer's transaction in one of its partitions. With
// join the partition becomes part of the transaction, if it is not (KIP-890); the
// record that says so is durable before the batch is. The transaction does not end
// between the check and the append. With an error done is not completed.
func (c *Coordinator) Append(id string, join bool, p *topic.Partition, b record.Batch, done record.Completion) error {
	if err := b.ValidateHeader(); err != nil {
		return err
	}
	s, err := c.known(id)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	from := Producer{b.ProducerID(), b.ProducerEpoch()}
	if err = s.t.Check(from.ID, from.Epoch, p.TopicPartition()); err != nil && join {
		err = c.step(s, Add{ProducerID: from.ID, Epoch: from.Epoch, Partitions: []record.TopicPartition{p.TopicPartition()}, Bump: true}).Err
	}
	if err != nil {
		return err
	}
	p.AppendTransactional(b, done)
	return nil
}

// Description is one transactional id, as DescribeTransactions and ListTransactions show it.
type Description struct {
	ID         string
	Producer   Producer
	State      State
	Timeout    time.Duration
	Started    time.Time // zero when no transaction is open
	Partitions []record.TopicPartition
}

// Describe serves DescribeTransactions.
func (c *Coordinator) Describe(id string) (Description, error) {
	s, err := c.lock(id, false)
	switch {
	case err != nil:
		return Description{}, err
	case s == nil:
		return Description{}, fmt.Errorf("%w: %q", ErrTransactionalIDNotFound, id)
	}
	defer s.mu.Unlock()
	return s.describe(), nil
}

func (s *slot) describe() Description {
	t := s.t
	return Description{ID: s.id, Producer: Producer{t.producerID, t.epoch}, State: t.state, Timeout: t.timeout, Started: t.started, Partitions: t.sorted()}
}

// List serves ListTransactions: all transactional ids, sorted.
func (c *Coordinator) List() ([]Description, error) {
	if c.down != nil {
		return nil, c.down
	}
	var out []Description
	for _, id := range c.ids() {
		if d, err := c.Describe(id); err == nil {
			out = append(out, d)
		}
	}
	return out, nil
}
