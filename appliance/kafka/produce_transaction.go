package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/txn"
)

// joinProduceMin is the version from which a batch makes its partition part of the
// transaction (KIP-890); before, AddPartitionsToTxn must have.
const joinProduceMin = 12

// stageTransactional hands a batch of a transaction to its partition by way of the
// coordinator.
func (s *Server) stageTransactional(part *producePart, batch record.Batch) {
	p := part.reply
	if p.transactionalID == "" {
		part.Complete(-1, fmt.Errorf("%w: a batch of a transaction, and no transactional.id", record.ErrInvalidTxnState))
		return
	}
	err := s.o.Transactions.Append(p.transactionalID, p.version >= joinProduceMin, part.partition, batch, part)
	switch {
	case err == nil: // it completes by itself
		return
	case errors.Is(err, txn.ErrProducerFenced):
		err = fmt.Errorf("%w: %w", kerr.InvalidProducerEpoch, err)
	case errors.Is(err, txn.ErrCoordinatorNotAvailable):
		err = fmt.Errorf("%w: %w", kerr.NotEnoughReplicas, err) // Produce has no better word for "try again"
	}
	part.Complete(-1, err)
}
