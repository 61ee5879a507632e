package kafka

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// ConsumerGroupHeartbeat, key 68, versions 0-1 (flexible, KIP-848): all that a member of
// the consumer protocol does: join, keep alive, say what it holds, hear what it may
// hold, leave. Every version, clients that know 68 want the whole protocol, so 69 and
// the member epochs of OffsetCommit 9 and OffsetFetch 9 go with it.
//
// Version 1 has a regular expression to subscribe by (RE2), and the member makes its
// own id; librdkafka sends exactly this one.
const consumerGroupHeartbeatKey = 68

func init() {
	register(api{key: consumerGroupHeartbeatKey, name: "ConsumerGroupHeartbeat", needs: "READ Group, DESCRIBE Topic", min: 0, max: 1, handle: (*Server).consumerGroupHeartbeat, maxFrame: dataFrame,
		notes: "assignors uniform and range; regular expressions (1); state survives a restart"})
}

func (s *Server) consumerGroupHeartbeat(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ConsumerGroupHeartbeatRequest), kmsg.NewPtrConsumerGroupHeartbeatResponse()
	ev := group.ConsumerHeartbeat{
		MemberID: req.MemberID, Epoch: req.MemberEpoch, InstanceID: deref(req.InstanceID), Rack: deref(req.RackID),
		ClientID: r.clientID, ClientHost: clientHost(r.remoteAddr()), Rebalance: millis(req.RebalanceTimeoutMillis),
		Topics: req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor, OwnedSaid: req.Topics != nil,
	}
	if req.RebalanceTimeoutMillis < 0 {
		ev.Rebalance = -time.Millisecond
	}
	var owned []group.Held
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			owned = append(owned, group.Held{Topic: t.TopicID, Partition: p})
		}
	}
	ev.Owned = group.NewShare(owned...)
	if ev.MemberID == "" && ev.Epoch == 0 && r.version == 0 {
		ev.MemberID = rand.Text()
	}
	var beat group.Beat
	err := r.authorizeConsumer(req)
	if err == nil && ev.MemberID == "" {
		err = fmt.Errorf("%w: no member id", group.ErrInvalidRequest)
	}
	if err == nil {
		beat, err = s.o.Groups.ConsumerHeartbeat(req.Group, ev)
	}
	resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
	if err != nil {
		return resp
	}
	resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis = &beat.MemberID, beat.Epoch, int32(beat.Interval.Milliseconds())
	if beat.Said {
		a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		a.Topics = []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}
		beat.Assigned.Topics(func(id group.TopicID, partitions []int32) {
			t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			t.TopicID, t.Partitions = id, partitions
			a.Topics = append(a.Topics, t)
		})
		resp.Assignment = &a
	}
	return resp
}

// authorizeConsumer asks for the group and for the topics that are named. What a regular
// expression finds is asked for when it is read.
func (r *request) authorizeConsumer(req *kmsg.ConsumerGroupHeartbeatRequest) error {
	if err := r.authorize(auth.Read, auth.Group, req.Group); err != nil {
		return err
	}
	for _, name := range req.SubscribedTopicNames {
		if err := r.authorize(auth.Describe, auth.Topic, name); err != nil {
			return err
		}
	}
	return nil
}
