package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// Heartbeat, key 12, versions 0-4 (flexible from 4): keeps a member's session
// alive. REBALANCE_IN_PROGRESS tells the member to join again. From 3 it has
// group.instance.id; kafka-go sends 0 whatever is advertised.
const heartbeatKey = 12

func init() {
	register(api{key: heartbeatKey, name: "Heartbeat", needs: "READ Group", min: 0, max: 4, handle: (*Server).heartbeat, maxFrame: dataFrame})
}

func (s *Server) heartbeat(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.HeartbeatRequest), kmsg.NewPtrHeartbeatResponse()
	if err := r.authorize(auth.Read, auth.Group, req.Group); err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	resp.ErrorCode = errorCode(s.o.Groups.Heartbeat(r.ctx, req.Group, group.Heartbeat{
		MemberID: req.MemberID, InstanceID: deref(req.InstanceID), Generation: req.Generation,
	}))
	return resp
}
