package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DescribeAcls, key 29, versions 1-3 (flexible from 2): the access rules that a filter
// finds. Pattern type MATCH (KIP-290) finds all that apply to a resource.
const describeACLsKey = 29

func init() {
	register(api{key: describeACLsKey, name: "DescribeAcls", min: 1, max: 3, handle: (*Server).describeACLs, needs: "DESCRIBE Cluster"})
}

func (s *Server) describeACLs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeACLsRequest), kmsg.NewPtrDescribeACLsResponse()
	f := auth.Filter{
		Type: auth.ResourceType(req.ResourceType), Name: req.ResourceName, Pattern: auth.Pattern(req.ResourcePatternType),
		Principal: req.Principal, Host: req.Host, Operation: auth.Operation(req.Operation), Permission: auth.Permission(req.PermissionType),
	}
	err := r.authorizeCluster(auth.Describe)
	if err == nil {
		err = invalidRule(f.Check())
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	for _, rule := range s.o.Auth.Rules(f) { // sorted: those of one resource are neighbours
		n := len(resp.Resources)
		if n == 0 || !sameResource(&resp.Resources[n-1], rule) {
			res := kmsg.NewDescribeACLsResponseResource()
			res.ResourceType, res.ResourceName = kmsg.ACLResourceType(rule.Type), rule.Name
			res.ResourcePatternType = kmsg.ACLResourcePatternType(rule.Pattern)
			resp.Resources = append(resp.Resources, res)
			n++
		}
		acl := kmsg.NewDescribeACLsResponseResourceACL()
		acl.Principal, acl.Host = string(rule.Principal), rule.Host
		acl.Operation, acl.PermissionType = kmsg.ACLOperation(rule.Operation), kmsg.ACLPermissionType(rule.Permission)
		resp.Resources[n-1].ACLs = append(resp.Resources[n-1].ACLs, acl)
	}
	return resp
}

func sameResource(res *kmsg.DescribeACLsResponseResource, rule auth.Rule) bool {
	return auth.ResourceType(res.ResourceType) == rule.Type && res.ResourceName == rule.Name && auth.Pattern(res.ResourcePatternType) == rule.Pattern
}

// invalidRule is the code for a rule or filter that cannot be.
func invalidRule(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", kerr.InvalidRequest, err)
}
