package kafka

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// ListConfigResources, key 74, versions 0-1 (flexible, KIP-1142): what DescribeConfigs
// can be asked about. Version 0 knows client metrics alone, of which there are none; a
// list without types in 1 means all of them.
const listConfigResourcesKey = 74

func init() {
	register(api{key: listConfigResourcesKey, name: "ListConfigResources", needs: "DESCRIBE_CONFIGS Cluster", min: 0, max: 1, handle: (*Server).listConfigResources,
		notes: "topics and the broker; no client metrics, no groups"})
}

func (s *Server) listConfigResources(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.ListConfigResourcesRequest), kmsg.NewPtrListConfigResourcesResponse()
	if err := r.authorizeCluster(auth.DescribeConfigs); err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	if r.version == 0 {
		return resp
	}
	add := func(kind kmsg.ConfigResourceType, name string) {
		cr := kmsg.NewListConfigResourcesResponseConfigResource()
		cr.Name, cr.Type = name, int8(kind)
		resp.ConfigResources = append(resp.ConfigResources, cr)
	}
	types := req.ResourceTypes
	if len(types) == 0 {
		types = []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker)}
	}
	slices.Sort(types)
	for _, kind := range slices.Compact(types) {
		switch kind := kmsg.ConfigResourceType(kind); kind {
		case kmsg.ConfigResourceTypeTopic:
			for _, t := range s.o.Topics.Topics() {
				add(kind, t.Name())
			}
		case kmsg.ConfigResourceTypeBroker:
			add(kind, strconv.Itoa(nodeID))
		case kmsg.ConfigResourceTypeBrokerLogger, configResourceClientMetrics, configResourceGroup:
			// Kafka has them, but none is configured here.
		default:
			resp.ErrorCode = errorCode(fmt.Errorf("%w: resource type %d", kerr.UnsupportedVersion, kind))
			resp.ConfigResources = nil
			return resp
		}
	}
	return resp
}

// Of Kafka, beside those that kmsg names.
const (
	configResourceClientMetrics = 16
	configResourceGroup         = 32
)
