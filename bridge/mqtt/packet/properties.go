package packet

import (
	"encoding/binary"
	"math/bits"
)

// Property is the identifier of an MQTT 5 property.
type Property byte

const (
	PayloadFormat          Property = 0x01
	MessageExpiry          Property = 0x02 // seconds
	ContentType            Property = 0x03
	ResponseTopic          Property = 0x08
	CorrelationData        Property = 0x09
	SubscriptionID         Property = 0x0B
	SessionExpiry          Property = 0x11 // seconds; SessionNeverExpires
	AssignedClientID       Property = 0x12
	ServerKeepAlive        Property = 0x13 // seconds
	AuthMethod             Property = 0x15
	AuthData               Property = 0x16
	RequestProblemInfo     Property = 0x17
	WillDelay              Property = 0x18 // seconds
	RequestResponseInfo    Property = 0x19
	ResponseInfo           Property = 0x1A
	ServerReference        Property = 0x1C
	ReasonString           Property = 0x1F
	ReceiveMaximum         Property = 0x21
	TopicAliasMaximum      Property = 0x22
	TopicAlias             Property = 0x23
	MaximumQoS             Property = 0x24
	RetainAvailable        Property = 0x25
	UserProperties         Property = 0x26
	MaximumPacketSize      Property = 0x27 // bytes
	WildcardAvailable      Property = 0x28
	SubscriptionIDsAllowed Property = 0x29
	SharedAvailable        Property = 0x2A
)

// SessionNeverExpires is the SessionExpiry of a session without end.
const SessionNeverExpires = 0xFFFFFFFF

const (
	// MaxUserProperties bounds the user properties of one packet.
	MaxUserProperties = 64
	// maxSubscriptionIDs bounds the subscription identifiers of one PUBLISH.
	maxSubscriptionIDs = 256

	propertyCount  = 0x2B
	byteProperties = 8
)

type propertyKind byte

const (
	kindNone propertyKind = iota
	kindBool              // one byte, 0 or 1
	kindU16
	kindU32
	kindVarint
	kindString
	kindBinary
	kindPair
)

// propertyRule is one row of table 2-4: the type and the packets it may stand in.
type propertyRule struct {
	kind    propertyKind
	in      uint32 // bit per Type; bit 0 is the will
	nonzero bool
	slot    byte // which of Properties.bin holds it
}

const (
	inWill       = 1
	inConnect    = 1 << TypeConnect
	inConnack    = 1 << TypeConnack
	inPublish    = 1 << TypePublish
	inSubscribe  = 1 << TypeSubscribe
	inDisconnect = 1 << TypeDisconnect
	inAuth       = 1 << TypeAuth
	inAcks       = 1<<TypePuback | 1<<TypePubrec | 1<<TypePubrel | 1<<TypePubcomp | 1<<TypeSuback | 1<<TypeUnsuback
	inUser       = inWill | inConnect | inConnack | inPublish | inAcks | inSubscribe | 1<<TypeUnsubscribe | inDisconnect | inAuth
)

