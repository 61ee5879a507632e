package bridge

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Route maps messages whose MQTT topic matches Filter to a Kafka topic.
//
// A filter is an MQTT topic filter whose + levels may have names: {site} matches one
// level and captures it, {rest...} as the last level matches like # and captures
// what it matches. Topic, Key and the values of Headers may use the captures as
// {site}, and {topic} for the whole MQTT topic name.
type Route struct {
	Filter string `yaml:"filter"`
	// Topic is the Kafka topic. In one that uses captures, characters that Kafka
	// does not allow become "_": a-z, A-Z, 0-9, ".", "_" and "-" stay. A message for
	// which that makes no valid name, or one that begins with "__", is refused.
	Topic string `yaml:"topic"`
	// Key is the record key; empty means the MQTT topic name.
	Key string `yaml:"key"`
	// Partition is fixed when given; else it is Kafka's hash of the key.
	Partition *int32 `yaml:"partition"`
	// Headers are added to the record. Names must not begin with "mqtt.".
	Headers map[string]string `yaml:"headers"`
	// Timestamp is a JSON pointer (RFC 6901) to the message's time in its payload: a
	// number of TimestampUnit (s, ms, us or ns; ms if empty), or a text as of RFC 3339.
	// Empty, or where the payload has none, the record's time is that of arrival.
	Timestamp     string `yaml:"timestamp"`
	TimestampUnit string `yaml:"timestamp_unit"`
	// Continue has the messages go on to the routes below, too: each that matches stores
	// a record of its own, up to and with the first without Continue.
	Continue bool `yaml:"continue"`
	// Drop takes the messages and stores nothing.
	Drop bool `yaml:"drop"`
}

// MaxWays is to how many routes one message goes at most. What matches more is refused.
const MaxWays = 16

// DefaultTopic is the Kafka topic of messages that no route matches.
const DefaultTopic = "mqtt"

// route is a Route made ready.
type route struct {
	levels    []level
	drop      bool
	goesOn    bool
	topic     template
	fixed     string // the topic when it needs no capture
	names     *nameCache
	key       template
	partition int32
	headers   []headerTemplate
	timestamp timestamp
}

type level struct {
	text    string // to be equal to, unless capture
	any     bool   // matches one level
	rest    bool   // matches all further levels, also none
	capture int    // number of the capture, -1: none
}

type headerTemplate struct {
	name  string
	value template
}

func newRoute(spec Route) (rt route, err error) {
	names := map[string]int{}
	if rt.levels, err = parseFilter(spec.Filter, names); err != nil {
		return rt, err
	}
	if rt.drop = spec.Drop; rt.drop {
		if spec.Topic != "" {
			return rt, fmt.Errorf("has both drop and topic %q; remove one", spec.Topic)
		}
		if spec.Continue {
			return rt, fmt.Errorf("has both drop and continue, but what is dropped goes no further; remove one")
		}
		return rt, nil
	}
	rt.goesOn = spec.Continue
	if rt.topic, err = parseTemplate(spec.Topic, names); err != nil {
		return rt, fmt.Errorf("topic: %w", err)
	}
	if rt.topic.constant() {
		if rt.fixed = spec.Topic; !validTopic(spec.Topic) || internal(spec.Topic) {
			return rt, fmt.Errorf("topic %q is no valid Kafka topic name for messages: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', not \".\" or \"..\", and no \"__\" at the start", spec.Topic)
		}
	}
	key := spec.Key
	if key == "" {
		key = "{topic}"
	}
	if rt.key, err = parseTemplate(key, names); err != nil {
		return rt, fmt.Errorf("key: %w", err)
	}
	if rt.timestamp, err = newTimestamp(spec.Timestamp, spec.TimestampUnit); err != nil {
		return rt, err
	}
	rt.names = &nameCache{names: map[string]string{}}
	rt.partition = -1
	if spec.Partition != nil {
		if rt.partition = *spec.Partition; rt.partition < 0 {
			return rt, fmt.Errorf("partition is %d, it must be 0 or more", rt.partition)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Headers)) {
		if name == "" || strings.HasPrefix(name, "mqtt.") {
			return rt, fmt.Errorf("header name %q is empty or begins with \"mqtt.\", which is the bridge's own", name)
		}
		value, err := parseTemplate(spec.Headers[name], names)
		if err != nil {
			return rt, fmt.Errorf("header %s: %w", name, err)
		}
		rt.headers = append(rt.headers, headerTemplate{name, value})
	}
	return rt, nil
}

