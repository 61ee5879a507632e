package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/txn"
)

// AddPartitionsToTxn, key 24, versions 0-3 (flexible from 3): the partitions that a
// transactional producer is about to write to become part of its transaction.
//
// All or none: if one does not exist, the others answer OPERATION_NOT_ATTEMPTED.
// Versions 4 and 5 are for brokers that ask one another. Clients that know
// transaction.version=2 do not send it at all (KIP-890).
const addPartitionsToTxnKey = 24

func init() {
	register(api{key: addPartitionsToTxnKey, name: "AddPartitionsToTxn", needs: "WRITE TransactionalId, WRITE Topic", min: 0, max: 3, handle: (*Server).addPartitionsToTxn, maxFrame: dataFrame,
		notes: "4 and 5 are for brokers among themselves"})
}

// fencedMin is the version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn from which
// clients know PRODUCER_FENCED (KIP-588).
const fencedMin = 2

func (s *Server) addPartitionsToTxn(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.AddPartitionsToTxnRequest), kmsg.NewPtrAddPartitionsToTxnResponse()
	var tps []record.TopicPartition
	missing := map[record.TopicPartition]error{}
	for _, t := range req.Topics {
		for _, id := range t.Partitions {
			tp := record.TopicPartition{Topic: t.Topic, Partition: id}
			err := r.authorize(auth.Write, auth.Topic, t.Topic)
			if err == nil {
				err = s.writable(tp)
			}
			if err != nil {
				missing[tp] = err
			}
			tps = append(tps, tp)
		}
	}
	err := r.authorize(auth.Write, auth.TransactionalID, req.TransactionalID)
	if err != nil {
		clear(missing) // all of them have that error
	} else if len(missing) == 0 {
		err = fenced(s.o.Transactions.Add(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, tps), r.version >= fencedMin)
	}
	for _, t := range req.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, id := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = id
			switch why := missing[record.TopicPartition{Topic: t.Topic, Partition: id}]; {
			case why != nil:
				rp.ErrorCode = errorCode(why)
			case len(missing) > 0:
				rp.ErrorCode = kerr.OperationNotAttempted.Code
			default:
				rp.ErrorCode = errorCode(err)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// writable reports why clients may not write to a partition, whoever they are.
func (s *Server) writable(tp record.TopicPartition) error {
	p, err := s.o.Topics.Partition(tp)
	if err == nil && p.Internal() {
		err = kerr.InvalidTopicException
	}
	return err
}

// fenced makes a fenced producer's error one that its version of the request knows.
func fenced(err error, known bool) error {
	if !known && errors.Is(err, txn.ErrProducerFenced) {
		return kerr.InvalidProducerEpoch
	}
	return err
}
