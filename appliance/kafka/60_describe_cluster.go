package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// DescribeCluster, key 60, versions 0-2 (always flexible): the one broker. Version 1
// may ask for controllers instead (endpoint type 2), which have no listener here.
const describeClusterKey = 60

const endpointBrokers = 1

func init() {
	register(api{key: describeClusterKey, name: "DescribeCluster", needs: open, min: 0, max: 2, handle: (*Server).describeCluster})
}

func (s *Server) describeCluster(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeClusterRequest), kmsg.NewPtrDescribeClusterResponse()
	resp.ClusterID, resp.ControllerID, resp.EndpointType = s.o.ClusterID, nodeID, endpointBrokers
	if r.version >= 1 && req.EndpointType != endpointBrokers {
		err := fmt.Errorf("%w: this is a broker's listener", kerr.MismatchedEndpointType)
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	host, port := s.address(r)
	broker := kmsg.NewDescribeClusterResponseBroker()
	broker.NodeID, broker.Host, broker.Port = nodeID, host, port
	resp.Brokers = append(resp.Brokers, broker)
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = r.conn.login.session.Operations(auth.Cluster, auth.ClusterName)
	}
	return resp
}
