package txn

import (
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// EndByHand ends the transaction that a producer has open in a partition, if the
// coordinator knows it; known is false if it does not, so that it hangs there. One that
// is not decided is aborted whole, and its producer fenced: were only one partition's
// part of it ended, the rest could still be committed. What was decided stays so.
func (c *Coordinator) EndByHand(producer int64, tp record.TopicPartition, commit bool) (known bool, err error) {
	for _, id := range c.ids() {
		s, err := c.lock(id, false)
		if err != nil {
			return false, err
		}
		if s == nil {
			continue
		}
		if _, in := s.t.partitions[tp]; !in || s.t.producerID != producer {
			s.mu.Unlock()
			continue
		}
		return true, c.leave(s, c.endByHand(s, commit))
	}
	return false, nil
}

// endByHand is EndByHand of a locked slot.
func (c *Coordinator) endByHand(s *slot, commit bool) error {
	switch state := s.t.State(); {
	case state == Ongoing && commit:
		return fmt.Errorf("%w: the transaction of %q is open, its producer alone can commit it", record.ErrInvalidTxnState, s.id)
	case state == Ongoing:
		c.opts.Logger.Warn("a transaction is aborted by hand", "transactional_id", s.id, "producer_id", s.t.producerID)
		return c.withID(s, func(newID int64) Event { return Abort{NewID: newID} }).Err
	case commit != (state == PrepareCommit):
		return fmt.Errorf("%w: the transaction of %q is %v", record.ErrInvalidTxnState, s.id, state)
	}
	c.tickOne(s) // its markers are tried again
	return nil
}
