package bridge

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Downlink maps the records of a Kafka topic to messages for MQTT subscribers.
type Downlink struct {
	Topic string `yaml:"topic"` // Kafka topic
	// To is the MQTT topic name: text with {key}, {header.NAME} (the first of that
	// name), {topic}, the Kafka topic, and {id}, which names the record. A record for
	// which it makes no valid topic name (a key that is null, empty or holds + or #) is
	// not delivered, but counted and logged.
	To     string `yaml:"to"`
	QoS    byte   `yaml:"qos"` // 0, 1 or 2
	Retain bool   `yaml:"retain"`
	// Reply has the answers of devices brought back to who wrote the records.
	Reply Reply `yaml:"reply"`
}

// downlink is a Downlink made ready.
type downlink struct {
	spec  Downlink
	mqtt  mqtt.Downlink
	reply *reply // nil: no answers are awaited
}

// newDownlinks makes specs ready. One that is among old already is that one.
func newDownlinks(specs []Downlink, old []*downlink) ([]*downlink, error) {
	var out []*downlink
	seen := map[string]bool{}
	for i, spec := range specs {
		d, err := newDownlink(spec)
		if err == nil && seen[spec.Topic] {
			err = fmt.Errorf("a second downlink of the same Kafka topic; a topic can have one")
		}
		if err != nil {
			return nil, fmt.Errorf("bridge: downlink[%d] (topic %q): %w", i, spec.Topic, err)
		}
		for _, o := range old {
			if o.mqtt.Spec == d.mqtt.Spec {
				d = o
			}
		}
		seen[spec.Topic] = true
		out = append(out, d)
	}
	return out, nil
}

func newDownlink(spec Downlink) (*downlink, error) {
	if len(spec.Reply.Topics) == 0 {
		spec.Reply.Topics = nil
	}
	switch {
	case !validTopic(spec.Topic):
		return nil, fmt.Errorf("is no valid Kafka topic name")
	case spec.QoS > mqtt.MaxQoS:
		return nil, fmt.Errorf("qos is %d, it must be 0, 1 or 2", spec.QoS)
	case spec.To == "":
		return nil, fmt.Errorf("has no \"to\"; give the MQTT topic name, such as devices/{key}/cmd")
	}
	to, err := parseDownlink("to", spec.To, spec.Topic)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	d := &downlink{spec: spec, mqtt: mqtt.Downlink{Topic: spec.Topic, Spec: string(text), QoS: spec.QoS, Retain: spec.Retain, AppendTopic: to.append}}
	if d.reply, err = newReply(&spec); err != nil {
		return nil, err
	}
	if d.reply != nil {
		d.mqtt.AppendResponse = d.reply.to.append
	}
	return d, nil
}

// downlinkTemplate is the pieces of an MQTT topic name that is made of a record.
type downlinkTemplate struct {
	kafka  string
	pieces []downlinkPiece
}

type downlinkPiece struct {
	text    string
	key, id bool
	header  string
}

// parseDownlink parses the value s of the key named field.
func parseDownlink(field, s, kafka string) (*downlinkTemplate, error) {
	t := &downlinkTemplate{kafka: kafka}
	for rest := s; rest != ""; {
		text, behind, found := strings.Cut(rest, "{")
		if strings.ContainsAny(text, "+#}\x00") {
			return nil, fmt.Errorf("%s %q holds a wildcard or a stray brace", field, s)
		}
		if text != "" {
			t.pieces = append(t.pieces, downlinkPiece{text: text})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(behind, "}")
		header, isHeader := strings.CutPrefix(name, "header.")
		switch {
		case !closed:
			return nil, fmt.Errorf("%s %q has no closing brace", field, s)
		case name == "key":
			t.pieces = append(t.pieces, downlinkPiece{key: true})
		case name == "id":
			t.pieces = append(t.pieces, downlinkPiece{id: true})
		case name == "topic":
			t.pieces = append(t.pieces, downlinkPiece{text: kafka})
		case isHeader && header != "":
			t.pieces = append(t.pieces, downlinkPiece{header: header})
		default:
			return nil, fmt.Errorf("%s %q: {%s} is not known; there are key, header.NAME, id, topic", field, s, name)
		}
		rest = after
	}
	return t, nil
}

func (t *downlinkTemplate) append(dst []byte, partition int32, r *record.Record) ([]byte, error) {
	for i := range t.pieces {
		switch p := &t.pieces[i]; {
		case p.key:
			if len(r.Key) == 0 {
				return dst, &packet.Error{Reason: packet.TopicNameInvalid, Text: "record has no key"}
			}
			dst = append(dst, r.Key...)
		case p.id:
			dst = appendID(dst, t.kafka, partition, r)
		case p.header != "":
			v, ok := mqtt.Header(r.HeaderBlock, p.header)
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

// appendID appends a record's {id}: partition and offset, by which it is found again, and
// a check sum, by which it is known to be the one: topics are deleted and made again.
func appendID(dst []byte, topic string, partition int32, r *record.Record) []byte {
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, r.Offset, 10)
	sum := crc32.Update(0, castagnoli, []byte(topic))
	sum = crc32.Update(sum, castagnoli, binary.BigEndian.AppendUint64(nil, uint64(r.Timestamp)))
	sum = crc32.Update(sum, castagnoli, r.Key)
	return fmt.Appendf(dst, "-%08x", sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseID takes an {id} apart; the check is for who has the record.
func parseID(id []byte) (partition int32, offset int64, ok bool) {
	if len(id) > maxIDLen {
		return 0, 0, false
	}
	parts := strings.Split(string(id), "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	p, perr := strconv.ParseUint(parts[0], 10, 31)
	o, oerr := strconv.ParseUint(parts[1], 10, 63)
	return int32(p), int64(o), perr == nil && oerr == nil
}

const maxIDLen = 10 + 1 + 19 + 1 + 8
