package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/weirmq/weir/appliance/record"
)

// RecordKind is a kind of record of the consumer protocol in __consumer_offsets, by the
// version that its key begins with in Kafka's format. Values are of version 0.
type RecordKind int16

const (
	RecordGroup       RecordKind = 3 // ConsumerGroupMetadata: the group's epoch
	RecordMember      RecordKind = 5 // ConsumerGroupMemberMetadata: what a member says
	RecordTargetEpoch RecordKind = 6 // ConsumerGroupTargetAssignmentMetadata
	RecordTarget      RecordKind = 7 // ConsumerGroupTargetAssignmentMember
	RecordCurrent     RecordKind = 8 // ConsumerGroupCurrentMemberAssignment
)

// ofConsumers reports whether a key of this version is of the consumer protocol. 4 is
// what Kafka 4.0 wrote of partitions; nothing here needs it.
func ofConsumers(version int16) bool {
	return version >= int16(RecordGroup) && version <= int16(RecordCurrent)
}

func (k RecordKind) ofMember() bool {
	return k == RecordMember || k == RecordTarget || k == RecordCurrent
}

func consumerKey(group string, kind RecordKind, member string) []byte {
	b := kbin.AppendString(kbin.AppendInt16(nil, int16(kind)), group)
	if kind.ofMember() {
		b = kbin.AppendString(b, member)
	}
	return b
}

// parseConsumerKey is what consumerKey made of.
func parseConsumerKey(key []byte) (kind RecordKind, group, member string, err error) {
	r := kbin.Reader{Src: key}
	kind, group = RecordKind(r.Int16()), r.String()
	if kind.ofMember() {
		member = r.String()
	}
	if err := r.Complete(); err != nil {
		return kind, group, member, fmt.Errorf("key of consumer group record %d: %w", kind, err)
	}
	return kind, group, member, nil
}

// records makes of changes what is written to the log.
func (g *ConsumerGroup) records(group string, changes []Change, nowMs int64) (rs []record.Record) {
	for _, c := range changes {
		r := record.Record{Timestamp: nowMs, Key: consumerKey(group, c.Kind, c.Member)}
		if !c.Gone {
			r.Value = g.encode(c)
		}
		rs = append(rs, r)
	}
	return rs
}

func (g *ConsumerGroup) encode(c Change) []byte {
	b := kbin.AppendInt16(nil, 0) // version
	m := g.members[c.Member]
	switch c.Kind {
	case RecordGroup:
		b = kbin.AppendInt32(b, g.epoch)
		b = kbin.AppendUvarint(kbin.AppendUvarint(kbin.AppendUvarint(b, 1), metadataHashTag), 8)
		return kbin.AppendInt64(b, g.hash)
	case RecordTargetEpoch:
		b = kbin.AppendInt32(b, g.target)
	case RecordMember:
		b = kbin.AppendCompactNullableString(b, optional(m.instance))
		b = kbin.AppendCompactNullableString(b, optional(m.rack))
		b = kbin.AppendCompactString(kbin.AppendCompactString(b, m.clientID), m.clientHost)
		b = kbin.AppendCompactArrayLen(b, len(m.topics))
		for _, topic := range m.topics {
			b = kbin.AppendCompactString(b, topic)
		}
		b = kbin.AppendCompactNullableString(b, optional(m.regex))
		b = kbin.AppendInt32(b, int32(m.rebalance.Milliseconds()))
		b = kbin.AppendCompactNullableString(b, optional(m.assignor))
		if m.classic != nil {
			value := m.classic.appendTo(nil)
			b = kbin.AppendUvarint(kbin.AppendUvarint(kbin.AppendUvarint(b, 1), classicMemberTag), uint32(len(value)))
			return append(b, value...)
		}
	case RecordTarget:
		b = m.target.appendTo(b)
	case RecordCurrent:
		b = kbin.AppendInt32(kbin.AppendInt32(b, m.epoch), m.previous)
		b = kbin.AppendInt8(b, int8(m.state))
		b = m.revoking.appendTo(m.assigned.appendTo(b))
	}
	return append(b, 0) // no tagged fields
}

// metadataHashTag is the tagged field of a group's record in which Kafka keeps a hash
// of what the group subscribes to; ours is another hash of the same.
const metadataHashTag = 0

// classicMemberTag is the tagged field of a member's record that says that it speaks the
// classic protocol, and how (ClassicMemberMetadata, a struct that may be null).
const classicMemberTag = 0

func (m *classicMember) appendTo(b []byte) []byte {
	b = kbin.AppendInt32(kbin.AppendInt8(b, 1), int32(m.session.Milliseconds()))
	b = kbin.AppendCompactArrayLen(b, len(m.protocols))
	for _, p := range m.protocols {
		b = append(kbin.AppendCompactBytes(kbin.AppendCompactString(b, p.Name), p.Metadata), 0)
	}
	return append(b, 0)
}

