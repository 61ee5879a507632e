package kafka

import (
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// JoinGroup, key 11, versions 0-9 (flexible from 6): membership in a group's next
// generation. The answer comes when the generation begins, so this request may hold
// its connection for as long as the rebalance timeout; clients use one of its own.
//
// Version 0 must be in the range: GSSAPI of old librdkafka looks for it.
//
// Version notes:
//   - 1 has a rebalance timeout; before, the session timeout is meant
//   - 4 gives new members an id to join again with (KIP-394)
//   - 5 has group.instance.id, static membership (KIP-345)
//   - 7 says the protocol type in the answer
//   - 9 lets a static leader skip the assignment (KIP-814)
const joinGroupKey = 11

func init() {
	register(api{key: joinGroupKey, name: "JoinGroup", needs: "READ Group", min: 0, max: 9, handle: (*Server).joinGroup, waits: true, maxFrame: dataFrame,
		notes: "static members, KIP-394 from 4, every assignor including cooperative ones"})
}

func (s *Server) joinGroup(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.JoinGroupRequest), kmsg.NewPtrJoinGroupResponse()
	ev := group.JoinGroup{
		MemberID: req.MemberID, InstanceID: deref(req.InstanceID), ClientID: r.clientID, ClientHost: clientHost(r.remoteAddr()),
		ProtocolType: req.ProtocolType, SessionTimeout: millis(req.SessionTimeoutMillis), RebalanceTimeout: millis(req.RebalanceTimeoutMillis),
		RequireKnownMember: r.version >= 4, CanSkipAssignment: r.version >= 9,
	}
	if r.version < 1 {
		ev.RebalanceTimeout = ev.SessionTimeout
	}
	for _, p := range req.Protocols {
		// A copy: the bytes outlive the request, whose frame may be far larger.
		ev.Protocols = append(ev.Protocols, group.Protocol{Name: p.Name, Metadata: slices.Clone(p.Metadata)})
	}
	j, err := group.Joined{}, r.authorize(auth.Read, auth.Group, req.Group)
	if err == nil {
		j, err = s.o.Groups.Join(r.ctx, req.Group, ev)
	}
	resp.ErrorCode, resp.Generation, resp.MemberID = errorCode(err), j.Generation, j.MemberID
	resp.ProtocolType, resp.Protocol = nullable(j.ProtocolType), nullable(j.Protocol)
	resp.LeaderID, resp.SkipAssignment = j.Leader, j.SkipAssignment
	for _, m := range j.Members {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.MemberID, nullable(m.InstanceID), m.Metadata
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// clientHost is the client's address as Kafka's tools show it.
func clientHost(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return "/" + tcp.IP.String()
	}
	return "/" + a.String()
}
