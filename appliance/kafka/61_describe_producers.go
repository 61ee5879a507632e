package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DescribeProducers, key 61, version 0 (flexible): the idempotent producers that a
// partition knows, and since which offset a transaction of theirs is open.
//
// The last timestamp and the coordinator's epoch are those since the broker's start,
// -1 before the first.
const describeProducersKey = 61

func init() {
	register(api{key: describeProducersKey, name: "DescribeProducers", needs: "READ Topic", min: 0, max: 0, handle: (*Server).describeProducers})
}

func (s *Server) describeProducers(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeProducersRequest), kmsg.NewPtrDescribeProducersResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		for _, id := range t.Partitions {
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = id
			p, err := s.partitionFor(r, auth.Read, t.Topic, id, -1)
			rp.ErrorCode, rp.ErrorMessage = errorCode(err), errorMessage(err)
			if err == nil {
				for _, x := range p.Producers() {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = x.ID, int32(x.Epoch), x.LastSequence, x.LastTimestamp
					a.CoordinatorEpoch, a.CurrentTxnStartOffset = x.CoordinatorEpoch, x.TransactionStart
					rp.ActiveProducers = append(rp.ActiveProducers, a)
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
