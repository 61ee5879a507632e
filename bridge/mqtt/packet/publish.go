package packet

import (
	"bytes"
	"encoding/binary"
)

// Publish is PUBLISH.
type Publish struct {
	Dup      bool
	QoS      byte
	Retain   bool
	Topic    []byte // empty only when an MQTT 5 topic alias stands for it
	PacketID uint16 // 0 for QoS 0
	Props    Properties
	Payload  []byte
}

// Decode fills p from f. It does not allocate.
func (p *Publish) Decode(f Frame, v Version) error {
	p.Dup, p.QoS, p.Retain, p.PacketID = f.Flags&8 != 0, f.Flags>>1&3, f.Flags&1 != 0, 0
	switch {
	case p.QoS == 3:
		return malformed("MQTT-3.3.1-4", "PUBLISH with QoS 3")
	case p.QoS == 0 && p.Dup:
		return malformed("MQTT-3.3.1-2", "PUBLISH with QoS 0 and DUP")
	}
	r := reader{b: f.Body}
	p.Topic = r.str()
	if p.QoS > 0 {
		p.PacketID = r.packetID()
	}
	if v == V5 {
		p.Props.decode(&r, TypePublish)
	} else {
		p.Props.Reset()
	}
	if r.err != nil {
		return r.err
	}
	p.Payload = r.b
	return p.checkTopic()
}

func (p *Publish) checkTopic() error {
	if topic, ok := p.Props.Bytes(ResponseTopic); ok {
		if err := CheckTopic(topic); err != nil {
			return violation("MQTT-3.3.2-14", "response topic: %v", err)
		}
	}
	if alias, ok := p.Props.Uint(TopicAlias); ok {
		if alias == 0 {
			return &Error{Reason: TopicAliasInvalid, Clause: "MQTT-3.3.2-8", Text: "topic alias 0"}
		}
		if len(p.Topic) == 0 {
			return nil
		}
	}
	if len(p.Topic) == 0 {
		return violation("MQTT-4.7.3-1", "PUBLISH without a topic name or an alias")
	}
	if bytes.IndexByte(p.Topic, '+') >= 0 || bytes.IndexByte(p.Topic, '#') >= 0 {
		return CheckTopic(p.Topic)
	}
	return nil
}

// Append encodes p.
func (p *Publish) Append(dst []byte, v Version) []byte {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n += p.Props.encodedLen()
	}
	flags := p.QoS << 1
	if p.Dup {
		flags |= 8
	}
	if p.Retain {
		flags |= 1
	}
	dst = appendString(appendFixed(dst, TypePublish, flags, n), p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	if v == V5 {
		dst = p.Props.append(dst)
	}
	return append(dst, p.Payload...)
}

// EncodedLen is how many bytes Append adds.
func (p *Publish) EncodedLen(v Version) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n += p.Props.encodedLen()
	}
	return 1 + uvarintLen(uint32(n)) + n
}

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP. MQTT 3.1.1 has only the packet identifier.
type Ack struct {
	Type     Type
	PacketID uint16
	Reason   Reason
	Props    Properties
}

// Decode fills a from f.
func (a *Ack) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	a.Type, a.PacketID, a.Reason = f.Type, r.packetID(), Success
	a.Props.Reset()
	if v == V5 && len(r.b) > 0 {
		a.Reason = Reason(r.u8())
		if len(r.b) > 0 {
			a.Props.decode(&r, f.Type)
		}
		if r.err == nil && !a.knownReason() {
			r.fail(malformed("MQTT-3.4.2-1", "%s with %s", a.Type, a.Reason))
		}
	}
	return r.end(f.Type)
}

func (a *Ack) knownReason() bool {
	if a.Type == TypePubrel || a.Type == TypePubcomp {
		return a.Reason == Success || a.Reason == PacketIDNotFound
	}
	switch a.Reason {
	case Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicNameInvalid,
		PacketIDInUse, QuotaExceeded, PayloadFormatInvalid:
		return true
	}
	return false
}

// EncodedLen is how many bytes Append adds.
func (a *Ack) EncodedLen(v Version) int {
	switch {
	case v != V5 || a.Reason == Success && a.Props.empty():
		return 4
	case a.Props.empty():
		return 5
	}
	n := 3 + a.Props.encodedLen()
	return 1 + uvarintLen(uint32(n)) + n
}

// Append encodes a in its shortest form.
func (a *Ack) Append(dst []byte, v Version) []byte {
	flags := byte(0)
	if a.Type == TypePubrel {
		flags = 2
	}
	switch {
	case v != V5 || a.Reason == Success && a.Props.empty():
		return binary.BigEndian.AppendUint16(appendFixed(dst, a.Type, flags, 2), a.PacketID)
	case a.Props.empty():
		dst = binary.BigEndian.AppendUint16(appendFixed(dst, a.Type, flags, 3), a.PacketID)
		return append(dst, byte(a.Reason))
	}
	dst = binary.BigEndian.AppendUint16(appendFixed(dst, a.Type, flags, 3+a.Props.encodedLen()), a.PacketID)
	return a.Props.append(append(dst, byte(a.Reason)))
}
