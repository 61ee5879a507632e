package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// OffsetForLeaderEpoch, key 23, versions 2-4 (flexible from 4): where a leader epoch
// ended (KIP-320), by which a consumer notices that a log was cut below its position.
// librdkafka sends exactly version 2.
const offsetForLeaderEpochKey = 23

func init() {
	register(api{key: offsetForLeaderEpochKey, name: "OffsetForLeaderEpoch", needs: "DESCRIBE Topic", min: 2, max: 4, handle: (*Server).offsetForLeaderEpoch, maxFrame: dataFrame})
}

func (s *Server) offsetForLeaderEpoch(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetForLeaderEpochRequest), kmsg.NewPtrOffsetForLeaderEpochResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, part := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = part.Partition, -1, -1
			p, err := s.partitionFor(r, auth.Describe, t.Topic, part.Partition, part.CurrentLeaderEpoch)
			if err == nil {
				rp.LeaderEpoch, rp.EndOffset = p.EndOffsetForEpoch(part.LeaderEpoch)
			}
			rp.ErrorCode = errorCode(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
