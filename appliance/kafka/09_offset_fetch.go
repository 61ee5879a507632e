package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
)

// OffsetFetch, key 9, versions 1-9 (flexible from 6, several groups from 8): how far
// groups have read. Null topics (from 2) ask for all there is.
//
// A partition or a group that has never committed answers offset -1 without an error:
// GROUP_ID_NOT_FOUND breaks librdkafka, sarama and Java. kafka-go sends 1 and kafkajs
// 4 whatever is advertised. There are no transactions, so every offset is stable (7+).
// Version 9 adds a member that classic groups do not look at; 10 names topics by id.
const offsetFetchKey = 9

func init() {
	register(api{key: offsetFetchKey, name: "OffsetFetch", needs: "DESCRIBE Group, DESCRIBE Topic", min: 1, max: 9, handle: (*Server).offsetFetch, maxFrame: dataFrame,
		notes: "offset -1 and no error where nothing was committed"})
}

func (s *Server) offsetFetch(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetFetchRequest), kmsg.NewPtrOffsetFetchResponse()
	if r.version >= 8 {
		for _, g := range req.Groups {
			resp.Groups = append(resp.Groups, s.fetchGroup(r, g))
		}
		return resp
	}
	// The older form is one group of the newer one, but for the names of its fields.
	ask := kmsg.NewOffsetFetchRequestGroup()
	ask.Group = req.Group
	if req.Topics != nil || r.version < 2 {
		ask.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		at := kmsg.NewOffsetFetchRequestGroupTopic()
		at.Topic, at.Partitions = t.Topic, t.Partitions
		ask.Topics = append(ask.Topics, at)
	}
	got := s.fetchGroup(r, ask)
	resp.ErrorCode = got.ErrorCode
	for _, t := range got.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) fetchGroup(r *request, ask kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group = ask.Group
	refused := r.authorize(auth.Describe, auth.Group, ask.Group)
	if rg.ErrorCode = errorCode(refused); refused != nil && r.version >= 2 {
		return rg
	}
	if ask.Topics == nil {
		all, err := s.o.Groups.CommittedAll(ask.Group)
		rg.ErrorCode = errorCode(err)
		for _, o := range all {
			if !r.may(auth.Describe, auth.Topic, o.Topic) {
				continue
			}
			if n := len(rg.Topics); n == 0 || rg.Topics[n-1].Topic != o.Topic {
				rt := kmsg.NewOffsetFetchResponseGroupTopic()
				rt.Topic = o.Topic
				rg.Topics = append(rg.Topics, rt)
			}
			rt := &rg.Topics[len(rg.Topics)-1]
			rt.Partitions = append(rt.Partitions, fetchedOffset(o.Partition, group.Offset{Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata}, nil))
		}
		return rg
	}
	for _, t := range ask.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		hidden := refused
		if hidden == nil {
			hidden = r.authorize(auth.Describe, auth.Topic, t.Topic)
		}
		for _, p := range t.Partitions {
			if hidden != nil {
				rt.Partitions = append(rt.Partitions, fetchedOffset(p, group.Offset{Offset: -1, LeaderEpoch: -1}, hidden))
				continue
			}
			o, ok, err := s.o.Groups.Committed(ask.Group, record.TopicPartition{Topic: t.Topic, Partition: p})
			if !ok {
				o = group.Offset{Offset: -1, LeaderEpoch: -1}
			}
			if err != nil {
				rg.ErrorCode = errorCode(err)
			}
			// Version 1 has no other place for the error.
			rt.Partitions = append(rt.Partitions, fetchedOffset(p, o, err))
		}
		rg.Topics = append(rg.Topics, rt)
	}
	return rg
}

func fetchedOffset(partition int32, o group.Offset, err error) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = partition, o.Offset, o.LeaderEpoch, &o.Metadata, errorCode(err)
	return rp
}