// parseFilter splits a filter and numbers its captures in names.
func parseFilter(filter string, names map[string]int) ([]level, error) {
	var levels []level
	parts := strings.Split(filter, "/")
	for i, part := range parts {
		l := level{text: part, capture: -1}
		name, named := strings.CutPrefix(part, "{")
		if named {
			if name, named = strings.CutSuffix(name, "}"); !named {
				return nil, fmt.Errorf("level %q has no closing brace", part)
			}
			name, l.rest = strings.CutSuffix(name, "...")
			if name == "" || name == "topic" || strings.ContainsAny(name, "{}") {
				return nil, fmt.Errorf("level %q: a capture needs a name other than topic", part)
			}
			if _, twice := names[name]; twice {
				return nil, fmt.Errorf("capture {%s} occurs twice", name)
			}
			l.capture = len(names)
			names[name] = l.capture
			l.any = !l.rest
		}
		l.any, l.rest = l.any || part == "+", l.rest || part == "#"
		switch {
		case l.rest && i != len(parts)-1:
			return nil, fmt.Errorf("%q must be the last level", part)
		case !named && len(part) > 1 && strings.ContainsAny(part, "+#"), !named && strings.ContainsAny(part, "{}"):
			return nil, fmt.Errorf("level %q: a wildcard or capture must be a whole level", part)
		}
		levels = append(levels, l)
	}
	if filter == "" {
		return nil, fmt.Errorf("filter is empty; use # for all messages")
	}
	if len(names) > maxCaptures {
		return nil, fmt.Errorf("%d captures, the limit is %d", len(names), maxCaptures)
	}
	return levels, nil
}

const maxCaptures = 16

// captures is what the named levels of a filter matched; views into the topic name.
type captures struct {
	topic []byte
	at    [maxCaptures][]byte
}

// match reports whether topic matches and fills what was captured [MQTT-4.7.2-1].
func (rt *route) match(topic []byte, c *captures) bool {
	if len(topic) > 0 && topic[0] == '$' && (rt.levels[0].any || rt.levels[0].rest) {
		return false
	}
	rest, more := topic, true
	for i := range rt.levels {
		l := &rt.levels[i]
		if l.rest {
			if l.capture >= 0 {
				c.at[l.capture] = rest
			}
			return true
		}
		if !more {
			return false
		}
		var part []byte
		if at := bytes.IndexByte(rest, '/'); at >= 0 {
			part, rest = rest[:at], rest[at+1:]
		} else {
			part, rest, more = rest, nil, false
		}
		if !l.any && string(part) != l.text {
			return false
		}
		if l.capture >= 0 {
			c.at[l.capture] = part
		}
	}
	return !more
}

// ways appends the ways of a message on topic.
func (r *Router) ways(topic, payload []byte, ways []mqtt.Route) ([]mqtt.Route, error) {
	c := captures{topic: topic}
	routes := *r.routes.Load()
	for i := range routes {
		rt := &routes[i]
		switch {
		case !rt.match(topic, &c):
			continue
		case rt.drop:
			return ways, nil
		case len(ways) == MaxWays:
			return ways, &packet.Error{Reason: packet.ImplementationSpecificError, Text: fmt.Sprintf("message matches more than %d routes, which is the limit", MaxWays)}
		}
		ways = another(ways)
		if err := rt.fill(&c, payload, &ways[len(ways)-1]); err != nil || !rt.goesOn {
			return ways, err
		}
	}
	if len(ways) == 0 {
		ways = another(ways)
		ways[0].Topic, ways[0].Partition = DefaultTopic, -1
		ways[0].Key = append(ways[0].Key, topic...)
	}
	return ways, nil
}

// another lengthens ways by one that is empty, in the memory of an earlier one if there is.
func another(ways []mqtt.Route) []mqtt.Route {
	if len(ways) == cap(ways) {
		return append(ways, mqtt.Route{})
	}
	ways = ways[:len(ways)+1]
	r := &ways[len(ways)-1]
	*r = mqtt.Route{Key: r.Key[:0], Headers: r.Headers[:0]}
	return ways
}

func (rt *route) fill(c *captures, payload []byte, out *mqtt.Route) error {
	out.Count, out.Partition = len(rt.headers), rt.partition
	if out.Topic = rt.fixed; out.Topic == "" {
		name := rt.topic.append(out.Key[:0], c)
		out.Key = name
		var err error
		if out.Topic, err = rt.names.get(name); err != nil {
			return err
		}
	}
	if rt.timestamp.path != "" {
		ms, ok := rt.timestamp.of(payload)
		if out.Untimed = !ok; ok {
			out.Timestamp = ms
		}
	}
	for i := range rt.headers {
		h := &rt.headers[i]
		out.Key = h.value.append(out.Key[:0], c) // lent for the moment
		out.Headers = mqtt.AppendHeader(out.Headers, h.name, out.Key)
	}
	if out.Key = rt.key.append(out.Key[:0], c); out.Key == nil {
		out.Key = []byte{} // of captures that are empty; null is no key, which compaction refuses
	}
	return nil
}
