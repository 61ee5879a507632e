package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// LeaveGroup, key 13, versions 0-5 (flexible from 4): a member goes, or an operator
// removes some (from 3, by group.instance.id too). The reason given from 5 is not
// kept. kafka-go sends 0, librdkafka 1.
const leaveGroupKey = 13

func init() {
	register(api{key: leaveGroupKey, name: "LeaveGroup", needs: "READ Group", min: 0, max: 5, handle: (*Server).leaveGroup, maxFrame: dataFrame})
}

func (s *Server) leaveGroup(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.LeaveGroupRequest), kmsg.NewPtrLeaveGroupResponse()
	var members []group.Leaving
	if r.version < 3 {
		members = []group.Leaving{{MemberID: req.MemberID}}
	}
	for _, m := range req.Members {
		members = append(members, group.Leaving{MemberID: m.MemberID, InstanceID: deref(m.InstanceID)})
	}
	each, err := []error(nil), r.authorize(auth.Read, auth.Group, req.Group)
	if err == nil {
		each, err = s.o.Groups.Leave(r.ctx, req.Group, members)
	}
	if r.version < 3 && err == nil {
		err = each[0]
	}
	resp.ErrorCode = errorCode(err)
	if err != nil {
		return resp
	}
	for i, m := range req.Members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ErrorCode = m.MemberID, m.InstanceID, errorCode(each[i])
		resp.Members = append(resp.Members, rm)
	}
	return resp
}
