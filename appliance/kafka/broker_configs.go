package kafka

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
)

// brokerKey is a config of the broker that changes while it runs (KIP-226): one that
// holds for topics that do not say, a limit of the server, or what tunes the log.
type brokerKey struct {
	topic.Key
	topicKey string // whose default it is; the others are numbers, and have
	// static is what the file says, and tune, of what tunes the log, puts it into force.
	static func(b *BrokerConfigs, o *Options) int64
	tune   func(t *topic.Tuning, n int64)
}

// topicDefaults are the topic configs whose defaults are configs of the broker, by
// Kafka's names. Those of flushing are not among them: what an acknowledgement means
// is not changed for all topics by one request.
var topicDefaults = map[string]string{
	"log.cleaner.delete.retention.ms":   "delete.retention.ms",
	"log.cleaner.max.compaction.lag.ms": "max.compaction.lag.ms",
	"log.cleaner.min.cleanable.ratio":   "min.cleanable.dirty.ratio",
	"log.cleaner.min.compaction.lag.ms": "min.compaction.lag.ms",
	"log.cleanup.policy":                "cleanup.policy",
	"log.message.timestamp.type":        "message.timestamp.type",
	"log.retention.bytes":               "retention.bytes",
	"log.retention.ms":                  "retention.ms",
	"log.roll.ms":                       "segment.ms",
	"log.segment.bytes":                 "segment.bytes",
	"message.max.bytes":                 "max.message.bytes",
}

// brokerKeys are all of them, by name.
var brokerKeys = makeBrokerKeys()

func makeBrokerKeys() map[string]*brokerKey {
	keys := map[string]*brokerKey{}
	for name, of := range topicDefaults {
		k := &brokerKey{Key: *topic.KeyByName(of), topicKey: of}
		k.Name, k.Doc = name, "Of topics that do not say. "+k.Doc
		keys[name] = k
	}
	limit := func(name string, least int64, byDefault int, doc string, of func(o *Options) int) {
		keys[name] = &brokerKey{static: func(_ *BrokerConfigs, o *Options) int64 { return int64(of(o)) }, Key: topic.Key{
			Name: name, Type: "int", Min: least, Max: maxConnectionLimit, Default: strconv.Itoa(byDefault), Doc: doc}}
	}
	limit("max.connections", 1, defaultMaxConnections, "Connections open at a time.", func(o *Options) int { return o.MaxConnections })
	limit("max.connections.per.ip", 1, defaultMaxConnectionsPerIP, "Connections open from one address at a time.", func(o *Options) int { return o.MaxConnectionsPerIP })
	limit("max.connection.creation.rate", 0, 0, "New connections per second; 0 is no limit.", func(o *Options) int { return o.MaxConnectionRate })
	for _, k := range tuningKeys() {
		keys[k.Name] = k
	}
	return keys
}

// maxConnectionLimit is the most that a limit of connections can be set to.
const maxConnectionLimit = 1_000_000

type brokerLevel struct {
	resource, stored string
	source           kmsg.ConfigSource
}

// The levels at which a config of the broker is set, the one that counts first, and
// the names of the resource and of what is stored for them.
var brokerLevels = [...]brokerLevel{
	{strconv.Itoa(nodeID), "broker", kmsg.ConfigSourceDynamicBrokerConfig},
	{"", "cluster", kmsg.ConfigSourceDynamicDefaultBrokerConfig},
}

// ConfigStore keeps configs; *metadata.Bucket is one. What Put returns from is durable.
type ConfigStore interface {
	All() (map[string][]byte, error)
	Put(key string, value []byte) error
}

// BrokerConfigs are the configs of the broker that change while it runs. They are read
// before the log is opened, for they say what the log keeps.
type BrokerConfigs struct {
	store  ConfigStore       // nil: they are forgotten at the end
	topics map[string]string // topic configs by the file
	file   topic.Tuning      // the log's tuning by the file

	mu     sync.Mutex
	levels [len(brokerLevels)]map[string]string
}

// OpenBrokerConfigs reads what was set. Topics are the topic configs that hold where
// neither a topic nor what was set says, and tuning is how the log is tuned where nothing
// was set. What cannot be in force any more is left out
// and logged.
func OpenBrokerConfigs(store ConfigStore, topics map[string]string, tuning topic.Tuning, log *slog.Logger) (*BrokerConfigs, error) {
	b := &BrokerConfigs{store: store, topics: topics, file: tuning.Resolved()}
	var all map[string][]byte
	if store != nil {
		var err error
		if all, err = store.All(); err != nil {
			return nil, fmt.Errorf("broker configs: %w", err)
		}
	}
	for i, level := range brokerLevels {
		b.levels[i] = map[string]string{}
		if text, ok := all[level.stored]; ok {
			if err := json.Unmarshal(text, &b.levels[i]); err != nil {
				return nil, fmt.Errorf("broker configs: what is stored of the %s: %w", level.stored, err)
			}
		}
		maps.DeleteFunc(b.levels[i], func(name, value string) bool {
			err := checkBrokerConfig(name, value)
			if err != nil {
				log.Warn("a broker config that was set is not in force", "error", err)
			}
			return err != nil
		})
	}
	return b, nil
}

