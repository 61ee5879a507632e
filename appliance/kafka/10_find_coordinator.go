package kafka

import (
	"cmp"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// FindCoordinator, key 10, versions 0-6 (flexible from 3, batched from 4): who
// coordinates a group or a transactional id. Always this broker.
//
// Version 0 must be in the range: old librdkafka turns lz4 and groups off without
// it, and kafka-go sends nothing else. Share groups (type 2, from 6) are refused.
const findCoordinatorKey = 10

const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
)

func init() {
	register(api{key: findCoordinatorKey, name: "FindCoordinator", needs: "DESCRIBE Group or TransactionalId", min: 0, max: 6, handle: (*Server).findCoordinator,
		notes: "always this broker, for groups and transactional ids"})
}

func (s *Server) findCoordinator(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.FindCoordinatorRequest), kmsg.NewPtrFindCoordinatorResponse()
	host, port := s.address(r)
	err := checkCoordinatorType(req.CoordinatorType)
	if r.version < 4 {
		err := cmp.Or(err, r.authorizeCoordinator(req.CoordinatorType, req.CoordinatorKey))
		resp.NodeID, resp.Host, resp.Port = nodeID, host, port
		if err != nil {
			resp.NodeID, resp.Host, resp.Port = -1, "", -1
		}
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		err := cmp.Or(err, r.authorizeCoordinator(req.CoordinatorType, key))
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.NodeID, c.Host, c.Port = key, nodeID, host, port
		if err != nil {
			c.NodeID, c.Host, c.Port = -1, "", -1
		}
		c.ErrorCode, c.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp
}

// authorizeCoordinator: who asks for a coordinator must be able to see what it coordinates.
func (r *request) authorizeCoordinator(typ int8, key string) error {
	if typ == coordinatorTransaction {
		return r.authorize(auth.Describe, auth.TransactionalID, key)
	}
	return r.authorize(auth.Describe, auth.Group, key)
}

func checkCoordinatorType(t int8) error {
	switch t {
	case coordinatorGroup, coordinatorTransaction:
		return nil
	}
	return fmt.Errorf("%w: there is no coordinator of type %d here", kerr.InvalidRequest, t)
}
