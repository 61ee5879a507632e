package bridge

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Downlink maps the records of a Kafka topic to messages for MQTT subscribers.
type Downlink struct {
	Topic string `yaml:"topic"` // Kafka topic
	// To is the MQTT topic name: text with {key}, {header.NAME} (the first of that
	// name) and {topic}, the Kafka topic. A record for which it makes no valid topic
	// name (a key that is null, empty or holds + or #) is not delivered, but counted
	// and logged.
	To     string `yaml:"to"`
	QoS    byte   `yaml:"qos"` // 0, 1 or 2
	Retain bool   `yaml:"retain"`
}

func newDownlinks(specs []Downlink) ([]mqtt.Downlink, error) {
	var out []mqtt.Downlink
	seen := map[string]bool{}
	for i, d := range specs {
		to, err := parseDownlink(d)
		if err == nil && seen[d.Topic] {
			err = fmt.Errorf("a second downlink of the same Kafka topic; a topic can have one")
		}
		if err != nil {
			return nil, fmt.Errorf("bridge: downlink[%d] (topic %q): %w", i, d.Topic, err)
		}
		seen[d.Topic] = true
		out = append(out, mqtt.Downlink{Topic: d.Topic, QoS: d.QoS, Retain: d.Retain, AppendTopic: to.append})
	}
	return out, nil
}

// downlinkTemplate is the pieces of Downlink.To.
type downlinkTemplate struct {
	kafka  string
	pieces []downlinkPiece
}

type downlinkPiece struct {
	text   string
	key    bool
	header string
}

func parseDownlink(d Downlink) (*downlinkTemplate, error) {
	switch {
	case !validTopic(d.Topic):
		return nil, fmt.Errorf("is no valid Kafka topic name")
	case d.QoS > mqtt.MaxQoS:
		return nil, fmt.Errorf("qos is %d, it must be 0, 1 or 2", d.QoS)
	case d.To == "":
		return nil, fmt.Errorf("has no \"to\"; give the MQTT topic name, such as devices/{key}/cmd")
	}
	t := &downlinkTemplate{kafka: d.Topic}
	for s := d.To; s != ""; {
		text, rest, found := strings.Cut(s, "{")
		if strings.ContainsAny(text, "+#}\x00") {
			return nil, fmt.Errorf("to %q holds a wildcard or a stray brace", d.To)
		}
		t.pieces = append(t.pieces, downlinkPiece{text: text})
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		header, isHeader := strings.CutPrefix(name, "header.")
		switch {
		case !closed:
			return nil, fmt.Errorf("to %q has no closing brace", d.To)
		case name == "key":
			t.pieces = append(t.pieces, downlinkPiece{key: true})
		case name == "topic":
			t.pieces = append(t.pieces, downlinkPiece{text: d.Topic})
		case isHeader && header != "":
			t.pieces = append(t.pieces, downlinkPiece{header: header})
		default:
			return nil, fmt.Errorf("to %q: {%s} is not known; there are key, header.NAME, topic", d.To, name)
		}
		s = after
	}
	return t, nil
}

func (t *downlinkTemplate) append(dst []byte, r *record.Record) ([]byte, error) {
	for i := range t.pieces {
		switch p := &t.pieces[i]; {
		case p.key:
			if len(r.Key) == 0 {
				return dst, &packet.Error{Reason: packet.TopicNameInvalid, Text: "record has no key"}
			}
			dst = append(dst, r.Key...)
		case p.header != "":
			v, ok := r.Header(p.header)
			if !ok || len(v) == 0 {
				return dst, &packet.Error{Reason: packet.TopicNameInvalid, Text: "record has no header " + p.header}
			}
			dst = append(dst, v...)
		default:
			dst = append(dst, p.text...)
		}
	}
	return dst, nil
}
