package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/txn"
)

// AddOffsetsToTxn, key 25, versions 0-4 (flexible from 3): a group's offsets are about to
// be committed in a transaction. The partition of __consumer_offsets becomes part of it.
//
// Clients that know transaction.version=2 do not send it (KIP-890).
const addOffsetsToTxnKey = 25

func init() {
	register(api{key: addOffsetsToTxnKey, name: "AddOffsetsToTxn", needs: "WRITE TransactionalId, READ Group", min: 0, max: 4, handle: (*Server).addOffsetsToTxn})
}

func (s *Server) addOffsetsToTxn(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.AddOffsetsToTxnRequest), kmsg.NewPtrAddOffsetsToTxnResponse()
	err := r.authorize(auth.Write, auth.TransactionalID, req.TransactionalID)
	if err == nil {
		err = r.authorize(auth.Read, auth.Group, req.Group)
	}
	if err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	err = s.o.Transactions.Add(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, []record.TopicPartition{group.TopicPartition})
	resp.ErrorCode = errorCode(fenced(err, r.version >= fencedMin))
	return resp
}