var propertyRules = [propertyCount]propertyRule{
	PayloadFormat:          {kind: kindBool, in: inPublish | inWill},
	MessageExpiry:          {kind: kindU32, in: inPublish | inWill},
	ContentType:            {kind: kindString, in: inPublish | inWill, slot: 0},
	ResponseTopic:          {kind: kindString, in: inPublish | inWill, slot: 1},
	CorrelationData:        {kind: kindBinary, in: inPublish | inWill, slot: 2},
	SubscriptionID:         {kind: kindVarint, in: inPublish | inSubscribe, nonzero: true},
	SessionExpiry:          {kind: kindU32, in: inConnect | inConnack | inDisconnect},
	AssignedClientID:       {kind: kindString, in: inConnack, slot: 0},
	ServerKeepAlive:        {kind: kindU16, in: inConnack},
	AuthMethod:             {kind: kindString, in: inConnect | inConnack | inAuth, slot: 3},
	AuthData:               {kind: kindBinary, in: inConnect | inConnack | inAuth, slot: 4},
	RequestProblemInfo:     {kind: kindBool, in: inConnect},
	WillDelay:              {kind: kindU32, in: inWill},
	RequestResponseInfo:    {kind: kindBool, in: inConnect},
	ResponseInfo:           {kind: kindString, in: inConnack, slot: 5},
	ServerReference:        {kind: kindString, in: inConnack | inDisconnect, slot: 6},
	ReasonString:           {kind: kindString, in: inConnack | inAcks | inDisconnect | inAuth, slot: 7},
	ReceiveMaximum:         {kind: kindU16, in: inConnect | inConnack, nonzero: true},
	TopicAliasMaximum:      {kind: kindU16, in: inConnect | inConnack},
	TopicAlias:             {kind: kindU16, in: inPublish}, // 0 has a reason code of its own
	MaximumQoS:             {kind: kindBool, in: inConnack},
	RetainAvailable:        {kind: kindBool, in: inConnack},
	UserProperties:         {kind: kindPair, in: inUser},
	MaximumPacketSize:      {kind: kindU32, in: inConnect | inConnack, nonzero: true},
	WildcardAvailable:      {kind: kindBool, in: inConnack},
	SubscriptionIDsAllowed: {kind: kindBool, in: inConnack},
	SharedAvailable:        {kind: kindBool, in: inConnack},
}

// UserProperty is one name and value; names may repeat.
type UserProperty struct{ Name, Value []byte }

// Properties is the properties of one packet. The zero value has none; its memory
// is reused by the next Decode. User properties keep their order.
type Properties struct {
	User            []UserProperty
	SubscriptionIDs []uint32

	has uint64 // bit per Property, for those in num and bin
	num [propertyCount]uint32
	bin [byteProperties][]byte
}

// Uint returns a numeric property; ok is false when it is absent.
func (p *Properties) Uint(id Property) (v uint32, ok bool) {
	if p.has>>id&1 == 0 {
		return 0, false
	}
	return p.num[id], true
}

// Bytes returns a string or binary property; ok is false when it is absent.
func (p *Properties) Bytes(id Property) (v []byte, ok bool) {
	if p.has>>id&1 == 0 {
		return nil, false
	}
	return p.bin[propertyRules[id].slot], true
}

// SetUint sets a numeric property.
func (p *Properties) SetUint(id Property, v uint32) {
	p.has |= 1 << id
	p.num[id] = v
}

// SetBytes sets a string or binary property; v is kept, not copied.
func (p *Properties) SetBytes(id Property, v []byte) {
	p.has |= 1 << id
	p.bin[propertyRules[id].slot] = v
}

// Delete removes a numeric, string or binary property.
func (p *Properties) Delete(id Property) { p.has &^= 1 << id }

// Reset removes all properties and keeps the memory.
func (p *Properties) Reset() { p.User, p.SubscriptionIDs, p.has = p.User[:0], p.SubscriptionIDs[:0], 0 }

func (p *Properties) empty() bool {
	return p.has == 0 && len(p.User) == 0 && len(p.SubscriptionIDs) == 0
}

// decode reads a property length and the properties of packet type t (0: the will).
func (p *Properties) decode(r *reader, t Type) {
	p.Reset()
	length := r.uvarint()
	if uint64(length) > uint64(len(r.b)) {
		r.fail(errShort)
		return
	}
	in := reader{b: r.take(int(length)), err: r.err}
	for in.err == nil && len(in.b) > 0 {
		p.one(&in, t)
	}
	if in.err != nil {
		r.fail(in.err)
	}
}

