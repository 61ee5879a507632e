package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/topic"
)

// CreatePartitions, key 37, versions 0-3 (flexible from 2): gives topics more
// partitions; Count is the new total. An assignment of replicas must name this broker
// for each partition added. A topic named twice in one request is refused, both
// times. The answer comes once the partitions are durable, whatever the timeout.
// Those added count against controller_mutation_rate, strictly from 3 (KIP-599).
const (
	createPartitionsKey    = 37
	createPartitionsStrict = 3
)

func init() {
	register(api{key: createPartitionsKey, name: "CreatePartitions", needs: "ALTER Topic", min: 0, max: 3, handle: (*Server).createPartitions,
		notes: "validate_only honoured; internal topics are refused"})
}

func (s *Server) createPartitions(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.CreatePartitionsRequest), kmsg.NewPtrCreatePartitionsResponse()
	named := map[string]int{}
	for _, t := range req.Topics {
		named[t.Topic]++
	}
	for i := range req.Topics {
		want := &req.Topics[i]
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = want.Topic
		err := fmt.Errorf("%w: topic %q is named twice in one request", kerr.InvalidRequest, want.Topic)
		if named[want.Topic] == 1 {
			err = s.addPartitions(r, want, req.ValidateOnly)
		}
		rt.ErrorCode, rt.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) addPartitions(r *request, want *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	if err := r.authorize(auth.Alter, auth.Topic, want.Topic); err != nil {
		return err
	}
	t, err := s.ownTopic(want.Topic)
	if err != nil {
		return err
	}
	if err := s.o.Topics.CheckPartitions(want.Topic, want.Count); err != nil {
		return err
	}
	if want.Assignment != nil {
		if err := checkAddedAssignment(t, want); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	if err := r.mutate(int(want.Count)-len(t.Partitions()), createPartitionsStrict); err != nil {
		return err
	}
	if err := s.o.Topics.AddPartitions(want.Topic, want.Count); err != nil {
		return err
	}
	s.o.Log.Info("partitions added", "topic", want.Topic, "partitions", want.Count)
	r.audit(auth.TopicChanged, auth.Alter, auth.Topic, want.Topic, fmt.Sprintf("%d partitions", want.Count))
	return nil
}

// checkAddedAssignment takes an assignment of each new partition to this broker.
func checkAddedAssignment(t *topic.Topic, want *kmsg.CreatePartitionsRequestTopic) error {
	if added := int(want.Count) - len(t.Partitions()); len(want.Assignment) != added {
		return fmt.Errorf("%w: %d partitions are assigned, %d are to be added", kerr.InvalidReplicaAssignment, len(want.Assignment), added)
	}
	for i, a := range want.Assignment {
		if len(a.Replicas) != 1 || a.Replicas[0] != nodeID {
			return fmt.Errorf("%w: new partition %d has replicas %v, the only broker is %d", kerr.InvalidReplicaAssignment, i, a.Replicas, nodeID)
		}
	}
	return nil
}
