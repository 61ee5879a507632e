package kafka

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// DescribeConfigs, key 32, versions 1-4 (flexible from 4): the configuration of
// topics (from topic.Keys) and of the broker, with sources and synonyms (KIP-226). Kafka
// Connect and MirrorMaker 2 look for cleanup.policy=compact here; suites of other
// projects look for the broker's advertised.listeners.
const describeConfigsKey = 32

func init() {
	register(api{key: describeConfigsKey, name: "DescribeConfigs", needs: "DESCRIBE_CONFIGS Topic or Cluster", min: 1, max: 4, handle: (*Server).describeConfigs,
		notes: "topics and the broker, and what is set for all brokers"})
}

func (s *Server) describeConfigs(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.DescribeConfigsRequest), kmsg.NewPtrDescribeConfigsResponse()
	for i := range req.Resources {
		want := &req.Resources[i]
		res := kmsg.NewDescribeConfigsResponseResource()
		res.ResourceType, res.ResourceName = want.ResourceType, want.ResourceName
		configs, err := s.configsOf(r, want)
		for _, c := range configs {
			if want.ConfigNames != nil && !slices.Contains(want.ConfigNames, c.Name) {
				continue
			}
			if !req.IncludeSynonyms {
				c.ConfigSynonyms = nil
			}
			if !req.IncludeDocumentation {
				c.Documentation = nil
			}
			res.Configs = append(res.Configs, c)
		}
		res.ErrorCode, res.ErrorMessage = errorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp
}

func (s *Server) configsOf(r *request, want *kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	switch want.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := r.authorize(auth.DescribeConfigs, auth.Topic, want.ResourceName); err != nil {
			return nil, err
		}
		t := s.o.Topics.Topic(want.ResourceName)
		if t == nil {
			return nil, fmt.Errorf("%w: %q", record.ErrUnknownTopicOrPartition, want.ResourceName)
		}
		return s.topicConfigs(t), nil
	case kmsg.ConfigResourceTypeBroker:
		if err := r.authorizeCluster(auth.DescribeConfigs); err != nil {
			return nil, err
		}
		if want.ResourceName == "" {
			return s.clusterConfigs(), nil
		}
		if want.ResourceName != strconv.Itoa(nodeID) {
			return nil, fmt.Errorf("%w: there is no broker %q, this is %d", kerr.InvalidRequest, want.ResourceName, nodeID)
		}
		return s.brokerConfigs(r), nil
	}
	return nil, fmt.Errorf("%w: configuration of resource type %d is not kept here", kerr.InvalidRequest, want.ResourceType)
}

// topicSynonyms are what is said of a topic's config, by the topic itself first and
// then by the broker, whose name of the config is another.
func (s *Server) topicSynonyms(t *topic.Topic, key *topic.Key) (out []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) {
	if value, ok := t.Overrides()[key.Name]; ok {
		out = append(out, synonym(key.Name, value, kmsg.ConfigSourceDynamicTopicConfig))
	}
	for name, of := range topicDefaults {
		if of == key.Name {
			return append(out, s.o.Configs.synonyms(&s.o, brokerKeys[name])...)
		}
	}
	return append(out, synonym(key.Name, key.Default, kmsg.ConfigSourceDefaultConfig))
}

func (s *Server) topicConfigs(t *topic.Topic) []kmsg.DescribeConfigsResponseResourceConfig {
	var configs []kmsg.DescribeConfigsResponseResourceConfig
	for i := range topic.Keys {
		key := &topic.Keys[i]
		synonyms := s.topicSynonyms(t, key)
		c := config(key.Name, t.Config(key.Name), key.Type, key.Doc, synonyms[0].Source)
		c.ConfigSynonyms = synonyms
		configs = append(configs, c)
	}
	return configs
}

func config(name, value, typ, doc string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.Source = name, &value, source
	c.IsDefault = source == kmsg.ConfigSourceDefaultConfig
	c.ConfigType, c.Documentation = configType(typ), &doc
	c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(name, value, source))
	return c
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	sy := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	sy.Name, sy.Value, sy.Source = name, &value, source
	return sy
}

func configType(name string) kmsg.ConfigType {
	switch strings.ToLower(name) {
	case "boolean":
		return kmsg.ConfigTypeBoolean
	case "int":
		return kmsg.ConfigTypeInt
	case "long":
		return kmsg.ConfigTypeLong
	case "double":
		return kmsg.ConfigTypeDouble
	case "list":
		return kmsg.ConfigTypeList
	}
	return kmsg.ConfigTypeString
}

// readOnlyConfig is a config of the broker that its file alone can change.
type readOnlyConfig struct {
	name, typ, doc string
	value          func(o *Options) string // nil: it depends on the connection
}

// inMillis is a config whose value is a time of the coordinators.
func inMillis(of func(o *Options) time.Duration) func(o *Options) string {
	return func(o *Options) string { return strconv.FormatInt(of(o).Milliseconds(), 10) }
}

