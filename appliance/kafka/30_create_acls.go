package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// CreateAcls, key 30, versions 1-3 (flexible from 2): makes access rules, each by
// itself. One that exists is a success. They are durable, and hold for every connection,
// when the answer is sent.
const createACLsKey = 30

func init() {
	register(api{key: createACLsKey, name: "CreateAcls", min: 1, max: 3, handle: (*Server).createACLs, needs: "ALTER Cluster",
		notes: "names of MQTT topics are written mqtt:NAME"})
}

func (s *Server) createACLs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.CreateACLsRequest), kmsg.NewPtrCreateACLsResponse()
	refused := r.authorizeCluster(auth.Alter)
	for _, c := range req.Creations {
		rule := auth.Rule{
			Type: auth.ResourceType(c.ResourceType), Name: c.ResourceName, Pattern: auth.Pattern(c.ResourcePatternType),
			Principal: auth.Principal(c.Principal), Host: c.Host, Operation: auth.Operation(c.Operation), Permission: auth.Permission(c.PermissionType),
		}
		err := refused
		if err == nil {
			err = invalidRule(rule.Check())
		}
		if err == nil {
			err = s.o.Auth.AddRules([]auth.Rule{rule})
		}
		if err == nil {
			s.o.Log.Info("access rule added", "rule", rule.String(), "by", string(r.conn.login.session.Principal()))
			r.audit(auth.RulesChanged, auth.Create, rule.Type, rule.Name, rule.String())
		}
		result := kmsg.NewCreateACLsResponseResult()
		result.ErrorCode, result.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Results = append(resp.Results, result)
	}
	return resp
}