// checkBrokerConfig says what is wrong with a config; Kafka answers INVALID_REQUEST
// for the broker's, where it is INVALID_CONFIG for a topic's.
func checkBrokerConfig(name, value string) error {
	k, err := brokerKeyByName(name)
	if err != nil {
		return err
	}
	if err := k.Check(value); err != nil {
		return fmt.Errorf("%w: %v", kerr.InvalidRequest, err)
	}
	return nil
}

func brokerKeyByName(name string) (*brokerKey, error) {
	if k := brokerKeys[name]; k != nil {
		return k, nil
	}
	if slices.ContainsFunc(readOnlyConfigs, func(c readOnlyConfig) bool { return c.name == name }) {
		return nil, fmt.Errorf("%w: %s cannot be changed at run time; change the broker's file and restart it", kerr.InvalidRequest, name)
	}
	return nil, fmt.Errorf("%w: %s is not a broker config that Weir can change at run time; there are %v", kerr.InvalidRequest, name, slices.Sorted(maps.Keys(brokerKeys)))
}

// TopicDefaults are the topic configs that hold where a topic does not say.
func (b *BrokerConfigs) TopicDefaults() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topicDefaults()
}

func (b *BrokerConfigs) topicDefaults() map[string]string {
	out := maps.Clone(b.topics)
	if out == nil {
		out = map[string]string{}
	}
	for name, of := range topicDefaults {
		if value, ok := b.set(name); ok {
			out[of] = value
		}
	}
	return out
}

// set is the value that was set, at the level that counts.
func (b *BrokerConfigs) set(name string) (value string, ok bool) {
	for _, level := range b.levels {
		if value, ok = level[name]; ok {
			return value, true
		}
	}
	return "", false
}

// synonyms are all values of a config and where each is from, the one in force first.
func (b *BrokerConfigs) synonyms(o *Options, k *brokerKey) (out []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.synonymsFrom(0, o, k)
}

// synonymsFrom are those of a level and of what is behind it. b.mu is held.
func (b *BrokerConfigs) synonymsFrom(from int, o *Options, k *brokerKey) (out []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) {
	for i, level := range brokerLevels {
		if i < from {
			continue
		}
		if value, ok := b.levels[i][k.Name]; ok {
			out = append(out, synonym(k.Name, value, level.source))
		}
	}
	static := k.Default
	if k.topicKey == "" {
		static = strconv.FormatInt(k.static(b, o), 10)
	} else if value, ok := b.topics[k.topicKey]; ok {
		static = value
	}
	if static != k.Default {
		out = append(out, synonym(k.Name, static, kmsg.ConfigSourceStaticBrokerConfig))
	}
	return append(out, synonym(k.Name, k.Default, kmsg.ConfigSourceDefaultConfig))
}

// alterBroker changes what is set at one level, durably, and brings it into force; with
// validateOnly it says whether it could.
func (s *Server) alterBroker(level int, validateOnly bool, change func(set map[string]string) (map[string]string, error)) (map[string]string, error) {
	b := s.o.Configs
	b.mu.Lock()
	defer b.mu.Unlock()
	changed, err := change(maps.Clone(b.levels[level]))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		if err := checkBrokerConfig(name, changed[name]); err != nil {
			return nil, err
		}
	}
	if validateOnly {
		return changed, nil
	}
	if b.store != nil {
		text, err := json.Marshal(changed)
		if err != nil {
			return nil, err
		}
		if err := b.store.Put(brokerLevels[level].stored, text); err != nil {
			return nil, err
		}
	}
	b.levels[level] = changed
	return changed, s.enforce()
}

// configuredBroker is the broker as increment sees it, while the set of one level
// changes. b.mu is held.
func (s *Server) configuredBroker(level int, set map[string]string) configured {
	b := s.o.Configs
	return configured{
		key: func(name string) (*topic.Key, error) {
			k, err := brokerKeyByName(name)
			if err != nil {
				return nil, err
			}
			return &k.Key, nil
		},
		value: func(name string) string {
			if value, ok := set[name]; ok {
				return value
			}
			return *b.synonymsFrom(level, &s.o, brokerKeys[name])[0].Value
		},
	}
}

// enforce brings what is set into force. b.mu is held.
func (s *Server) enforce() error {
	b := s.o.Configs
	value := func(name string) int {
		if text, ok := b.set(name); ok {
			n, _ := strconv.Atoi(text) // checked
			return n
		}
		return int(brokerKeys[name].static(b, &s.o))
	}
	s.mu.Lock()
	s.maxConns, s.maxConnsPerIP = value("max.connections"), value("max.connections.per.ip")
	s.mu.Unlock()
	s.o.Topics.Tune(b.tuning())
	s.accepting.Set(value("max.connection.creation.rate"))
	return s.o.Topics.SetDefaults(b.topicDefaults())
}