func readClassicMember(r *kbin.Reader) *classicMember {
	if r.Int8() != 1 {
		return nil
	}
	m := &classicMember{session: time.Duration(r.Int32()) * time.Millisecond}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		m.protocols = append(m.protocols, Protocol{r.CompactString(), r.CompactBytes()})
		skipTags(r)
	}
	skipTags(r)
	if len(m.protocols) == 0 {
		return nil
	}
	return m
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (s Share) appendTo(b []byte) []byte {
	n := 0
	s.Topics(func(TopicID, []int32) { n++ })
	b = kbin.AppendCompactArrayLen(b, n)
	s.Topics(func(topic TopicID, partitions []int32) {
		b = kbin.AppendCompactArrayLen(kbin.AppendUuid(b, topic), len(partitions))
		for _, p := range partitions {
			b = kbin.AppendInt32(b, p)
		}
		b = append(b, 0)
	})
	return b
}

func readShare(r *kbin.Reader) Share {
	var hs []Held
	for range max(r.CompactArrayLen(), 0) {
		topic := r.Uuid()
		for range max(r.CompactArrayLen(), 0) {
			if hs = append(hs, Held{topic, r.Int32()}); !r.Ok() {
				return nil
			}
		}
		skipTags(r)
	}
	return NewShare(hs...)
}

func skipTags(r *kbin.Reader) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

// RestoreConsumers returns a group as its records describe it, by their keys. All
// sessions begin anew at now.
func RestoreConsumers(limits *Limits, records map[string][]byte, now time.Time) (*ConsumerGroup, error) {
	g := NewConsumerGroup(limits)
	keys := slices.Sorted(maps.Keys(records))
	// Who is a member is said first: what is said of others is left over.
	for _, members := range []bool{true, false} {
		for _, key := range keys {
			kind, _, member, err := parseConsumerKey([]byte(key))
			if err != nil {
				return nil, err
			}
			if members != (kind == RecordMember) {
				continue
			}
			if err := g.decode(kind, member, records[key], now); err != nil {
				return nil, fmt.Errorf("group: stored record %d of member %q: %w", kind, member, err)
			}
		}
	}
	for _, m := range g.members {
		for _, h := range append(slices.Clone(m.assigned), m.revoking...) {
			g.owners[h] = m
		}
	}
	return g, nil
}

func (g *ConsumerGroup) decode(kind RecordKind, member string, value []byte, now time.Time) error {
	r := &kbin.Reader{Src: value}
	if v := r.Int16(); v != 0 {
		return fmt.Errorf("version %d, this broker reads 0", v)
	}
	m := g.members[member]
	switch {
	case kind == RecordGroup:
		g.epoch = r.Int32()
		for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
			if tag, size := r.Uvarint(), r.Uvarint(); tag == metadataHashTag && size == 8 {
				g.hash = r.Int64()
			} else {
				r.Span(int(size))
			}
		}
	case kind == RecordTargetEpoch:
		g.target = r.Int32()
	case kind == RecordMember:
		g.members[member] = g.decodeMember(member, r, now)
	case m == nil:
		return nil
	case kind == RecordTarget:
		m.target = readShare(r)
	case kind == RecordCurrent:
		m.epoch, m.previous, m.state = r.Int32(), r.Int32(), memberState(r.Int8())
		m.assigned, m.revoking = readShare(r), readShare(r)
		if m.state == memberUnrevoked {
			m.revokeBy = now.Add(m.rebalance)
		}
	}
	if !r.Ok() {
		return fmt.Errorf("it is cut short")
	}
	return nil
}

func (g *ConsumerGroup) decodeMember(id string, r *kbin.Reader, now time.Time) *consumer {
	m := &consumer{id: id, state: memberStable}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	m.instance, m.rack = text(r.CompactNullableString()), text(r.CompactNullableString())
	m.clientID, m.clientHost = r.CompactString(), r.CompactString()
	for range max(r.CompactArrayLen(), 0) {
		m.topics = append(m.topics, r.CompactString())
	}
	m.regex = text(r.CompactNullableString())
	m.pattern, _ = compilePattern(m.regex) // one of Kafka's that Go does not know matches nothing
	m.rebalance = time.Duration(r.Int32()) * time.Millisecond
	m.assignor = text(r.CompactNullableString())
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		tag, value := r.Uvarint(), kbin.Reader{Src: r.Span(int(r.Uvarint()))}
		if tag == classicMemberTag {
			m.classic = readClassicMember(&value)
		}
	}
	m.session = now.Add(g.sessionTimeout(m))
	return m
}
