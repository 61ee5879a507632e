package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
)

// DescribeGroups, key 15, versions 0-6 (flexible from 5). A group that does not
// exist is Dead, and an error only from 6 on (KIP-1043).
const describeGroupsKey = 15

func init() {
	register(api{key: describeGroupsKey, name: "DescribeGroups", needs: "DESCRIBE Group", min: 0, max: 6, handle: (*Server).describeGroups})
}

func (s *Server) describeGroups(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeGroupsRequest), kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range req.Groups {
		d, err := group.Description{}, r.authorize(auth.Describe, auth.Group, id)
		if err == nil {
			d, err = s.o.Groups.Describe(id)
		}
		if errors.Is(err, group.ErrGroupIDNotFound) && r.version < 6 {
			err = nil
		}
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = id, errorCode(err), errorMessage(err)
		rg.State, rg.ProtocolType, rg.Protocol = d.State.String(), d.ProtocolType, d.Protocol
		if req.IncludeAuthorizedOperations {
			rg.AuthorizedOperations = r.conn.login.session.Operations(auth.Group, id)
		}
		for _, m := range d.Members {
			rm := kmsg.NewDescribeGroupsResponseGroupMember()
			rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.MemberID, nullable(m.InstanceID), m.ClientID, m.ClientHost
			rm.ProtocolMetadata, rm.MemberAssignment = m.Metadata, m.Assignment
			rg.Members = append(rg.Members, rm)
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}