var readOnlyConfigs = []readOnlyConfig{
	{"advertised.listeners", "string", "Where clients are told to find the broker.", nil},
	{"auto.create.topics.enable", "boolean", "Create a topic when a client asks for it.", func(o *Options) string { return strconv.FormatBool(!o.NoAutoCreateTopics) }},
	{"broker.id", "int", "The broker's id.", nil},
	{"connections.max.idle.ms", "long", "Close connections that ask nothing for this long.", func(o *Options) string { return strconv.FormatInt(o.MaxIdle.Milliseconds(), 10) }},
	{"default.replication.factor", "int", "Copies of a partition; there is one broker.", func(*Options) string { return "1" }},
	{"delete.topic.enable", "boolean", "Topics can be deleted.", func(*Options) string { return "true" }},
	{"fetch.max.bytes", "int", "The most that one Fetch answers.", func(o *Options) string { return strconv.Itoa(o.MaxFetchBytes) }},
	{"group.consumer.heartbeat.interval.ms", "int", "How often members of the consumer protocol send a heartbeat.", inMillis(func(o *Options) time.Duration { return o.Groups.Limits().ConsumerHeartbeatInterval })},
	{"group.consumer.session.timeout.ms", "int", "Silence after which a member of the consumer protocol is removed.", inMillis(func(o *Options) time.Duration { return o.Groups.Limits().ConsumerSessionTimeout })},
	{"group.initial.rebalance.delay.ms", "int", "How long the first member of a classic group waits for others.", inMillis(func(o *Options) time.Duration { return max(0, o.Groups.Limits().InitialRebalanceDelay) })},
	{"group.max.session.timeout.ms", "int", "Greatest session timeout of classic members.", inMillis(func(o *Options) time.Duration { return o.Groups.Limits().MaxSessionTimeout })},
	{"group.max.size", "int", "Members of one group.", func(o *Options) string { return strconv.Itoa(o.Groups.Limits().MaxMembers) }},
	{"group.min.session.timeout.ms", "int", "Least session timeout of classic members.", inMillis(func(o *Options) time.Duration { return o.Groups.Limits().MinSessionTimeout })},
	{"min.insync.replicas", "int", "Copies that acks=all waits for; there is one broker.", func(*Options) string { return "1" }},
	{"node.id", "int", "The broker's id.", nil},
	{"num.partitions", "int", "Partitions of a topic that does not say.", func(o *Options) string { return strconv.Itoa(int(o.DefaultPartitions)) }},
	{"offset.metadata.max.bytes", "int", "Text beside a committed offset.", func(o *Options) string { return strconv.Itoa(o.Groups.Limits().MaxOffsetMetadataBytes) }},
	{"offsets.retention.minutes", "int", "How long the offsets of a group without members are kept.", func(o *Options) string { return strconv.Itoa(int(o.Groups.OffsetsRetention().Minutes())) }},
	{"queued.max.request.bytes", "long", "Memory of requests being received.", func(o *Options) string { return strconv.FormatInt(o.MaxQueuedBytes, 10) }},
	{"socket.request.max.bytes", "int", "The largest Produce request.", func(o *Options) string { return strconv.Itoa(o.MaxProduceBytes) }},
	{"transaction.max.timeout.ms", "int", "The most that a producer may set as its transaction.timeout.ms.", inMillis(func(o *Options) time.Duration { return o.Transactions.Limits().MaxTimeout })},
	{"transactional.id.expiration.ms", "int", "How long a transactional.id that is not used is known.", inMillis(func(o *Options) time.Duration { return o.Transactions.Expiration() })},
}

// brokerConfigs are those that the file says, and those that change at run time.
func (s *Server) brokerConfigs(r *request) []kmsg.DescribeConfigsResponseResourceConfig {
	defaults := Options{}.withDefaults()
	configs := []kmsg.DescribeConfigsResponseResourceConfig{}
	for _, c := range readOnlyConfigs {
		value, source := strconv.Itoa(nodeID), kmsg.ConfigSourceStaticBrokerConfig
		switch {
		case c.name == "advertised.listeners":
			host, port := s.address(r)
			value = string(r.conn.login.sec.Protocol) + "://" + joinHostPort(host, port)
		case c.value != nil:
			if value = c.value(&s.o); value == c.value(&defaults) {
				source = kmsg.ConfigSourceDefaultConfig
			}
		}
		described := config(c.name, value, c.typ, c.doc, source)
		described.ReadOnly = true
		configs = append(configs, described)
	}
	for _, name := range slices.Sorted(maps.Keys(brokerKeys)) {
		configs = append(configs, s.dynamicConfig(brokerKeys[name]))
	}
	slices.SortFunc(configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	return configs
}

// dynamicConfig is a config that changes at run time, with all that was ever said of it.
func (s *Server) dynamicConfig(k *brokerKey) kmsg.DescribeConfigsResponseResourceConfig {
	synonyms := s.o.Configs.synonyms(&s.o, k)
	c := config(k.Name, *synonyms[0].Value, k.Type, k.Doc, synonyms[0].Source)
	c.ConfigSynonyms = synonyms
	return c
}

// clusterConfigs are those set for all brokers, and no others (resource "").
func (s *Server) clusterConfigs() []kmsg.DescribeConfigsResponseResourceConfig {
	configs := []kmsg.DescribeConfigsResponseResourceConfig{}
	for _, name := range slices.Sorted(maps.Keys(brokerKeys)) {
		k := brokerKeys[name]
		synonyms := s.o.Configs.synonyms(&s.o, k)
		i := slices.IndexFunc(synonyms, func(sy kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) bool {
			return sy.Source == kmsg.ConfigSourceDynamicDefaultBrokerConfig
		})
		if i < 0 {
			continue
		}
		c := config(k.Name, *synonyms[i].Value, k.Type, k.Doc, synonyms[i].Source)
		c.ConfigSynonyms = synonyms[i:]
		configs = append(configs, c)
	}
	return configs
}
