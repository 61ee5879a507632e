package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// OffsetCommit, key 8, versions 2-10 (flexible from 8): stores how far a group has
// read. Answered once the offsets are on stable storage.
//
// Version 10 names topics by id. Version 9 is what
// KIP-848 clients want to see; its errors are the same for classic groups. The
// retention time of 2-4 is ignored, as Kafka does since 2.1: offsets expire by
// offsets.retention.minutes. kafka-go sends 2, kafkajs 5, librdkafka 7 or 9.
//
// A consumer that assigns partitions to itself (kcat without -G, sarama's offset
// manager) commits with generation -1 and no member id; that is for groups without members.
const offsetCommitKey = 8

func init() {
	register(api{key: offsetCommitKey, name: "OffsetCommit", needs: "READ Group, READ Topic", min: 2, max: 10, handle: (*Server).offsetCommit, maxFrame: dataFrame,
		notes: "answered after the fsync; topics by id (10); the request's retention time is ignored"})
}

func (s *Server) offsetCommit(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.OffsetCommitRequest), kmsg.NewPtrOffsetCommitResponse()
	c := group.Commit{MemberID: req.MemberID, InstanceID: deref(req.InstanceID), Generation: req.Generation}
	refused, unknown := map[string]error{}, record.ErrUnknownTopicOrPartition
	if r.version >= offsetsByIDMin {
		s.nameTopics(req)
		unknown = errUnknownID
	}
	for _, t := range req.Topics {
		if err := r.authorizeKnown(auth.Read, t.Topic); err != nil {
			refused[t.Topic] = err
			continue
		}
		for _, p := range t.Partitions {
			tp := record.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if id, ok := s.topicIDOf(tp, t.TopicID); ok {
				c.Offsets = append(c.Offsets, group.CommitOffset{
					TopicPartition: tp, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: deref(p.Metadata), TopicID: id,
				})
			}
		}
	}
	each, err := []error(nil), r.authorize(auth.Read, auth.Group, req.Group)
	if err == nil {
		each, err = s.o.Groups.Commit(req.Group, c)
	}
	i := 0 // into what was committed: the same partitions in the same order
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			switch known := i < len(c.Offsets) && c.Offsets[i].TopicPartition == (record.TopicPartition{Topic: t.Topic, Partition: p.Partition}); {
			case err != nil:
				rp.ErrorCode = errorCode(err)
			case refused[t.Topic] != nil:
				rp.ErrorCode = errorCode(refused[t.Topic])
			case !known && t.Topic != "":
				rp.ErrorCode = errorCode(record.ErrUnknownTopicOrPartition)
			case !known:
				rp.ErrorCode = errorCode(unknown)
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

// offsetsByIDMin is the version of OffsetCommit and OffsetFetch that names topics by id.
const offsetsByIDMin = 10

// nameTopics gives the topics that are named by id their names, "" where there is no such topic.
func (s *Server) nameTopics(req *kmsg.OffsetCommitRequest) {
	for i := range req.Topics {
		req.Topics[i].Topic = s.topicNameOf(req.Topics[i].TopicID)
	}
}

// authorizeKnown is authorize for a topic that was named by id: "" is none.
func (r *request) authorizeKnown(op auth.Operation, name string) error {
	if name == "" && r.version >= offsetsByIDMin {
		return nil
	}
	return r.authorize(op, auth.Topic, name)
}

// topicIDOf is the id of a partition's topic, of which the client may have said which
// it means. ok is false when there is no such partition.
func (s *Server) topicIDOf(tp record.TopicPartition, said topic.ID) (id topic.ID, ok bool) {
	t := s.o.Topics.Topic(tp.Topic)
	if t == nil || said != (topic.ID{}) && said != t.ID() {
		return id, false
	}
	return t.ID(), tp.Partition >= 0 && int(tp.Partition) < len(t.Partitions())
}

func (s *Server) topicNameOf(id topic.ID) string {
	if t := s.o.Topics.ByID(id); t != nil {
		return t.Name()
	}
	return ""
}

// deref is the string, or "" for null.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullable is null for "".
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
