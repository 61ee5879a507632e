package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DeleteAcls, key 31, versions 1-3 (flexible from 2): removes the access rules that
// filters find, and says which they were.
const deleteACLsKey = 31

func init() {
	register(api{key: deleteACLsKey, name: "DeleteAcls", min: 1, max: 3, handle: (*Server).deleteACLs, needs: "ALTER Cluster"})
}

func (s *Server) deleteACLs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DeleteACLsRequest), kmsg.NewPtrDeleteACLsResponse()
	refused := r.authorizeCluster(auth.Alter)
	for _, c := range req.Filters {
		f := auth.Filter{
			Type: auth.ResourceType(c.ResourceType), Name: c.ResourceName, Pattern: auth.Pattern(c.ResourcePatternType),
			Principal: c.Principal, Host: c.Host, Operation: auth.Operation(c.Operation), Permission: auth.Permission(c.PermissionType),
		}
		result := kmsg.NewDeleteACLsResponseResult()
		err := refused
		if err == nil {
			err = invalidRule(f.Check())
		}
		var removed []auth.Rule
		if err == nil {
			removed, err = s.o.Auth.DeleteRules(f)
		}
		for _, rule := range removed {
			s.o.Log.Info("access rule removed", "rule", rule.String(), "by", string(r.conn.login.session.Principal()))
			r.audit(auth.RulesChanged, auth.Delete, rule.Type, rule.Name, rule.String())
			result.MatchingACLs = append(result.MatchingACLs, removedACL(rule))
		}
		result.ErrorCode, result.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Results = append(resp.Results, result)
	}
	return resp
}

func removedACL(rule auth.Rule) kmsg.DeleteACLsResponseResultMatchingACL {
	acl := kmsg.NewDeleteACLsResponseResultMatchingACL()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = kmsg.ACLResourceType(rule.Type), rule.Name, kmsg.ACLResourcePatternType(rule.Pattern)
	acl.Principal, acl.Host = string(rule.Principal), rule.Host
	acl.Operation, acl.PermissionType = kmsg.ACLOperation(rule.Operation), kmsg.ACLPermissionType(rule.Permission)
	return acl
}
