package mqtt

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// message is one record on its way to subscribers. It is views into the record's
// memory and is reused for the next.
type message struct {
	topic   []byte
	client  []byte // who published it; empty for records of Kafka clients
	payload []byte
	block   []byte // record headers
	offset  int64
	qos     byte
	retain  bool // as it was published
	expired bool
	late    bool // read expired messages too: their delivery has begun [MQTT-4.3.3-7]

	topicMem []byte // backs topic and response for downlinks
	// of downlinks: where an answer is awaited, and what it is told by
	response    []byte
	correlation []byte
	pub         packet.Publish
	propsOK     bool
	expiry      uint32 // seconds left
	expires     bool
	encoded     [2][3]encoding // by v5, QoS
}

// encoding is a PUBLISH ready to be copied into a subscriber's output; only the
// packet identifier differs between subscribers.
type encoding struct {
	ok    bool
	bytes []byte
	idAt  int
}

// decode reads a record that came in by MQTT. ok is false for a record that did not.
// Age is Options.Age.
func (m *message) decode(r *record.Record, age func(time.Time) time.Duration) (ok bool) {
	m.reset(r)
	copied := false
	for key, value := range func(y func(k, v []byte) bool) { headers(r.HeaderBlock, y) } {
		switch string(key) {
		case HeaderTopic:
			m.topic, ok = value, true
		case HeaderQoS:
			if len(value) == 1 && value[0] >= '0' && value[0] <= '2' {
				m.qos = value[0] - '0'
			}
		case HeaderRetain:
			m.retain = string(value) == "true"
		case HeaderClient:
			m.client = value
		case HeaderCopy:
			copied = true
		case headerExpiry:
			m.expire(value, age(time.UnixMilli(r.Timestamp)))
		}
	}
	return ok && !copied && len(m.topic) > 0 && packet.CheckTopic(m.topic) == nil
}

// decodeDown reads a record of a downlink topic.
func (m *message) decodeDown(r *record.Record, d *Downlink, partition int32, age func(time.Time) time.Duration) error {
	m.reset(r)
	m.qos, m.retain = d.QoS, d.Retain
	memory, err := d.AppendTopic(m.topicMem[:0], partition, r)
	if err != nil {
		return err
	}
	n := len(memory)
	if d.AppendResponse != nil {
		if memory, err = d.AppendResponse(memory, partition, r); err != nil {
			return err
		}
	}
	m.topicMem, m.topic, m.response = memory, memory[:n:n], memory[n:]
	if err := checkName(m.topic); err != nil {
		return err
	}
	for key, value := range func(y func(k, v []byte) bool) { headers(r.HeaderBlock, y) } {
		if err == nil {
			err = m.command(string(key), value, age(time.UnixMilli(r.Timestamp)))
		}
	}
	if err == nil && len(m.response) > 0 {
		err = checkName(m.response)
	}
	return err
}

// command takes a header that a Kafka client gave a record for MQTT; it may be anything.
func (m *message) command(key string, value []byte, age time.Duration) error {
	switch key {
	case headerExpiry:
		m.expire(value, age)
	case headerContentType:
		return packet.CheckString(value)
	case headerResponse:
		m.response = value
	case headerCorrelation:
		m.correlation = value
	case HeaderKafkaCorrelation:
		if m.correlation == nil {
			m.correlation = value
		}
	}
	if len(value) > 0xFFFF && (key == headerCorrelation || key == HeaderKafkaCorrelation) {
		return &packet.Error{Reason: packet.PacketTooLarge, Text: fmt.Sprintf("header %s has %d bytes, correlation data can have 65535", key, len(value))}
	}
	return nil
}

// checkName checks a topic name that is no client's.
func checkName(name []byte) error {
	if len(name) > 0xFFFF {
		return &packet.Error{Reason: packet.TopicNameInvalid, Text: fmt.Sprintf("topic name of %d bytes, MQTT's limit is 65535", len(name))}
	}
	if err := packet.CheckString(name); err != nil {
		return err
	}
	return packet.CheckTopic(name)
}

func (m *message) reset(r *record.Record) {
	m.topic, m.client, m.payload, m.block, m.offset = nil, nil, r.Value, r.HeaderBlock, r.Offset
	m.response, m.correlation = nil, nil
	m.qos, m.retain, m.expired, m.expires, m.propsOK = 0, false, false, false, false
	m.forget()
}

// forget drops the cached encodings.
func (m *message) forget() {
	for i := range m.encoded {
		for qos := range m.encoded[i] {
			m.encoded[i][qos].ok = false
		}
	}
}

// expire applies the message expiry interval: what has waited longer is not
// delivered [MQTT-3.3.2-5], and what is delivered says the rest [MQTT-3.3.2-6].
func (m *message) expire(value []byte, waited time.Duration) {
	seconds, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil {
		return
	}
	left := int64(seconds) - int64(max(0, waited)/time.Second)
	m.expires, m.expired, m.expiry = true, left <= 0, uint32(max(left, 0))
}

