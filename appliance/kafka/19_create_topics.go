package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/topic"
)

// CreateTopics, key 19, versions 2-7 (flexible from 5).
//
// Partitions -1 is num.partitions; the replication factor is 1 or -1. From 5 the
// answer describes the topic: Java's admin client throws when configs is null
// without a topic_config_error_code and when num_partitions is -1, so both are
// always filled in, and for a topic that was not created configs is empty.
// Partitions count against controller_mutation_rate, strictly from 6 (KIP-599).
// A topic named twice in one request is refused, both times (as Kafka does).
const (
	createTopicsKey    = 19
	createTopicsStrict = 6
)

func init() {
	register(api{key: createTopicsKey, name: "CreateTopics", needs: "CREATE Topic or Cluster", min: 2, max: 7, handle: (*Server).createTopics,
		notes: "replication factor 1 or -1; validate_only honoured"})
}

func (s *Server) createTopics(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.CreateTopicsRequest), kmsg.NewPtrCreateTopicsResponse()
	named := map[string]int{}
	for _, t := range req.Topics {
		named[t.Topic]++
	}
	var wanted []topic.New
	var places []int // of wanted in the response
	for i := range req.Topics {
		want := &req.Topics[i]
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.Configs = want.Topic, []kmsg.CreateTopicsResponseTopicConfig{}
		spec, err := s.topicSpec(want)
		refused := r.authorizeCreate(want.Topic)
		switch {
		case refused != nil:
			err = refused
		case named[want.Topic] > 1:
			err = fmt.Errorf("%w: topic %q is named twice in one request", kerr.InvalidRequest, want.Topic)
		case err == nil && req.ValidateOnly:
			err = s.checkTopic(&rt, spec)
		case err == nil:
			err = s.admitTopic(r, want.Topic, spec)
		}
		if err == nil && !req.ValidateOnly {
			wanted, places = append(wanted, topic.New{Name: want.Topic, Spec: spec}), append(places, i)
		}
		rt.ErrorCode, rt.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Topics = append(resp.Topics, rt)
	}
	topics, errs := s.o.Topics.CreateAll(wanted) // together they share the syncs of the disk
	for i, t := range topics {
		rt := &resp.Topics[places[i]]
		if rt.ErrorCode, rt.ErrorMessage = errorCode(errs[i]), errorMessage(errs[i]); errs[i] == nil {
			s.describeCreated(r, rt, t)
			r.audit(auth.TopicChanged, auth.Create, auth.Topic, t.Name(), "")
			s.logTopic("topic created", t)
		}
	}
	return resp
}

// admitTopic counts a topic that can be made against the client's quota.
func (s *Server) admitTopic(r *request, name string, spec topic.Spec) error {
	if err := errors.Join(topic.CheckName(name), topic.CheckConfigs(spec.Configs)); err != nil {
		return err
	}
	if s.o.Topics.Topic(name) != nil {
		return fmt.Errorf("%w: %q", topic.ErrExists, name)
	}
	return r.mutate(int(spec.Partitions), createTopicsStrict)
}

// authorizeCreate: a topic may be created by who may create topics of its name, or
// any on the cluster.
func (r *request) authorizeCreate(name string) error {
	if r.may(auth.Create, auth.Cluster, auth.ClusterName) {
		return nil
	}
	return r.authorize(auth.Create, auth.Topic, name)
}

// checkTopic answers a request that only asks.
func (s *Server) checkTopic(rt *kmsg.CreateTopicsResponseTopic, spec topic.Spec) error {
	if s.o.Topics.Topic(rt.Topic) != nil {
		return fmt.Errorf("%w: %q", topic.ErrExists, rt.Topic)
	}
	if err := errors.Join(topic.CheckName(rt.Topic), topic.CheckConfigs(spec.Configs)); err != nil {
		return err
	}
	rt.NumPartitions, rt.ReplicationFactor = spec.Partitions, 1
	return nil
}

func (s *Server) describeCreated(r *request, rt *kmsg.CreateTopicsResponseTopic, t *topic.Topic) {
	rt.TopicID, rt.NumPartitions, rt.ReplicationFactor = t.ID(), int32(len(t.Partitions())), 1
	if !r.may(auth.DescribeConfigs, auth.Topic, t.Name()) {
		rt.NumPartitions, rt.ReplicationFactor, rt.Configs, rt.ConfigErrorCode = -1, -1, nil, kerr.TopicAuthorizationFailed.Code
		return
	}
	for _, key := range topic.Keys {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value = key.Name, kmsg.StringPtr(t.Config(key.Name))
		c.Source = int8(s.topicSynonyms(t, &key)[0].Source)
		rt.Configs = append(rt.Configs, c)
	}
}

// topicSpec reads what is wanted, which may be a manual assignment of replicas.
func (s *Server) topicSpec(want *kmsg.CreateTopicsRequestTopic) (topic.Spec, error) {
	spec := topic.Spec{Partitions: want.NumPartitions, Configs: map[string]string{}}
	if len(want.ReplicaAssignment) > 0 {
		if want.NumPartitions != -1 || want.ReplicationFactor != -1 {
			return spec, fmt.Errorf("%w: topic %q has both a replica assignment and a number of partitions or replicas", kerr.InvalidRequest, want.Topic)
		}
		if err := checkAssignment(want.ReplicaAssignment); err != nil {
			return spec, err
		}
		spec.Partitions = int32(len(want.ReplicaAssignment))
	} else if want.ReplicationFactor != -1 && want.ReplicationFactor != 1 {
		return spec, fmt.Errorf("%w: %d, this is the only broker, so 1", kerr.InvalidReplicationFactor, want.ReplicationFactor)
	}
	switch {
	case spec.Partitions == -1:
		spec.Partitions = s.o.DefaultPartitions
	case spec.Partitions <= 0:
		return spec, fmt.Errorf("%w: %d", topic.ErrInvalidPartitions, spec.Partitions)
	}
	for _, c := range want.Configs {
		if c.Value == nil {
			return spec, fmt.Errorf("%w: %s has no value", topic.ErrInvalidConfig, c.Name)
		}
		spec.Configs[c.Name] = *c.Value
	}
	return spec, nil
}

// checkAssignment takes an assignment of partitions 0, 1, 2 … to this broker.
func checkAssignment(assigned []kmsg.CreateTopicsRequestTopicReplicaAssignment) error {
	seen := make([]bool, len(assigned))
	for _, a := range assigned {
		if a.Partition < 0 || int(a.Partition) >= len(seen) || seen[a.Partition] {
			return fmt.Errorf("%w: partitions are not 0 to %d, each once", kerr.InvalidReplicaAssignment, len(seen)-1)
		}
		seen[a.Partition] = true
		if len(a.Replicas) != 1 || a.Replicas[0] != nodeID {
			return fmt.Errorf("%w: partition %d has replicas %v, the only broker is %d", kerr.InvalidReplicaAssignment, a.Partition, a.Replicas, nodeID)
		}
	}
	return nil
}
