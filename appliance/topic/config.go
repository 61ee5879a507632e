package topic

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Key is one topic config: the table that parsing, DescribeConfigs and the
// reference page share.
type Key struct {
	Name, Default, Doc string
	Type               string   // Kafka's: long, int, string, list, boolean
	Allowed            []string // of a string or list; nil allows any
	Min, Max           int64    // of a number
	apply              func(c *config, v string)
}

// config is the values in force that the log itself looks at, parsed.
type config struct {
	compact, delete bool
	flushMessages   int64         // 1: an acknowledgement waits for the disk; more: it does not
	flushAfter      time.Duration // when flushMessages is more than 1: the longest until the sync
	logAppendTime   bool
	maxMessageBytes int
	retentionBytes  int64 // -1: no limit
	retention       time.Duration
	segmentBytes    int64
	segmentAge      time.Duration
	diskPolicy      string
	diskPriority    int64
}

// What a topic does when the disk budget is used up (weir.disk.policy).
const (
	DiskReject         = "reject"          // appends are refused
	DiskDropOldest     = "drop-oldest"     // its oldest segments go
	DiskKeepUnmirrored = "keep-unmirrored" // those go that every mirror flow has carried away
)

// Keys lists the topic configs that Weir knows, sorted by name.
var Keys = []Key{
	{Name: "cleanup.policy", Default: "delete", Type: "list", Allowed: []string{"delete", "compact"},
		Doc: "What happens to old records: delete removes whole segments by age and size.",
		apply: func(c *config, v string) {
			c.delete, c.compact = strings.Contains(v, "delete"), strings.Contains(v, "compact")
		}},
	{Name: "compression.type", Default: "producer", Type: "string", Allowed: []string{"producer"},
		Doc: "Batches are kept as the producer compressed them."},
	{Name: "flush.messages", Default: "1", Type: "long", Min: 1, Max: math.MaxInt64,
		Doc:   "1: records are acknowledged once they are on disk. More: once they are written, with a sync after so many or after flush.ms; a power cut can lose acknowledged records.",
		apply: func(c *config, v string) { c.flushMessages = number(v) }},
	{Name: "flush.ms", Default: "1000", Type: "long", Min: 0, Max: math.MaxInt64,
		Doc:   "Where flush.messages is more than 1: the longest time until acknowledged records are synced, in ms. More than 60000 counts as 60000.",
		apply: func(c *config, v string) { c.flushAfter = min(millis(number(v)), maxFlushDelay) }},
	{Name: "max.message.bytes", Default: "1048588", Type: "int", Min: 1024, Max: 64 << 20,
		Doc:   "The largest record batch accepted, in bytes, as compressed by the producer.",
		apply: func(c *config, v string) { c.maxMessageBytes = int(number(v)) }},
	{Name: "message.timestamp.type", Default: "CreateTime", Type: "string", Allowed: []string{"CreateTime", "LogAppendTime"},
		Doc:   "Whose clock a record's timestamp is from: the producer's or the broker's.",
		apply: func(c *config, v string) { c.logAppendTime = v == "LogAppendTime" }},
	{Name: "min.insync.replicas", Default: "1", Type: "int", Min: 1, Max: 1,
		Doc: "One box holds one copy."},
	{Name: "retention.bytes", Default: "-1", Type: "long", Min: -1, Max: math.MaxInt64,
		Doc:   "How many bytes a partition keeps; older segments are removed. -1 is no limit.",
		apply: func(c *config, v string) { c.retentionBytes = number(v) }},
	{Name: "retention.ms", Default: "604800000", Type: "long", Min: -1, Max: math.MaxInt64,
		Doc:   "How long a segment is kept after the last append to it, in ms, whatever the timestamps of its records say. -1 is for ever.",
		apply: func(c *config, v string) { c.retention = millis(number(v)) }},
	{Name: "segment.bytes", Default: "67108864", Type: "int", Min: 1 << 14, Max: 1 << 30,
		Doc:   "The size at which a new segment begins, in bytes.",
		apply: func(c *config, v string) { c.segmentBytes = number(v) }},
	{Name: "segment.ms", Default: "604800000", Type: "long", Min: 1, Max: math.MaxInt64,
		Doc:   "The age at which a new segment begins, in ms.",
		apply: func(c *config, v string) { c.segmentAge = millis(number(v)) }},
	{Name: "weir.disk.policy", Default: DiskReject, Type: "string", Allowed: []string{DiskReject, DiskDropOldest, DiskKeepUnmirrored},
		Doc:   "What happens when the disk budget is used up: appends are refused, or the oldest segments go and gap records say so; keep-unmirrored lets go only of what every mirror flow of the topic has carried away.",
		apply: func(c *config, v string) { c.diskPolicy = v }},
	{Name: "weir.disk.priority", Default: "0", Type: "int", Min: -maxDiskPriority, Max: maxDiskPriority,
		Doc:   "Which topics let go of records first when the disk budget is used up: those with the lower number.",
		apply: func(c *config, v string) { c.diskPriority = number(v) }},
}