func (p *Properties) one(r *reader, t Type) {
	id := r.uvarint()
	if id >= propertyCount || propertyRules[id].in>>t&1 == 0 {
		r.fail(malformed("MQTT-2.2.2.2", "property 0x%02X does not belong in %s", id, typeName(t)))
		return
	}
	rule, prop := propertyRules[id], Property(id)
	switch {
	case prop == UserProperties:
		p.user(r)
		return
	case prop == SubscriptionID:
		p.subscriptionID(r, t)
		return
	case p.has>>id&1 == 1:
		r.fail(violation("MQTT-2.2.2.2", "property 0x%02X twice in %s", id, typeName(t)))
		return
	}
	switch rule.kind {
	case kindBool:
		v := r.u8()
		if v > 1 {
			r.fail(violation("", "property 0x%02X is %d, it must be 0 or 1", id, v))
		}
		p.SetUint(prop, uint32(v))
	case kindU16:
		p.SetUint(prop, uint32(r.u16()))
	case kindU32:
		p.SetUint(prop, r.u32())
	case kindString:
		p.SetBytes(prop, r.str())
	case kindBinary:
		p.SetBytes(prop, r.binary())
	}
	if rule.nonzero && r.err == nil && p.num[id] == 0 {
		r.fail(violation("", "property 0x%02X is 0", id))
	}
}

func (p *Properties) user(r *reader) {
	if len(p.User) == MaxUserProperties {
		r.fail(&Error{Reason: QuotaExceeded, Text: "more than 64 user properties"})
		return
	}
	name := r.str()
	value := r.str()
	p.User = append(p.User, UserProperty{Name: name, Value: value})
}

func (p *Properties) subscriptionID(r *reader, t Type) {
	id := r.uvarint()
	switch {
	case r.err != nil:
	case id == 0:
		r.fail(violation("MQTT-3.8.2.1.2", "subscription identifier 0"))
	case t == TypeSubscribe && len(p.SubscriptionIDs) > 0:
		r.fail(violation("MQTT-3.8.2.1.2", "two subscription identifiers in SUBSCRIBE"))
	case len(p.SubscriptionIDs) == maxSubscriptionIDs:
		r.fail(&Error{Reason: QuotaExceeded, Text: "more than 256 subscription identifiers"})
	default:
		p.SubscriptionIDs = append(p.SubscriptionIDs, id)
	}
}

func typeName(t Type) string {
	if t == 0 {
		return "a will"
	}
	return t.String()
}

// bodyLen is the length of the properties without their length field.
func (p *Properties) bodyLen() int {
	n := 0
	for set := p.has; set != 0; set &= set - 1 {
		id := bits.TrailingZeros64(set)
		switch rule := propertyRules[id]; rule.kind {
		case kindBool:
			n += 2
		case kindU16:
			n += 3
		case kindU32:
			n += 5
		case kindString, kindBinary:
			n += 3 + len(p.bin[rule.slot])
		}
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + uvarintLen(id)
	}
	for _, u := range p.User {
		n += 5 + len(u.Name) + len(u.Value)
	}
	return n
}

// encodedLen is the length of the properties with their length field.
func (p *Properties) encodedLen() int {
	n := p.bodyLen()
	return uvarintLen(uint32(n)) + n
}

func (p *Properties) append(dst []byte) []byte {
	dst = appendUvarint(dst, uint32(p.bodyLen()))
	for set := p.has; set != 0; set &= set - 1 {
		id := bits.TrailingZeros64(set)
		dst = append(dst, byte(id))
		switch rule := propertyRules[id]; rule.kind {
		case kindBool:
			dst = append(dst, byte(p.num[id]))
		case kindU16:
			dst = binary.BigEndian.AppendUint16(dst, uint16(p.num[id]))
		case kindU32:
			dst = binary.BigEndian.AppendUint32(dst, p.num[id])
		case kindString, kindBinary:
			dst = appendString(dst, p.bin[rule.slot])
		}
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendUvarint(append(dst, byte(SubscriptionID)), id)
	}
	for _, u := range p.User {
		dst = appendString(appendString(append(dst, byte(UserProperties)), u.Name), u.Value)
	}
	return dst
}
