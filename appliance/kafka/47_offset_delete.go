package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
)

// OffsetDelete, key 47, version 0: removes a group's offsets of some partitions. A
// group with members keeps those of the topics it is subscribed to.
const offsetDeleteKey = 47

func init() {
	register(api{key: offsetDeleteKey, name: "OffsetDelete", needs: "DELETE Group, READ Topic", min: 0, max: 0, handle: (*Server).offsetDelete})
}

func (s *Server) offsetDelete(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetDeleteRequest), kmsg.NewPtrOffsetDeleteResponse()
	if err := r.authorize(auth.Delete, auth.Group, req.Group); err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	var tps []record.TopicPartition
	refused := map[string]error{}
	for _, t := range req.Topics {
		if err := r.authorize(auth.Read, auth.Topic, t.Topic); err != nil {
			refused[t.Topic] = err
			continue
		}
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
			if err := refused[t.Topic]; err != nil {
				rp.ErrorCode = errorCode(err)
			} else {
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
