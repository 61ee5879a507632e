package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/txn"
)

// EndTxn, key 26, versions 0-5 (flexible from 3): commits or aborts a transaction.
//
// Answered when the outcome is on stable storage, and with it the markers in all
// partitions: what follows never meets CONCURRENT_TRANSACTIONS, unless a partition is
// offline. From 5 on the answer carries the producer's next epoch, which each
// transaction has its own of (KIP-890).
const (
	endTxnKey     = 26
	bumpEndTxnMin = 5
)

func init() {
	register(api{key: endTxnKey, name: "EndTxn", needs: "WRITE TransactionalId", min: 0, max: 5, handle: (*Server).endTxn,
		notes: "the markers are committed with the outcome; epoch bump of KIP-890 (5)"})
}

func (s *Server) endTxn(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.EndTxnRequest), kmsg.NewPtrEndTxnResponse()
	if err := r.authorize(auth.Write, auth.TransactionalID, req.TransactionalID); err != nil {
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = errorCode(err), -1, -1
		return resp
	}
	next, err := s.o.Transactions.End(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, req.Commit, r.version >= bumpEndTxnMin)
	resp.ErrorCode = errorCode(fenced(err, r.version >= fencedMin))
	resp.ProducerID, resp.ProducerEpoch = next.ID, next.Epoch
	return resp
}
