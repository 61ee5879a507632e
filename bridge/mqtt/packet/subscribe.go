package packet

import (
	"encoding/binary"
)

// MaxFilters bounds the topic filters of one SUBSCRIBE or UNSUBSCRIBE, each of which
// takes more memory decoded than it does on the wire.
const MaxFilters = 1024

func tooManyFilters(t Type) error {
	return &Error{Reason: QuotaExceeded, Text: t.String() + " with more than 1024 topic filters"}
}

// Subscribe is SUBSCRIBE.
type Subscribe struct {
	PacketID uint16
	Props    Properties
	Filters  []Subscription
}

// Subscription is one topic filter and its options. MQTT 3.1.1 has only QoS.
type Subscription struct {
	Filter            []byte
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained, 1 only if the subscription is new, 2 never
}

// Decode fills s from f. Filters are not checked: a bad one gets a reason code of its own.
func (s *Subscribe) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	s.PacketID, s.Filters = r.packetID(), s.Filters[:0]
	s.Props.Reset()
	if v == V5 {
		s.Props.decode(&r, TypeSubscribe)
	}
	if r.err == nil && len(r.b) == 0 {
		return violation("MQTT-3.8.3-2", "SUBSCRIBE without a topic filter")
	}
	for r.err == nil && len(r.b) > 0 {
		if len(s.Filters) == MaxFilters {
			return tooManyFilters(TypeSubscribe)
		}
		sub := Subscription{Filter: r.str()}
		options := r.u8()
		sub.QoS = options & 3
		if v == V5 {
			sub.NoLocal, sub.RetainAsPublished, sub.RetainHandling = options&4 != 0, options&8 != 0, options>>4&3
			options &^= 0x3c
		}
		switch {
		case r.err != nil:
		case options > 2:
			return malformed("MQTT-3.8.3-5", "subscription options %08b", options)
		case sub.RetainHandling == 3:
			return violation("MQTT-3.8.3-5", "retain handling 3")
		}
		s.Filters = append(s.Filters, sub)
	}
	return r.end(TypeSubscribe)
}

// Append encodes s.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += s.Props.encodedLen()
	}
	for i := range s.Filters {
		n += 3 + len(s.Filters[i].Filter)
	}
	dst = binary.BigEndian.AppendUint16(appendFixed(dst, TypeSubscribe, 2, n), s.PacketID)
	if v == V5 {
		dst = s.Props.append(dst)
	}
	for i := range s.Filters {
		sub := &s.Filters[i]
		options := sub.QoS
		if v == V5 {
			options |= sub.RetainHandling << 4
			if sub.NoLocal {
				options |= 4
			}
			if sub.RetainAsPublished {
				options |= 8
			}
		}
		dst = append(appendString(dst, sub.Filter), options)
	}
	return dst
}

// Unsubscribe is UNSUBSCRIBE.
type Unsubscribe struct {
	PacketID uint16
	Props    Properties
	Filters  [][]byte
}

// Decode fills u from f.
func (u *Unsubscribe) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	u.PacketID, u.Filters = r.packetID(), u.Filters[:0]
	u.Props.Reset()
	if v == V5 {
		u.Props.decode(&r, TypeUnsubscribe)
	}
	if r.err == nil && len(r.b) == 0 {
		return violation("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter")
	}
	for r.err == nil && len(r.b) > 0 {
		if len(u.Filters) == MaxFilters {
			return tooManyFilters(TypeUnsubscribe)
		}
		u.Filters = append(u.Filters, r.str())
	}
	return r.end(TypeUnsubscribe)
}

// Append encodes u.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += u.Props.encodedLen()
	}
	for _, f := range u.Filters {
		n += 2 + len(f)
	}
	dst = binary.BigEndian.AppendUint16(appendFixed(dst, TypeUnsubscribe, 2, n), u.PacketID)
	if v == V5 {
		dst = u.Props.append(dst)
	}
	for _, f := range u.Filters {
		dst = appendString(dst, f)
	}
	return dst
}

