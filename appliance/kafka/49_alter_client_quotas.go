package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/quota"
)

// AlterClientQuotas, key 49, versions 0-1 (flexible from 1, KIP-546): sets and removes
// quotas. They are durable when they are answered and hold for what comes after.
const alterClientQuotasKey = 49

func init() {
	register(api{key: alterClientQuotasKey, name: "AlterClientQuotas", needs: "ALTER_CONFIGS Cluster", min: 0, max: 1, handle: (*Server).alterClientQuotas,
		notes: "producer_byte_rate, consumer_byte_rate, request_percentage, controller_mutation_rate, connection_creation_rate"})
}

func (s *Server) alterClientQuotas(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.AlterClientQuotasRequest), kmsg.NewPtrAlterClientQuotasResponse()
	refused := r.authorizeCluster(auth.AlterConfigs)
	for i := range req.Entries {
		want := &req.Entries[i]
		err := refused
		if err == nil {
			err = s.alterQuota(want, req.ValidateOnly)
		}
		re := kmsg.NewAlterClientQuotasResponseEntry()
		re.ErrorCode, re.ErrorMessage = errorCode(err), errorMessage(err)
		for _, e := range want.Entity {
			rn := kmsg.NewAlterClientQuotasResponseEntryEntity()
			rn.Type, rn.Name = e.Type, e.Name
			re.Entity = append(re.Entity, rn)
		}
		resp.Entries = append(resp.Entries, re)
	}
	return resp
}

func (s *Server) alterQuota(want *kmsg.AlterClientQuotasRequestEntry, validateOnly bool) error {
	var e quota.Entity
	for _, part := range want.Entity {
		n := nameOf(&e, part.Type)
		switch {
		case n == nil:
			return fmt.Errorf("%w: entity type %q; there are user, client-id and ip", kerr.UnsupportedVersion, part.Type)
		case n.Given:
			return fmt.Errorf("%w: entity type %s is named twice", kerr.InvalidRequest, part.Type)
		case part.Name == nil:
			*n = quota.DefaultName
		default:
			*n = quota.Named(*part.Name)
		}
	}
	var changes []quota.Change
	seen := map[quota.Kind]bool{}
	for _, op := range want.Ops {
		kind, err := quota.KindOf(op.Key)
		if err == nil && seen[kind] {
			err = fmt.Errorf("%w: %s is named twice", kerr.InvalidRequest, op.Key)
		}
		if err != nil {
			return err
		}
		seen[kind] = true
		changes = append(changes, quota.Change{Kind: kind, Value: op.Value, Remove: op.Remove})
	}
	if err := s.o.Quotas.Alter(e, changes, validateOnly); err != nil || validateOnly {
		return err
	}
	s.o.Log.Info("quota altered", "entity", e.String())
	return nil
}
