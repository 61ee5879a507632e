package kafka

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// WriteTxnMarkers, key 27, versions 1-2 (flexible): ends producers' transactions in
// partitions by hand. It is how kafka-transactions.sh aborts a transaction that hangs
// (KIP-664). Kafka writes the marker past its coordinator, which would still commit the
// other partitions of a transaction that is open; here such a one is aborted whole.
//
// Answered once the markers are on stable storage. Where no transaction of the
// producer is open there is nothing to do, and no error. 0 is older than all that send it.
const writeTxnMarkersKey = 27

func init() {
	register(api{key: writeTxnMarkersKey, name: "WriteTxnMarkers", needs: "CLUSTER_ACTION or ALTER Cluster", min: 1, max: 2, handle: (*Server).writeTxnMarkers,
		notes: "ends a transaction that hangs; one that the coordinator knows is aborted whole"})
}

// marking is a marker under way in one partition.
type marking struct {
	answer *kmsg.WriteTxnMarkersResponseMarkerTopicPartition
	done   chan error // nil: nothing was staged
}

// Complete implements record.Completion.
func (m marking) Complete(_ int64, err error) { m.done <- err }

func (s *Server) writeTxnMarkers(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.WriteTxnMarkersRequest), kmsg.NewPtrWriteTxnMarkersResponse()
	refused := r.authorizeMarkers()
	var under []marking
	for _, m := range req.Markers {
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = m.ProducerID
		marker := record.Marker{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, Commit: m.Committed, CoordinatorEpoch: m.CoordinatorEpoch}
		for _, t := range m.Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic, rt.Partitions = t.Topic, make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(t.Partitions))
			for i, id := range t.Partitions {
				rt.Partitions[i].Partition = id
				err := refused
				if err == nil {
					var staged marking
					if staged, err = s.stageMarker(r, record.TopicPartition{Topic: t.Topic, Partition: id}, marker); staged.done != nil {
						staged.answer = &rt.Partitions[i]
						under = append(under, staged)
					}
				}
				rt.Partitions[i].ErrorCode = errorCode(err)
			}
			rm.Topics = append(rm.Topics, rt)
		}
		resp.Markers = append(resp.Markers, rm)
	}
	for _, m := range under {
		m.answer.ErrorCode = errorCode(<-m.done)
	}
	return resp
}

// authorizeMarkers takes what Kafka's brokers need, and what its administrators have.
func (r *request) authorizeMarkers() error {
	if r.may(auth.ClusterAction, auth.Cluster, auth.ClusterName) {
		return nil
	}
	return r.authorize(auth.Alter, auth.Cluster, auth.ClusterName)
}

func (s *Server) stageMarker(r *request, tp record.TopicPartition, m record.Marker) (staged marking, err error) {
	p, err := s.o.Topics.Partition(tp)
	if err != nil {
		return staged, err
	}
	of := func(x topic.Producer) bool { return x.ID == m.ProducerID }
	known := p.Producers()
	i := slices.IndexFunc(known, of)
	if i < 0 || known[i].TransactionStart < 0 {
		return staged, nil
	}
	if known[i].Epoch > m.ProducerEpoch {
		return staged, fmt.Errorf("%w: producer %d has epoch %d in %s, not %d", record.ErrProducerFenced, m.ProducerID, known[i].Epoch, tp, m.ProducerEpoch)
	}
	defer func() {
		if err == nil {
			s.o.Log.Warn("a transaction is ended by hand", "partition", tp.String(), "producer_id", m.ProducerID, "commit", m.Commit)
			r.audit(auth.TopicChanged, auth.Alter, auth.Topic, tp.Topic, "transaction ended")
		}
	}()
	if known, err := s.o.Transactions.EndByHand(m.ProducerID, tp, m.Commit); known || err != nil {
		return staged, err
	}
	todo := marking{done: make(chan error, 1)}
	if is, err := p.EndTransaction(m, todo); err != nil || !is {
		return staged, err
	}
	return todo, nil
}