// Suback is SUBACK or UNSUBACK: one code per filter, in the order asked. The
// UNSUBACK of MQTT 3.1.1 has no codes.
type Suback struct {
	Type     Type
	PacketID uint16
	Props    Properties
	Codes    []Reason
}

// Decode fills s from f.
func (s *Suback) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	s.Type, s.PacketID, s.Codes = f.Type, r.packetID(), s.Codes[:0]
	s.Props.Reset()
	if v == V5 {
		s.Props.decode(&r, f.Type)
	}
	if v == V5 || f.Type == TypeSuback {
		for _, c := range r.take(len(r.b)) {
			s.Codes = append(s.Codes, Reason(c))
		}
	}
	return r.end(f.Type)
}

// Append encodes s.
func (s *Suback) Append(dst []byte, v Version) []byte {
	n, codes := 2, s.Codes
	if v == V5 {
		n += s.Props.encodedLen()
	} else if s.Type == TypeUnsuback {
		codes = nil
	}
	dst = binary.BigEndian.AppendUint16(appendFixed(dst, s.Type, 0, n+len(codes)), s.PacketID)
	if v == V5 {
		dst = s.Props.append(dst)
	}
	for _, c := range codes {
		dst = append(dst, byte(c))
	}
	return dst
}

// Disconnect is DISCONNECT, or AUTH, which has the same shape. MQTT 3.1.1 has only the type.
type Disconnect struct {
	Type   Type
	Reason Reason
	Props  Properties
}

// Decode fills d from f.
func (d *Disconnect) Decode(f Frame, v Version) error {
	r := reader{b: f.Body}
	d.Type, d.Reason = f.Type, Success
	d.Props.Reset()
	if f.Type == TypeAuth && v != V5 {
		return malformed("", "AUTH is not of MQTT 3.1.1")
	}
	if v == V5 && len(r.b) > 0 {
		d.Reason = Reason(r.u8())
		if len(r.b) > 0 {
			d.Props.decode(&r, f.Type)
		}
		if r.err == nil && !d.knownReason() {
			r.fail(malformed("MQTT-3.14.2-1", "%s with %s", d.Type, d.Reason))
		}
	}
	return r.end(f.Type)
}

// knownReason holds the reason code against tables 3-10 and 3-11.
func (d *Disconnect) knownReason() bool {
	if d.Type == TypeAuth {
		return d.Reason == Success || d.Reason == ContinueAuthentication || d.Reason == ReAuthenticate
	}
	switch d.Reason {
	case Success, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError, NotAuthorized, ServerBusy,
		ServerShuttingDown, KeepAliveTimeout, SessionTakenOver, TopicFilterInvalid, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid,
		PacketTooLarge, MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid, RetainNotSupported, QoSNotSupported,
		UseAnotherServer, ServerMoved, SharedNotSupported, ConnectionRateExceeded, MaximumConnectTime, SubscriptionIDsNotSupported, WildcardsNotSupported:
		return true
	}
	return false
}

// Append encodes d in its shortest form.
func (d *Disconnect) Append(dst []byte, v Version) []byte {
	switch {
	case v != V5 || d.Reason == Success && d.Props.empty():
		return appendFixed(dst, d.Type, 0, 0)
	case d.Props.empty():
		return append(appendFixed(dst, d.Type, 0, 1), byte(d.Reason))
	}
	return d.Props.append(append(appendFixed(dst, d.Type, 0, 1+d.Props.encodedLen()), byte(d.Reason)))
}

// AppendPing encodes PINGREQ or PINGRESP.
func AppendPing(dst []byte, t Type) []byte { return append(dst, byte(t)<<4, 0) }

// CheckPing decodes PINGREQ or PINGRESP, which have no body.
func CheckPing(f Frame) error {
	r := reader{b: f.Body}
	return r.end(f.Type)
}
