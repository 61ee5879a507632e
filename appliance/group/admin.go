package group

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// Description is a group as DescribeGroups shows it.
type Description struct {
	Group        string
	State        State
	Consumer     bool // of the consumer protocol (KIP-848)
	ProtocolType string
	Protocol     string // of a stable group
	Generation   int32
	Members      []MemberDescription
}

// MemberDescription is one member of a Description. Metadata and Assignment are
// set only in a stable group.
type MemberDescription struct {
	MemberID, InstanceID string
	ClientID, ClientHost string
	Metadata, Assignment []byte
}

// Describe describes the group; the slices of bytes must not be modified.
func (g *Group) Describe(id string) Description {
	d := Description{Group: id, State: g.state, ProtocolType: g.protocolType, Generation: g.generation}
	if g.state == Stable {
		d.Protocol = g.protocol
	}
	for _, m := range g.members {
		md := MemberDescription{MemberID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost}
		if g.state == Stable {
			md.Metadata, _ = m.protocol(g.protocol)
			md.Assignment = m.assignment
		}
		d.Members = append(d.Members, md)
	}
	return d
}

// Describe serves DescribeGroups. A group that does not exist, or is of the consumer
// protocol, is Dead, with ErrGroupIDNotFound.
func (c *Coordinator) Describe(group string) (Description, error) {
	d, err := c.describe(group)
	if d.Consumer {
		return Description{Group: group, State: Dead}, fmt.Errorf("%w: %q is not a classic group", ErrGroupIDNotFound, group)
	}
	return d, err
}

// describe describes a group of either protocol.
func (c *Coordinator) describe(group string) (Description, error) {
	if c.log.down != nil {
		return Description{Group: group, State: Dead}, c.log.down
	}
	c.mu.Lock()
	s := c.slots[group]
	c.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.gone:
		case s.consumer != nil:
			return s.consumer.Describe(group).brief(), nil
		default:
			return s.group.Describe(group), nil
		}
	}
	if g := c.restoreConsumers(group); g != nil {
		return g.Describe(group).brief(), nil
	}
	value, known := c.log.table.metadata(group)
	if !known {
		return Description{Group: group, State: Dead}, ErrGroupIDNotFound
	}
	return c.restore(group, value).Describe(group), nil
}

// List describes all groups, sorted by id.
func (c *Coordinator) List() ([]Description, error) {
	if c.log.down != nil {
		return nil, c.log.down
	}
	ids := c.log.table.ids()
	c.mu.Lock()
	for id := range c.slots {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	slices.Sort(ids)
	var out []Description
	for _, id := range slices.Compact(ids) {
		if d, err := c.describe(id); err == nil {
			out = append(out, d)
		}
	}
	return out, nil
}

// Delete serves DeleteGroups: it returns when the group and its offsets are gone
// for good. The group must have no members.
func (c *Coordinator) Delete(group string) error {
	s, err := c.lock(group, false)
	switch {
	case err != nil:
		return err
	case s == nil:
		return ErrGroupIDNotFound
	}
	if err := s.kill(); err != nil {
		c.unlock(s)
		return err
	}
	// From here on the group refuses requests; those that it has accepted are to be
	// deleted too.
	s.settle()
	nowMs := c.opts.Now().UnixMilli()
	var rs []record.Record
	for tp := range c.log.table.commits(group) {
		rs = append(rs, offsetTombstone(group, tp, nowMs))
	}
	rs = append(rs, encodeGroup(group, nil, nowMs))
	rs = append(rs, c.consumerTombstones(group, nowMs)...)
	err = c.writeAll(s, rs)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.forget(s)
	return err
}

// writeAll is write for more records than may fit into one batch.
func (c *Coordinator) writeAll(s *slot, rs []record.Record) error {
	s.inflight++
	s.mu.Unlock()
	end, err := c.log.appendAll(rs)
	if err == nil {
		err = c.log.awaitApplied(end)
	}
	s.mu.Lock()
	s.landed()
	c.unlock(s)
	return err
}

// DeleteOffsets serves OffsetDelete. A live group's offset can be deleted only if
// the group is known not to consume the topic. The errors are one per
// partition, nil when all went well.
func (c *Coordinator) DeleteOffsets(group string, tps []record.TopicPartition) (each []error, err error) {
	s, err := c.lock(group, false)
	for s != nil && s.inflight > 0 {
		s.settle() // it may be forgotten meanwhile
		c.unlock(s)
		s, err = c.lock(group, false)
	}
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, ErrGroupIDNotFound
	}
	live := !s.empty()
	if live && s.consumer == nil && s.group.protocolType != consumerProtocolType {
		c.unlock(s)
		return nil, ErrNonEmptyGroup
	}
	nowMs := c.opts.Now().UnixMilli()
	var rs []record.Record
	for i, tp := range tps {
		if live && s.subscribed(tp.Topic) {
			if each == nil {
				each = make([]error, len(tps))
			}
			each[i] = ErrGroupSubscribedToTopic
			continue
		}
		if _, ok := c.log.table.committed(group, tp); ok {
			rs = append(rs, offsetTombstone(group, tp, nowMs))
		}
	}
	if len(rs) == 0 {
		c.unlock(s)
		return each, nil
	}
	return each, c.writeAll(s, rs)
}

// subscribed reports whether some member may consume the topic. Subscriptions
// that cannot be read count as all topics.
func (g *Group) subscribed(topic string) bool {
	return slices.ContainsFunc(g.members, func(m *member) bool {
		return slices.ContainsFunc(m.protocols, func(p Protocol) bool {
			v := kmsg.NewConsumerMemberMetadata()
			return v.ReadFrom(p.Metadata) != nil || slices.Contains(v.Topics, topic)
		})
	})
}

// ForgetTopic deletes the offsets that groups have committed for a topic. It is
// to be called when the topic is deleted: one created later by the same name
// has other offsets.
func (c *Coordinator) ForgetTopic(topic string) error {
	if err := c.log.catchUp(); err != nil {
		return err
	}
	nowMs := c.opts.Now().UnixMilli()
	var rs []record.Record
	for _, id := range c.log.table.ids() {
		for tp := range c.log.table.commits(id) {
			if tp.Topic == topic {
				rs = append(rs, offsetTombstone(id, tp, nowMs))
			}
		}
	}
	slices.SortFunc(rs, func(a, b record.Record) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	if len(rs) == 0 {
		return nil
	}
	end, err := c.log.appendAll(rs)
	if err != nil {
		return err
	}
	return c.log.awaitApplied(end)
}
