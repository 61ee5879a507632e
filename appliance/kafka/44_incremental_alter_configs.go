package kafka

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
)

// IncrementalAlterConfigs, key 44, versions 0-1 (flexible from 1, KIP-339): sets and
// deletes single configs of a topic or the broker, and adds to and takes from those that are
// lists. APPEND and SUBTRACT begin with the value in force, be it a default.
const incrementalAlterConfigsKey = 44

func init() {
	register(api{key: incrementalAlterConfigsKey, name: "IncrementalAlterConfigs", needs: "ALTER_CONFIGS Topic or Cluster", min: 0, max: 1, handle: (*Server).incrementalAlterConfigs,
		notes: "topics and the broker; internal topics are refused"})
}

func (s *Server) incrementalAlterConfigs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.IncrementalAlterConfigsRequest), kmsg.NewPtrIncrementalAlterConfigsResponse()
	named := map[resource]int{}
	for i := range req.Resources {
		named[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		want := &req.Resources[i]
		target := resource{want.ResourceType, want.ResourceName}
		err := s.alter(r, target, named[target], req.ValidateOnly, func(of configured, overrides map[string]string) (map[string]string, error) {
			return increment(of, overrides, want.Configs)
		})
		res := kmsg.NewIncrementalAlterConfigsResponseResource()
		res.ResourceType, res.ResourceName = want.ResourceType, want.ResourceName
		res.ErrorCode, res.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp
}

// increment changes overrides one by one.
func increment(of configured, overrides map[string]string, ops []kmsg.IncrementalAlterConfigsRequestResourceConfig) (map[string]string, error) {
	seen := map[string]bool{}
	for _, op := range ops {
		key, err := of.key(op.Name)
		switch {
		case seen[op.Name]:
			return nil, fmt.Errorf("%w: %s is named twice", kerr.InvalidRequest, op.Name)
		case err != nil:
			return nil, err
		case op.Value == nil && op.Op != kmsg.IncrementalAlterConfigOpDelete:
			return nil, fmt.Errorf("%w: %s has no value", kerr.InvalidRequest, op.Name)
		}
		seen[op.Name] = true
		if err := incrementOne(of, key, overrides, op); err != nil {
			return nil, err
		}
	}
	return overrides, nil
}

func incrementOne(of configured, key *topic.Key, overrides map[string]string, op kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	switch op.Op {
	case kmsg.IncrementalAlterConfigOpSet:
		overrides[op.Name] = *op.Value
	case kmsg.IncrementalAlterConfigOpDelete:
		delete(overrides, op.Name)
	case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
		if key.Type != "list" {
			return fmt.Errorf("%w: %s is no list to add to or take from, set it", topic.ErrInvalidConfig, op.Name)
		}
		items := listItems(of.value(op.Name))
		for _, item := range listItems(*op.Value) {
			items = slices.DeleteFunc(items, func(have string) bool { return have == item })
			if op.Op == kmsg.IncrementalAlterConfigOpAppend {
				items = append(items, item)
			}
		}
		overrides[op.Name] = strings.Join(items, ",")
	default:
		return fmt.Errorf("%w: %s has operation %d, want 0 (set) to 3 (subtract)", kerr.InvalidRequest, op.Name, op.Op)
	}
	return nil
}

// listItems splits the value of a list config; empty is no items.
func listItems(list string) (items []string) {
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
