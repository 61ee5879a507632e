package kafka

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// DescribeConfigs, key 32, versions 1-4 (flexible from 4): the configuration of
// topics (from topic.Keys) and of the broker, with sources and synonyms. Kafka
// Connect and MirrorMaker 2 look for cleanup.policy=compact here; suites of other
// projects look for the broker's advertised.listeners.
const describeConfigsKey = 32

func init() {
	register(api{key: describeConfigsKey, name: "DescribeConfigs", needs: "DESCRIBE_CONFIGS Topic or Cluster", min: 1, max: 4, handle: (*Server).describeConfigs,
		notes: "topics and the broker"})
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
		return topicConfigs(t), nil
	case kmsg.ConfigResourceTypeBroker:
		if err := r.authorizeCluster(auth.DescribeConfigs); err != nil {
			return nil, err
		}
		if want.ResourceName == "" {
			return nil, nil // the cluster-wide dynamic default, of which there is none
		}
		if want.ResourceName != strconv.Itoa(nodeID) {
			return nil, fmt.Errorf("%w: there is no broker %q, this is %d", kerr.InvalidRequest, want.ResourceName, nodeID)
		}
		return s.brokerConfigs(r), nil
	}
	return nil, fmt.Errorf("%w: configuration of resource type %d is not kept here", kerr.InvalidRequest, want.ResourceType)
}

func topicConfigSource(t *topic.Topic, key string) kmsg.ConfigSource {
	if _, ok := t.Overrides()[key]; ok {
		return kmsg.ConfigSourceDynamicTopicConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

func topicConfigs(t *topic.Topic) []kmsg.DescribeConfigsResponseResourceConfig {
	var configs []kmsg.DescribeConfigsResponseResourceConfig
	for _, key := range topic.Keys {
		source := topicConfigSource(t, key.Name)
		c := config(key.Name, t.Config(key.Name), key.Type, key.Doc, source)
		if source != kmsg.ConfigSourceDefaultConfig {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(key.Name, key.Default, kmsg.ConfigSourceDefaultConfig))
		}
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

// brokerConfigs is what Options say under Kafka's names. None can be changed at run time.
func (s *Server) brokerConfigs(r *request) []kmsg.DescribeConfigsResponseResourceConfig {
	host, port := s.address(r)
	itoa := func(n int) string { return strconv.Itoa(n) }
	var defaults Options
	defaults = defaults.withDefaults()
	configs := []kmsg.DescribeConfigsResponseResourceConfig{}
	add := func(name, typ, value, byDefault, doc string) {
		source := kmsg.ConfigSourceDefaultConfig
		if value != byDefault {
			source = kmsg.ConfigSourceStaticBrokerConfig
		}
		c := config(name, value, typ, doc, source)
		c.ReadOnly = true
		configs = append(configs, c)
	}
	add("advertised.listeners", "string", string(r.conn.login.sec.Protocol)+"://"+joinHostPort(host, port), "", "Where clients are told to find the broker.")
	add("auto.create.topics.enable", "boolean", strconv.FormatBool(!s.o.NoAutoCreateTopics), "true", "Create a topic when a client asks for it.")
	add("broker.id", "int", itoa(nodeID), "", "The broker's id.")
	add("connections.max.idle.ms", "long", strconv.FormatInt(s.o.MaxIdle.Milliseconds(), 10), strconv.FormatInt(defaults.MaxIdle.Milliseconds(), 10), "Close connections that ask nothing for this long.")
	add("default.replication.factor", "int", "1", "1", "Copies of a partition; there is one broker.")
	add("delete.topic.enable", "boolean", "true", "true", "Topics can be deleted.")
	add("fetch.max.bytes", "int", itoa(s.o.MaxFetchBytes), itoa(defaults.MaxFetchBytes), "The most that one Fetch answers.")
	add("max.connections", "int", itoa(s.o.MaxConnections), itoa(defaults.MaxConnections), "Connections open at a time.")
	add("max.connections.per.ip", "int", itoa(s.o.MaxConnectionsPerIP), itoa(defaults.MaxConnectionsPerIP), "Connections open from one address at a time.")
	add("message.max.bytes", "int", itoa(s.o.MaxMessageBytes), itoa(defaults.MaxMessageBytes), "The largest record batch of a topic that does not say.")
	add("min.insync.replicas", "int", "1", "1", "Copies that acks=all waits for; there is one broker.")
	add("node.id", "int", itoa(nodeID), "", "The broker's id.")
	add("num.partitions", "int", itoa(int(s.o.DefaultPartitions)), itoa(int(defaults.DefaultPartitions)), "Partitions of a topic that does not say.")
	add("queued.max.request.bytes", "long", strconv.FormatInt(s.o.MaxQueuedBytes, 10), strconv.FormatInt(defaults.MaxQueuedBytes, 10), "Memory of requests being received.")
	add("socket.request.max.bytes", "int", itoa(s.o.MaxProduceBytes), itoa(defaults.MaxProduceBytes), "The largest Produce request.")
	return configs
}