// properties fills m.pub.Props from the record's headers, unaltered and in order
// [MQTT-3.3.2-15] to [MQTT-3.3.2-20].
func (m *message) properties() *packet.Properties {
	p := &m.pub.Props
	if m.propsOK {
		return p
	}
	p.Reset()
	m.propsOK = true
	for key, value := range func(y func(k, v []byte) bool) { headers(m.block, y) } {
		switch string(key) {
		case HeaderTopic, HeaderQoS, HeaderRetain, HeaderClient, HeaderCopy, headerOrder:
		case headerFormat:
			if string(value) == "1" {
				p.SetUint(packet.PayloadFormat, 1)
			} else {
				p.SetUint(packet.PayloadFormat, 0)
			}
		case headerExpiry:
			if m.expires {
				p.SetUint(packet.MessageExpiry, m.expiry)
			}
		case headerContentType:
			p.SetBytes(packet.ContentType, value)
		case headerResponse:
			p.SetBytes(packet.ResponseTopic, value)
		case headerCorrelation:
			p.SetBytes(packet.CorrelationData, value)
		case HeaderKafkaCorrelation, HeaderKafkaReplyTopic, HeaderKafkaReplyPartition:
			if len(m.response) == 0 { // else they have become properties, or are the broker's business
				m.userProperty(p, key, value)
			}
		default:
			m.userProperty(p, key, value)
		}
	}
	if len(m.response) > 0 {
		p.SetBytes(packet.ResponseTopic, m.response)
		if m.correlation != nil {
			p.SetBytes(packet.CorrelationData, m.correlation)
		}
	}
	return p
}

// userProperty adds a header as a user property if MQTT can say it: headers of
// Kafka clients may be any bytes.
func (m *message) userProperty(p *packet.Properties, key, value []byte) {
	if hasPrefix(key, userPrefix) {
		key = key[len(userPrefix):]
	}
	if len(p.User) == packet.MaxUserProperties || len(key) > 0xFFFF || len(value) > 0xFFFF ||
		packet.CheckString(key) != nil || packet.CheckString(value) != nil {
		return
	}
	p.User = append(p.User, packet.UserProperty{Name: key, Value: value})
}

// delivery is how one subscriber gets a message.
type delivery struct {
	version packet.Version
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	subIDs  []uint32
	alias   uint16 // for the topic name; 0: none
	known   bool   // the client has the alias already
	lost    []byte // what was lost before the message, for the client to know
}

// plain reports whether the encoding is the same for every such subscriber.
func (d *delivery) plain() bool {
	return !d.retain && !d.dup && len(d.subIDs) == 0 && d.alias == 0 && len(d.lost) == 0
}

// append encodes the message for one subscriber.
func (m *message) append(dst []byte, d *delivery) []byte {
	if !d.plain() {
		return m.encode(d).Append(dst, d.version)
	}
	e := m.cached(d.version, d.qos)
	dst = append(dst, e.bytes...)
	if d.qos > 0 {
		binary.BigEndian.PutUint16(dst[len(dst)-len(e.bytes)+e.idAt:], d.id)
	}
	return dst
}

// size is how many bytes append adds.
func (m *message) size(d *delivery) int {
	if !d.plain() {
		return m.encode(d).EncodedLen(d.version)
	}
	return len(m.cached(d.version, d.qos).bytes)
}

func (m *message) cached(v packet.Version, qos byte) *encoding {
	e := &m.encoded[v&1][qos]
	if !e.ok {
		p := m.encode(&delivery{version: v, qos: qos, id: 1})
		e.bytes = p.Append(e.bytes[:0], v)
		e.ok = true
		e.idAt = 2 + len(m.topic) // after the topic name, behind the fixed header
		for i := 1; ; i++ {
			if e.bytes[i] < 0x80 {
				e.idAt += i + 1
				break
			}
		}
	}
	return e
}

func (m *message) encode(d *delivery) *packet.Publish {
	p := &m.pub
	p.Dup, p.QoS, p.Retain, p.Topic, p.PacketID, p.Payload = d.dup, d.qos, d.retain, m.topic, d.id, m.payload
	if d.version == packet.V5 {
		m.properties().SubscriptionIDs = append(p.Props.SubscriptionIDs[:0], d.subIDs...)
		if p.Props.Delete(packet.TopicAlias); d.alias > 0 {
			p.Props.SetUint(packet.TopicAlias, uint32(d.alias))
			if d.known {
				p.Topic = nil
			}
		}
		if len(d.lost) > 0 { // once: the next encoding starts anew
			p.Props.User = append(p.Props.User, packet.UserProperty{Name: []byte(lostProperty), Value: d.lost})
			m.propsOK = false
		}
	}
	return p
}
