package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// SyncGroup, key 14, versions 0-5 (flexible from 4): a member asks for its
// assignment, which the leader brings for all. Answered when the assignment is on
// stable storage, so that a restart of the broker is no rebalance. From 5 the
// protocol is checked against the group's.
const syncGroupKey = 14

func init() {
	register(api{key: syncGroupKey, name: "SyncGroup", needs: "READ Group", min: 0, max: 5, handle: (*Server).syncGroup, waits: true, maxFrame: dataFrame,
		notes: "assignments survive a restart of the broker"})
}

func (s *Server) syncGroup(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.SyncGroupRequest), kmsg.NewPtrSyncGroupResponse()
	ev := group.SyncGroup{
		MemberID: req.MemberID, InstanceID: deref(req.InstanceID), Generation: req.Generation,
		ProtocolType: deref(req.ProtocolType), Protocol: deref(req.Protocol), Assignments: make(map[string][]byte, len(req.GroupAssignment)),
	}
	for _, a := range req.GroupAssignment {
		ev.Assignments[a.MemberID] = slices.Clone(a.MemberAssignment) // outlives the frame
	}
	got, err := group.Synced{}, r.authorize(auth.Read, auth.Group, req.Group)
	if err == nil {
		got, err = s.o.Groups.Sync(r.ctx, req.Group, ev)
	}
	resp.ErrorCode = errorCode(err)
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = nullable(got.ProtocolType), nullable(got.Protocol), got.Assignment
	return resp
}
