package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DeleteGroups, key 42, versions 0-2 (flexible from 2): removes groups without
// members and their offsets, durably.
const deleteGroupsKey = 42

func init() {
	register(api{key: deleteGroupsKey, name: "DeleteGroups", needs: "DELETE Group", min: 0, max: 2, handle: (*Server).deleteGroups})
}

func (s *Server) deleteGroups(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DeleteGroupsRequest), kmsg.NewPtrDeleteGroupsResponse()
	for _, id := range req.Groups {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		err := r.authorize(auth.Delete, auth.Group, id)
		if err == nil {
			err = s.o.Groups.Delete(id)
		}
		rg.Group, rg.ErrorCode = id, errorCode(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}
