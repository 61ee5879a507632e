package kafka

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// AlterConfigs, key 33, versions 0-2 (flexible from 2): replaces all configs set on a
// topic, or on the broker, by those in the request; what it does not name falls back to its default.
// KIP-339 deprecates it for IncrementalAlterConfigs, kafkajs and older consoles know
// no other. A resource named twice in one request is refused, both times.
const alterConfigsKey = 33

func init() {
	register(api{key: alterConfigsKey, name: "AlterConfigs", needs: "ALTER_CONFIGS Topic or Cluster", min: 0, max: 2, handle: (*Server).alterConfigs,
		notes: "topics and the broker; replaces all overrides; internal topics are refused"})
}

func (s *Server) alterConfigs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.AlterConfigsRequest), kmsg.NewPtrAlterConfigsResponse()
	named := map[resource]int{}
	for i := range req.Resources {
		named[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		want := &req.Resources[i]
		target := resource{want.ResourceType, want.ResourceName}
		err := s.alter(r, target, named[target], req.ValidateOnly, func(configured, map[string]string) (map[string]string, error) {
			return replacement(want.Configs)
		})
		res := kmsg.NewAlterConfigsResponseResource()
		res.ResourceType, res.ResourceName = want.ResourceType, want.ResourceName
		res.ErrorCode, res.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp
}

func replacement(configs []kmsg.AlterConfigsRequestResourceConfig) (map[string]string, error) {
	overrides := make(map[string]string, len(configs))
	for _, c := range configs {
		if _, twice := overrides[c.Name]; twice {
			return nil, fmt.Errorf("%w: %s is named twice", kerr.InvalidRequest, c.Name)
		}
		if c.Value == nil {
			return nil, fmt.Errorf("%w: %s has no value; leave it out to return to its default", kerr.InvalidRequest, c.Name)
		}
		overrides[c.Name] = *c.Value
	}
	return overrides, nil
}

// resource is what AlterConfigs and IncrementalAlterConfigs change.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// configured is a topic or the broker, to those who change single configs of it.
type configured struct {
	key   func(name string) (*topic.Key, error)
	value func(name string) string // in force, be it a default
}

// alteration makes overrides of those that there are.
type alteration func(of configured, overrides map[string]string) (map[string]string, error)

// alter gives a topic or the broker the overrides that change makes of those it has,
// or with validateOnly says whether it could.
func (s *Server) alter(r *request, target resource, named int, validateOnly bool, change alteration) error {
	if named > 1 {
		return fmt.Errorf("%w: %q is named twice in one request", kerr.InvalidRequest, target.name)
	}
	if err := r.authorizeAlter(target); err != nil {
		return err
	}
	switch target.kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.alterTopic(r, target.name, validateOnly, change)
	case kmsg.ConfigResourceTypeBroker:
		return s.alterBrokerConfigs(r, target.name, validateOnly, change)
	}
	return fmt.Errorf("%w: configuration of resource type %d is not kept here", kerr.InvalidRequest, target.kind)
}

func (s *Server) alterTopic(r *request, name string, validateOnly bool, change alteration) error {
	t, err := s.ownTopic(name)
	if err != nil {
		return err
	}
	of := configured{value: t.Config, key: func(name string) (*topic.Key, error) {
		if k := topic.KeyByName(name); k != nil {
			return k, nil
		}
		return nil, fmt.Errorf("%w: %s is not a topic config that Weir knows", topic.ErrInvalidConfig, name)
	}}
	changed := func(overrides map[string]string) (map[string]string, error) { return change(of, overrides) }
	if validateOnly {
		return s.o.Topics.CheckAlterConfigs(t.Name(), changed)
	}
	if err := s.o.Topics.AlterConfigs(t.Name(), changed); err != nil {
		return err
	}
	s.logTopic("topic configs altered", t)
	r.audit(auth.ConfigChanged, auth.AlterConfigs, auth.Topic, t.Name(), fmt.Sprint(t.Overrides()))
	return nil
}

func (s *Server) alterBrokerConfigs(r *request, name string, validateOnly bool, change alteration) error {
	level := slices.IndexFunc(brokerLevels[:], func(l brokerLevel) bool { return l.resource == name })
	if level < 0 {
		return fmt.Errorf("%w: there is no broker %q, this is %d", kerr.InvalidRequest, name, nodeID)
	}
	altered, err := s.alterBroker(level, validateOnly, func(set map[string]string) (map[string]string, error) {
		return change(s.configuredBroker(level, set), set)
	})
	if err != nil || validateOnly {
		return err
	}
	s.o.Log.Info("broker configs altered", "of", brokerLevels[level].stored, "set", altered)
	r.audit(auth.ConfigChanged, auth.AlterConfigs, auth.Cluster, auth.ClusterName, fmt.Sprint(brokerLevels[level].stored, " ", altered))
	return nil
}

func (r *request) authorizeAlter(target resource) error {
	if target.kind == kmsg.ConfigResourceTypeTopic {
		return r.authorize(auth.AlterConfigs, auth.Topic, target.name)
	}
	return r.authorizeCluster(auth.AlterConfigs)
}

// logTopic says what a topic is like now, and what its clients have to fear of it.
func (s *Server) logTopic(what string, t *topic.Topic) {
	s.o.Log.Info(what, "topic", t.Name(), "partitions", len(t.Partitions()), "overrides", t.Overrides())
	if t.Relaxed() {
		s.o.Log.Warn("acked data can be lost on power cut", "topic", t.Name(), "flush.messages", t.Config("flush.messages"), "flush.ms", t.Config("flush.ms"))
	}
}

// ownTopic finds a topic that is the clients' to change.
func (s *Server) ownTopic(name string) (*topic.Topic, error) {
	t := s.o.Topics.Topic(name)
	switch {
	case t == nil:
		return nil, fmt.Errorf("%w: %q", record.ErrUnknownTopicOrPartition, name)
	case t.Internal():
		return nil, fmt.Errorf("%w: %s belongs to the broker", kerr.InvalidTopicException, name)
	}
	return t, nil
}