const maxDiskPriority = 1_000_000

// maxFlushDelay bounds flush.ms: Kafka leaves it to the kernel, which writes back
// within half a minute or so, unless it is told; here nobody else would sync.
const maxFlushDelay = time.Minute

// relaxed reports whether appends are acknowledged before they are durable.
func (c *config) relaxed() bool { return c.flushMessages > 1 }

func number(v string) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic("topic: internal error: config not validated: " + err.Error())
	}
	return n
}

// millis turns Kafka's milliseconds into a duration; -1 stays negative, and what
// does not fit is for ever.
func millis(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// KeyByName finds one of Keys; nil if there is none.
func KeyByName(name string) *Key {
	i := sort.Search(len(Keys), func(i int) bool { return Keys[i].Name >= name })
	if i < len(Keys) && Keys[i].Name == name {
		return &Keys[i]
	}
	return nil
}

// Check says what is wrong with a value; nil if nothing.
func (k *Key) Check(v string) error {
	switch k.Type {
	case "int", "long":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < k.Min || n > k.Max {
			return fmt.Errorf("%w: %s is %q, want a whole number from %d to %d", ErrInvalidConfig, k.Name, v, k.Min, k.Max)
		}
	case "list":
		for one := range strings.SplitSeq(v, ",") {
			if !allowed(k.Allowed, strings.TrimSpace(one)) {
				return fmt.Errorf("%w: %s is %q, want one or more of %s", ErrInvalidConfig, k.Name, v, strings.Join(k.Allowed, ", "))
			}
		}
	default:
		if !allowed(k.Allowed, v) {
			return fmt.Errorf("%w: %s is %q, want one of %s", ErrInvalidConfig, k.Name, v, strings.Join(k.Allowed, ", "))
		}
	}
	return nil
}

func allowed(list []string, v string) bool {
	for _, a := range list {
		if a == v {
			return true
		}
	}
	return list == nil
}

// CheckConfigs says what is wrong with a set of topic configs. Keys of Kafka that
// Weir does not know are refused: a config that is not obeyed must not look set.
func CheckConfigs(configs map[string]string) error {
	for name, v := range configs {
		k := KeyByName(name)
		if k == nil {
			return fmt.Errorf("%w: %s is not a topic config that Weir knows", ErrInvalidConfig, name)
		}
		if err := k.Check(v); err != nil {
			return err
		}
	}
	return nil
}

// settings is the configuration of a topic. It is replaced as a whole.
type settings struct {
	overrides, values map[string]string
	config            config
}

// resolve computes the values in force; overrides and defaults are checked already.
// Internal topics hold what other acknowledgements rest on: they are never relaxed,
// and let go of nothing.
func resolve(overrides, defaults map[string]string, internal bool) *settings {
	s := &settings{overrides: overrides, values: make(map[string]string, len(Keys))}
	for i := range Keys {
		k := &Keys[i]
		v, ok := overrides[k.Name]
		if !ok {
			if v, ok = defaults[k.Name]; !ok {
				v = k.Default
			}
		}
		if internal && (k.Name == "flush.messages" || k.Name == "weir.disk.policy") {
			v = k.Default
		}
		s.values[k.Name] = v
		if k.apply != nil {
			k.apply(&s.config, v)
		}
	}
	if s.config.flushAfter == 0 {
		s.config.flushMessages = 1 // a sync at once is what everybody else gets
	}
	return s
}
