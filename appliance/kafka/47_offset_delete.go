package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// OffsetDelete, key 47, version 0: removes a group's offsets of some partitions. A
// group with members keeps those of the topics it is subscribed to.
const offsetDeleteKey = 47

func init() {
	register(api{key: offsetDeleteKey, name: "OffsetDelete", min: 0, max: 0, handle: (*Server).offsetDelete})
}

func (s *Server) offsetDelete(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetDeleteRequest), kmsg.NewPtrOffsetDeleteResponse()
	var tps []record.TopicPartition
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			tps = append(tps, record.TopicPartition{Topic: t.Topic, Partition: p.Partition})
		}
	}
	each, err := s.o.Groups.DeleteOffsets(req.Group, tps)
	if resp.ErrorCode = errorCode(err); err != nil {
		return resp
	}
	i := 0
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = p.Partition
			if each != nil {
				rp.ErrorCode = errorCode(each[i])
			}
			i++
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
