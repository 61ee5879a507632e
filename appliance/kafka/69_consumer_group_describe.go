package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// ConsumerGroupDescribe, key 69, versions 0-1 (flexible, KIP-848): groups of the consumer
// protocol with what each member may hold and is to hold. A classic group is
// GROUP_ID_NOT_FOUND here; admin clients then ask DescribeGroups.
const consumerGroupDescribeKey = 69

// Which protocol a member speaks (version 1), in a group that goes from one to the other.
const (
	classicMemberType  = 0
	consumerMemberType = 1
)

func init() {
	register(api{key: consumerGroupDescribeKey, name: "ConsumerGroupDescribe", needs: "DESCRIBE Group; DESCRIBE Topic", min: 0, max: 1, handle: (*Server).consumerGroupDescribe})
}

func (s *Server) consumerGroupDescribe(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ConsumerGroupDescribeRequest), kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, id := range req.Groups {
		d, err := group.ConsumerDescription{State: group.Dead}, r.authorize(auth.Describe, auth.Group, id)
		if err == nil {
			d, err = s.o.Groups.DescribeConsumers(id)
		}
		if err == nil && !r.maySee(&d) {
			d, err = group.ConsumerDescription{State: group.Dead}, fmt.Errorf("%w: the group consumes topics that the client may not describe", kerr.TopicAuthorizationFailed)
		}
		rg := kmsg.NewConsumerGroupDescribeResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = id, errorCode(err), errorMessage(err)
		if rg.State = d.State.String(); err == nil {
			rg.Epoch, rg.AssignmentEpoch, rg.AssignorName = d.Epoch, d.TargetEpoch, d.Assignor
			if req.IncludeAuthorizedOperations {
				rg.AuthorizedOperations = r.conn.login.session.Operations(auth.Group, id)
			}
		}
		for i := range d.Members {
			m := &d.Members[i]
			rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
			rm.MemberID, rm.InstanceID, rm.RackID, rm.MemberEpoch = m.MemberID, nullable(m.InstanceID), nullable(m.Rack), m.Epoch
			rm.ClientID, rm.ClientHost, rm.SubscribedTopics, rm.SubscribedTopicRegex = m.ClientID, m.ClientHost, m.Topics, nullable(m.Regex)
			rm.Assignment, rm.TargetAssignment, rm.MemberType = s.namedShare(m.Assigned), s.namedShare(m.Target), consumerMemberType
			if m.Classic {
				rm.MemberType = classicMemberType
			}
			rg.Members = append(rg.Members, rm)
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

// maySee reports whether the client may know of all topics that members hold.
func (r *request) maySee(d *group.ConsumerDescription) bool {
	ok := true
	for i := range d.Members {
		for _, share := range []group.Share{d.Members[i].Assigned, d.Members[i].Target} {
			share.Topics(func(id group.TopicID, _ []int32) {
				name := r.conn.s.topicNameOf(id)
				ok = ok && (name == "" || r.may(auth.Describe, auth.Topic, name))
			})
		}
	}
	return ok
}

func (s *Server) namedShare(share group.Share) kmsg.Assignment {
	a := kmsg.NewAssignment()
	share.Topics(func(id group.TopicID, partitions []int32) {
		t := kmsg.NewAssignmentTopicPartition()
		t.TopicID, t.Topic, t.Partitions = id, s.topicNameOf(id), partitions
		a.TopicPartitions = append(a.TopicPartitions, t)
	})
	return a
}
