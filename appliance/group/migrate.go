package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The values of group.consumer.migration.policy: whether a group that has members may go
// from the classic protocol to the consumer protocol, and back.
const (
	MigrateBoth = "bidirectional"
	MigrateUp   = "upgrade"
	MigrateDown = "downgrade"
	MigrateNot  = "disabled"
)

// Upgrade is the group as one of the consumer protocol, and what is to be written of it;
// g does not change. Members keep what they hold, and their generation is their epoch.
// Those that have never got an assignment hold nothing and join anew.
func (g *Group) Upgrade(now time.Time, cluster Cluster) (*ConsumerGroup, []Change, error) {
	if g.protocolType != consumerProtocolType {
		return nil, nil, fmt.Errorf("%w: it is a group of type %q", ErrGroupIDNotFound, g.protocolType)
	}
	c := NewConsumerGroup(g.limits)
	c.now, c.epoch, c.target = now, g.generation, g.generation
	for _, m := range g.members {
		if m.fresh {
			continue
		}
		n, err := g.consumerOf(m, cluster)
		if err != nil {
			return nil, nil, err
		}
		n.assigned = n.assigned.filter(func(h Held) bool { return c.owners[h] == nil })
		n.target = n.assigned
		n.session = now.Add(m.session)
		for _, h := range n.assigned {
			c.owners[h] = n
		}
		c.members[n.id] = n
		c.write(RecordMember, n)
		c.write(RecordTarget, n)
		c.write(RecordCurrent, n)
	}
	c.hash, c.seen = c.subscriptionHash(cluster), cluster.Changes()
	c.write(RecordGroup, nil)
	c.write(RecordTargetEpoch, nil)
	return c, c.out, nil
}

// consumerOf is a classic member as the consumer protocol knows it.
func (g *Group) consumerOf(m *member, cluster Cluster) (*consumer, error) {
	metadata, ok := m.protocol(g.protocol)
	if !ok && len(m.protocols) > 0 {
		metadata = m.protocols[0].Metadata
	}
	said, err := subscriptionOf(metadata, cluster)
	if err != nil {
		return nil, fmt.Errorf("%w: member %s: %w", ErrGroupIDNotFound, m.id, err)
	}
	n := &consumer{
		id: m.id, instance: m.instance, rack: said.Rack, clientID: m.clientID, clientHost: m.clientHost, rebalance: m.rebalance,
		topics: slices.Compact(slices.Sorted(slices.Values(said.Topics))), state: memberStable, epoch: g.generation, previous: g.generation,
		classic: &classicMember{m.session, m.protocols},
	}
	if g.state == CompletingRebalance { // it has joined, and has no assignment yet: it holds what it said it does
		n.assigned = said.Owned
		return n, nil
	}
	n.assigned, err = shareOf(m.assignment, cluster)
	return n, err
}

// Dissolve answers all that waits in a group that goes over to the consumer protocol:
// its members join again, there.
func (g *Group) Dissolve(now time.Time) []Effect {
	g.now, g.out = now, nil
	for _, m := range g.members {
		g.refuse(m, ErrRebalanceInProgress)
	}
	return g.out
}

// Classic reports whether there are members and all speak the classic protocol.
func (g *ConsumerGroup) Classic() bool {
	for _, m := range g.members {
		if m.classic == nil {
			return false
		}
	}
	return len(g.members) > 0
}

// Downgrade is a group whose members all speak the classic protocol as one of that. A
// rebalance must follow: nobody leads it yet.
func (g *ConsumerGroup) Downgrade(now time.Time, cluster Cluster) *Group {
	out := NewGroup(g.limits, now)
	out.state, out.protocolType = Stable, consumerProtocolType
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		out.generation = max(out.generation, m.epoch)
		out.members = append(out.members, &member{
			id: m.id, instance: m.instance, clientID: m.clientID, clientHost: m.clientHost, session: m.classic.session, rebalance: m.rebalance,
			protocols: m.classic.protocols, assignment: assignmentOf(m.assigned, cluster), synced: true, deadline: m.session,
		})
	}
	out.leader, out.protocol = out.members[0].id, out.selectProtocol()
	return out
}

// subscriptionOf reads the metadata of a classic consumer as what it would say in the
// consumer protocol. One too old to say what it owns has let go of everything before it
// joins.
func subscriptionOf(metadata []byte, cluster Cluster) (*ConsumerHeartbeat, error) {
	var v kmsg.ConsumerMemberMetadata
	if err := v.ReadFrom(metadata); err != nil {
		return nil, fmt.Errorf("%w: the subscription cannot be read: %w", ErrInconsistentGroupProtocol, err)
	}
	said := &ConsumerHeartbeat{Topics: slices.Clone(v.Topics), OwnedSaid: true}
	if said.Topics == nil {
		said.Topics = []string{}
	}
	if v.Rack != nil {
		said.Rack = *v.Rack
	}
	for _, t := range v.OwnedPartitions {
		said.Owned = appendHeld(said.Owned, t.Topic, t.Partitions, cluster)
	}
	said.Owned = NewShare(said.Owned...)
	return said, nil
}

// shareOf reads the assignment of a classic consumer; topics that are gone are left out.
func shareOf(assignment []byte, cluster Cluster) (Share, error) {
	if len(assignment) == 0 {
		return nil, nil
	}
	var v kmsg.ConsumerMemberAssignment
	if err := v.ReadFrom(assignment); err != nil {
		return nil, fmt.Errorf("%w: an assignment cannot be read: %w", ErrGroupIDNotFound, err)
	}
	var held Share
	for _, t := range v.Topics {
		held = appendHeld(held, t.Topic, t.Partitions, cluster)
	}
	return NewShare(held...), nil
}

func appendHeld(s Share, topic string, partitions []int32, cluster Cluster) Share {
	id, _, ok := cluster.Topic(topic)
	if !ok {
		return s
	}
	for _, p := range partitions {
		s = append(s, Held{id, p})
	}
	return s
}

// assignmentOf is a share as classic consumers read it.
func assignmentOf(s Share, cluster Cluster) []byte {
	v := kmsg.NewConsumerMemberAssignment()
	s.Topics(func(topic TopicID, partitions []int32) {
		name, ok := cluster.Name(topic)
		if !ok {
			return // deleted meanwhile
		}
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = name, partitions
		v.Topics = append(v.Topics, t)
	})
	return v.AppendTo(nil)
}
