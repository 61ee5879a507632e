package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// TxnOffsetCommit, key 28, versions 0-5 (flexible from 3): a group's offsets, to hold
// once the producer's transaction is committed.
//
// From 3 on the consumer says which member of the group it is, so that one that was left
// out of a rebalance commits nothing (KIP-447). With 5 AddOffsetsToTxn need not come
// before it (KIP-890).
const (
	txnOffsetCommitKey     = 28
	joinTxnOffsetCommitMin = 5
)

func init() {
	register(api{key: txnOffsetCommitKey, name: "TxnOffsetCommit", needs: "WRITE TransactionalId, READ Group, READ Topic", min: 0, max: 5, handle: (*Server).txnOffsetCommit, maxFrame: dataFrame,
		notes: "checks the group's member (3); without AddOffsetsToTxn before it (5)"})
}

func (s *Server) txnOffsetCommit(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.TxnOffsetCommitRequest), kmsg.NewPtrTxnOffsetCommitResponse()
	c := group.TransactionalCommit{ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch}
	c.MemberID, c.InstanceID, c.Generation = req.MemberID, deref(req.InstanceID), req.Generation
	refused, hidden := r.authorizeTxnOffsets(req), map[string]error{}
	for _, t := range req.Topics {
		if err := r.authorize(auth.Read, auth.Topic, t.Topic); err != nil {
			hidden[t.Topic] = err
			continue
		}
		for _, p := range t.Partitions {
			tp := record.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if id, ok := s.topicIDOf(tp, topic.ID{}); ok {
				c.Offsets = append(c.Offsets, group.CommitOffset{TopicPartition: tp, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: deref(p.Metadata), TopicID: id})
			}
		}
	}
	each, err := []error(nil), refused
	if err == nil {
		each, err = s.commitInTxn(req, c, r.version >= joinTxnOffsetCommitMin)
	}
	i := 0 // into what was committed: the same partitions in the same order
	for _, t := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			switch known := i < len(c.Offsets) && c.Offsets[i].TopicPartition == (record.TopicPartition{Topic: t.Topic, Partition: p.Partition}); {
			case refused != nil:
				rp.ErrorCode = errorCode(refused)
			case hidden[t.Topic] != nil:
				rp.ErrorCode = errorCode(hidden[t.Topic])
			case !known:
				rp.ErrorCode = errorCode(record.ErrUnknownTopicOrPartition)
			case err != nil:
				rp.ErrorCode = errorCode(err)
				i++
			default:
				if each != nil {
					rp.ErrorCode = errorCode(each[i])
				}
				i++
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (r *request) authorizeTxnOffsets(req *kmsg.TxnOffsetCommitRequest) error {
	if err := r.authorize(auth.Write, auth.TransactionalID, req.TransactionalID); err != nil {
		return err
	}
	return r.authorize(auth.Read, auth.Group, req.Group)
}

func (s *Server) commitInTxn(req *kmsg.TxnOffsetCommitRequest, c group.TransactionalCommit, join bool) ([]error, error) {
	offsets, err := s.offsetsPartition()
	if err == nil && !join {
		err = s.o.Transactions.Verify(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, group.TopicPartition)
	}
	if err != nil {
		return nil, fenced(err, false)
	}
	c.Append = func(b record.Batch, done record.Completion) {
		if err := s.o.Transactions.Append(req.TransactionalID, join, offsets, b, done); err != nil {
			done.Complete(-1, err)
		}
	}
	each, err := s.o.Groups.CommitInTransaction(req.Group, c)
	return each, fenced(err, false)
}

func (s *Server) offsetsPartition() (*topic.Partition, error) {
	p, err := s.o.Topics.Partition(group.TopicPartition)
	if err != nil {
		return nil, kerr.CoordinatorNotAvailable
	}
	return p, nil
}
