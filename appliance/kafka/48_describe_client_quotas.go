package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/quota"
)

// DescribeClientQuotas, key 48, versions 0-1 (flexible from 1, KIP-546): the quotas set
// on entities that the components of the filter match. A strict filter wants entities
// of exactly these types; no component and not strict is everything.
const describeClientQuotasKey = 48

func init() {
	register(api{key: describeClientQuotasKey, name: "DescribeClientQuotas", needs: "DESCRIBE_CONFIGS Cluster", min: 0, max: 1, handle: (*Server).describeClientQuotas,
		notes: "user, client-id and ip"})
}

// The types of quota entities.
const (
	entityUser     = "user"
	entityClientID = "client-id"
	entityIP       = "ip"
)

// nameOf is where an entity has its name of a type; nil for a type that does not exist.
func nameOf(e *quota.Entity, entityType string) *quota.Name {
	switch entityType {
	case entityUser:
		return &e.User
	case entityClientID:
		return &e.ClientID
	case entityIP:
		return &e.IP
	}
	return nil
}

func (s *Server) describeClientQuotas(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeClientQuotasRequest), kmsg.NewPtrDescribeClientQuotasResponse()
	err := r.authorizeCluster(auth.DescribeConfigs)
	if err == nil {
		err = checkQuotaFilter(req)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	for _, entry := range s.o.Quotas.All() {
		if !quotaMatches(entry.Entity, req) {
			continue
		}
		re := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, entityType := range []string{entityUser, entityClientID, entityIP} {
			if n := nameOf(&entry.Entity, entityType); n.Given {
				e := kmsg.NewDescribeClientQuotasResponseEntryEntity()
				if e.Type = entityType; !n.Default {
					e.Name = &n.Value
				}
				re.Entity = append(re.Entity, e)
			}
		}
		for kind := range quota.Kinds {
			if v, ok := entry.Values[kind]; ok {
				rv := kmsg.NewDescribeClientQuotasResponseEntryValue()
				rv.Key, rv.Value = kind.String(), v
				re.Values = append(re.Values, rv)
			}
		}
		resp.Entries = append(resp.Entries, re)
	}
	return resp
}

func checkQuotaFilter(req *kmsg.DescribeClientQuotasRequest) error {
	seen := map[string]bool{}
	for _, c := range req.Components {
		switch {
		case nameOf(&quota.Entity{}, c.EntityType) == nil:
			return fmt.Errorf("%w: entity type %q; there are user, client-id and ip", kerr.UnsupportedVersion, c.EntityType)
		case seen[c.EntityType]:
			return fmt.Errorf("%w: entity type %s is named twice", kerr.InvalidRequest, c.EntityType)
		case c.MatchType < kmsg.QuotasMatchTypeExact || c.MatchType > kmsg.QuotasMatchTypeAny, (c.MatchType == kmsg.QuotasMatchTypeExact) != (c.Match != nil):
			return fmt.Errorf("%w: match type %d of %s, with a name for 0 alone", kerr.InvalidRequest, c.MatchType, c.EntityType)
		}
		seen[c.EntityType] = true
	}
	if seen[entityIP] && len(seen) > 1 {
		return fmt.Errorf("%w: an ip goes with no other entity", kerr.InvalidRequest)
	}
	return nil
}

func quotaMatches(e quota.Entity, req *kmsg.DescribeClientQuotasRequest) bool {
	for _, c := range req.Components {
		n := nameOf(&e, c.EntityType)
		switch {
		case !n.Given,
			c.MatchType == kmsg.QuotasMatchTypeExact && (n.Default || n.Value != *c.Match),
			c.MatchType == kmsg.QuotasMatchTypeDefault && !n.Default:
			return false
		}
		*n = quota.Name{}
	}
	return !req.Strict || e == quota.Entity{}
}
