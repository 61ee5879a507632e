package kafka

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// ListGroups, key 16, versions 0-5 (flexible from 3): filters by state from 4 and by
// type from 5: classic or consumer (KIP-848).
const listGroupsKey = 16

const (
	classicGroup  = "classic"
	consumerGroup = "consumer"
)

func init() {
	register(api{key: listGroupsKey, name: "ListGroups", needs: "DESCRIBE Cluster or Group; others are left out", min: 0, max: 5, handle: (*Server).listGroups})
}

func (s *Server) listGroups(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ListGroupsRequest), kmsg.NewPtrListGroupsResponse()
	all, err := s.o.Groups.List()
	resp.ErrorCode = errorCode(err)
	everything := r.may(auth.Describe, auth.Cluster, auth.ClusterName)
	for _, d := range all {
		if !everything && !r.may(auth.Describe, auth.Group, d.Group) {
			continue
		}
		groupType := classicGroup
		if d.Consumer {
			groupType = consumerGroup
		}
		if !matches(req.StatesFilter, d.State.String()) || !matches(req.TypesFilter, groupType) {
			continue
		}
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = d.Group, d.ProtocolType, d.State.String(), groupType
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

// matches reports whether the filter has the name; an empty one has all.
func matches(filter []string, name string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, name) })
}
