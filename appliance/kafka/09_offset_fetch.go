package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// OffsetFetch, key 9, versions 1-10 (flexible from 6, several groups from 8): how far
// groups have read. Null topics (from 2) ask for all there is.
//
// A partition or a group that has never committed answers offset -1 without an error:
// GROUP_ID_NOT_FOUND breaks librdkafka, sarama and Java. kafka-go sends 1 and kafkajs
// 4 whatever is advertised. Who requires stable offsets (from 7) is told to come again
// while a transaction that would change one has not ended (KIP-447).
// Version 9 adds a member and its epoch, which the consumer protocol checks. 10 names topics by id; who
// asks for everything then does not see topics that are gone, for they have no id.
const offsetFetchKey = 9

func init() {
	register(api{key: offsetFetchKey, name: "OffsetFetch", needs: "DESCRIBE Group, DESCRIBE Topic", min: 1, max: 10, handle: (*Server).offsetFetch, maxFrame: dataFrame,
		notes: "offset -1 and no error where nothing was committed; topics by id (10); stable offsets (7)"})
}

func (s *Server) offsetFetch(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetFetchRequest), kmsg.NewPtrOffsetFetchResponse()
	byID := r.version >= offsetsByIDMin
	if r.version >= 8 {
		for _, g := range req.Groups {
			resp.Groups = append(resp.Groups, s.fetchGroup(r, g, byID, req.RequireStable))
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
	got := s.fetchGroup(r, ask, byID, req.RequireStable)
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

// checkMember refuses a member of the consumer protocol that is behind its group.
func (s *Server) checkMember(g *kmsg.OffsetFetchRequestGroup, version int16) error {
	if version < memberFetchMin {
		return nil
	}
	return s.o.Groups.CheckFetch(g.Group, deref(g.MemberID), g.MemberEpoch)
}

// memberFetchMin is where a member says its epoch.
const memberFetchMin = 9

func (s *Server) fetchGroup(r *request, ask kmsg.OffsetFetchRequestGroup, byID, stable bool) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group = ask.Group
	refused := r.authorize(auth.Describe, auth.Group, ask.Group)
	if rg.ErrorCode = errorCode(refused); refused != nil && r.version >= 2 {
		return rg
	}
	if err := s.checkMember(&ask, r.version); err != nil {
		rg.ErrorCode = errorCode(err)
		return rg
	}
	if ask.Topics == nil {
		s.fetchAllOffsets(r, &rg, byID, stable)
		return rg
	}
	for _, t := range ask.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		if rt.Topic, rt.TopicID = t.Topic, t.TopicID; byID {
			rt.Topic = s.topicNameOf(t.TopicID)
		}
		hidden := refused
		if hidden == nil {
			hidden = r.authorizeKnown(auth.Describe, rt.Topic)
		}
		for _, p := range t.Partitions {
			if hidden != nil {
				rt.Partitions = append(rt.Partitions, fetchedOffset(p, noOffset, hidden))
				continue
			}
			if byID && rt.Topic == "" {
				rt.Partitions = append(rt.Partitions, fetchedOffset(p, noOffset, errUnknownID))
				continue
			}
			o, ok, err := s.o.Groups.Committed(ask.Group, record.TopicPartition{Topic: rt.Topic, Partition: p})
			if !ok {
				o = noOffset
			}
			if err != nil {
				rg.ErrorCode = errorCode(err)
			} else if err = s.unstable(ask.Group, rt.Topic, p, stable); err != nil {
				o = noOffset
			}
			// Version 1 has no other place for the error.
			rt.Partitions = append(rt.Partitions, fetchedOffset(p, o, err))
		}
		rg.Topics = append(rg.Topics, rt)
	}
	return rg
}

// fetchAllOffsets answers for a group of which everything is asked.
func (s *Server) fetchAllOffsets(r *request, rg *kmsg.OffsetFetchResponseGroup, byID, stable bool) {
	all, err := s.o.Groups.CommittedAll(rg.Group)
	rg.ErrorCode = errorCode(err)
	for _, o := range all {
		if !r.may(auth.Describe, auth.Topic, o.Topic) {
			continue
		}
		var id topic.ID
		if t := s.o.Topics.Topic(o.Topic); t != nil {
			id = t.ID()
		} else if byID {
			continue
		}
		if n := len(rg.Topics); n == 0 || rg.Topics[n-1].Topic != o.Topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic, rt.TopicID = o.Topic, id
			rg.Topics = append(rg.Topics, rt)
		}
		rt := &rg.Topics[len(rg.Topics)-1]
		at := group.Offset{Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata}
		err := s.unstable(rg.Group, o.Topic, o.Partition, stable)
		if err != nil {
			at = noOffset
		}
		rt.Partitions = append(rt.Partitions, fetchedOffset(o.Partition, at, err))
	}
}

// unstable is an error if an offset is asked for that must be stable and is not.
func (s *Server) unstable(group, name string, partition int32, stable bool) error {
	if !stable {
		return nil
	}
	is, err := s.o.Groups.Unstable(group, record.TopicPartition{Topic: name, Partition: partition})
	if err == nil && is {
		err = kerr.UnstableOffsetCommit
	}
	return err
}

// noOffset is what a partition has that was never committed.
var noOffset = group.Offset{Offset: -1, LeaderEpoch: -1}

func fetchedOffset(partition int32, o group.Offset, err error) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = partition, o.Offset, o.LeaderEpoch, &o.Metadata, errorCode(err)
	return rp
}
