package kafka

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// DescribeTopicPartitions, key 75, version 0 (flexible, KIP-966): topics with their
// partitions, page by page, each where the cursor of the one before says. Topics come
// sorted by name, none named means all. kafka-topics --describe and kafka-get-offsets
// of Kafka 4 ask this, and fail when eligible_leader_replicas is null.
const describeTopicPartitionsKey = 75

func init() {
	register(api{key: describeTopicPartitionsKey, name: "DescribeTopicPartitions", needs: "DESCRIBE Topic", min: 0, max: 0, handle: (*Server).describeTopicPartitions,
		notes: "pages of at most `max.request.partition.size.limit` partitions"})
}

func (s *Server) describeTopicPartitions(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeTopicPartitionsRequest), kmsg.NewPtrDescribeTopicPartitionsResponse()
	room := s.o.MaxDescribedPartitions
	if limit := int(req.ResponsePartitionLimit); limit > 0 {
		room = min(room, limit)
	}
	for _, name := range s.topicsFrom(r, req) {
		t, first := s.o.Topics.Topic(name), int32(0)
		if c := req.Cursor; c != nil && c.Topic == name {
			first = max(0, c.Partition)
		}
		if room == 0 {
			resp.NextCursor = cursorAt(name, first)
			return resp
		}
		if refused := r.authorize(auth.Describe, auth.Topic, name); refused != nil {
			rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
			rt.Topic, rt.ErrorCode = &name, errorCode(refused)
			resp.Topics = append(resp.Topics, rt)
			continue
		}
		if t == nil {
			rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
			err := topic.CheckName(name)
			if err == nil {
				err = record.ErrUnknownTopicOrPartition
			}
			rt.Topic, rt.ErrorCode = &name, errorCode(err)
			resp.Topics = append(resp.Topics, rt)
			continue
		}
		rt, next := describePartitions(r, t, first, room)
		resp.Topics = append(resp.Topics, rt)
		if next >= 0 {
			resp.NextCursor = cursorAt(name, next)
			return resp
		}
		room -= len(rt.Partitions)
	}
	return resp
}

// topicsFrom is the names asked for, sorted, from the cursor's on.
func (s *Server) topicsFrom(r *request, req *kmsg.DescribeTopicPartitionsRequest) (names []string) {
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(req.Topics) == 0 {
		for _, t := range s.o.Topics.Topics() {
			if r.may(auth.Describe, auth.Topic, t.Name()) {
				names = append(names, t.Name())
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return strings.Compare(name, req.Cursor.Topic) < 0 })
	}
	return names
}

// describePartitions describes at most so many partitions; next is the first that is left, -1 if none is.
func describePartitions(r *request, t *topic.Topic, first int32, room int) (rt kmsg.DescribeTopicPartitionsResponseTopic, next int32) {
	rt = kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = kmsg.StringPtr(t.Name()), t.ID(), t.Internal()
	rt.AuthorizedOperations = r.conn.login.session.Operations(auth.Topic, t.Name())
	replicas, none := []int32{nodeID}, []int32{}
	ps := t.Partitions()
	for i := int(first); i < len(ps); i++ {
		if len(rt.Partitions) == room {
			return rt, int32(i)
		}
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		rp.Partition, rp.LeaderID, rp.LeaderEpoch = int32(i), nodeID, ps[i].LeaderEpoch()
		rp.Replicas, rp.ISR, rp.OfflineReplicas, rp.EligibleLeaderReplicas, rp.LastKnownELR = replicas, replicas, none, none, none
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, -1
}

func cursorAt(name string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = name, partition
	return &c
}
