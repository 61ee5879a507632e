package group

import (
	"fmt"
	"slices"
	"time"
)

// While a group goes from the classic protocol to the consumer protocol, member by
// member, and back, some of its members speak the one and some the other (KIP-848). To
// the group they are all consumers; what follows is how it speaks to the classic ones. A
// generation is the member's epoch. A join is answered at once, by a group that leads
// itself; a member that has to let go of partitions, or may take some, is told by its
// next heartbeat to join again.

// classicMember is what is known of a member that speaks the classic protocol.
type classicMember struct {
	session   time.Duration
	protocols []Protocol
}

// sessionTimeout is how long a member may be silent.
func (g *ConsumerGroup) sessionTimeout(m *consumer) time.Duration {
	if m.classic != nil {
		return m.classic.session
	}
	return g.limits.ConsumerSessionTimeout
}

// Join serves JoinGroup.
func (g *ConsumerGroup) Join(now time.Time, ev *JoinGroup, cluster Cluster) (Joined, []Change, error) {
	g.now, g.out = now, nil
	id := ev.MemberID
	if id == "" {
		id = ev.NewMemberID
	}
	failed := Joined{MemberID: ev.MemberID, Generation: -1}
	said, err := g.checkJoin(ev, id, cluster)
	if err != nil {
		return failed, nil, err
	}
	if ev.MemberID == "" && ev.InstanceID == "" && ev.RequireKnownMember {
		failed.MemberID = id
		return failed, nil, ErrMemberIDRequired
	}
	m, joined, err := g.joiner(ev, said)
	if err != nil {
		return failed, nil, err
	}
	m.classic = &classicMember{ev.SessionTimeout, ev.Protocols}
	_, subscribed := m.take(said)
	g.write(RecordMember, m)
	g.refresh(cluster, joined || subscribed)
	if g.epoch > g.target {
		g.retarget(cluster)
	}
	g.reconcile(m, said)
	m.session, m.rejoinBy = now.Add(ev.SessionTimeout), time.Time{}
	return Joined{MemberID: m.id, Generation: m.epoch, ProtocolType: consumerProtocolType, Protocol: g.spoken(m)}, g.out, nil
}

// checkJoin refuses what makes no sense before anything has changed; it is what the
// member would say in the consumer protocol.
func (g *ConsumerGroup) checkJoin(ev *JoinGroup, id string, cluster Cluster) (*ConsumerHeartbeat, error) {
	if err := g.limits.checkJoin(ev); err != nil {
		return nil, err
	}
	if ev.ProtocolType != consumerProtocolType || len(ev.Protocols) == 0 || !g.offersShared(ev, id) {
		return nil, ErrInconsistentGroupProtocol
	}
	said, err := subscriptionOf(ev.Protocols[0].Metadata, cluster)
	if err != nil {
		return nil, err
	}
	said.MemberID, said.InstanceID, said.ClientID, said.ClientHost = id, ev.InstanceID, ev.ClientID, ev.ClientHost
	said.Rebalance, said.Regex = ev.RebalanceTimeout, new(string)
	n := subscriptionBytes(ev.Protocols)
	for _, m := range g.members {
		if m.id != id {
			n += m.subscriptionBytes()
		}
	}
	if n > g.limits.MaxSubscriptionBytes {
		return nil, fmt.Errorf("%w: the subscriptions of all members would take %d bytes, at most %d", ErrGroupMaxSizeReached, n, g.limits.MaxSubscriptionBytes)
	}
	return said, nil
}

// offersShared reports whether some protocol of the request is offered by all other
// classic members: the day may come when they are among themselves.
func (g *ConsumerGroup) offersShared(ev *JoinGroup, id string) bool {
	return slices.ContainsFunc(ev.Protocols, func(p Protocol) bool { return g.classicsOffer(p.Name, id) })
}

func (g *ConsumerGroup) classicsOffer(protocol, but string) bool {
	for _, m := range g.members {
		if m.classic != nil && m.id != but && !slices.ContainsFunc(m.classic.protocols, func(p Protocol) bool { return p.Name == protocol }) {
			return false
		}
	}
	return true
}

// spoken is the protocol that a classic member is told was selected: how it lets go of
// partitions goes by that.
func (g *ConsumerGroup) spoken(m *consumer) string {
	for _, p := range m.classic.protocols {
		if g.classicsOffer(p.Name, m.id) {
			return p.Name
		}
	}
	return m.classic.protocols[0].Name
}

// joiner is the member that a join speaks for, which may be new.
func (g *ConsumerGroup) joiner(ev *JoinGroup, said *ConsumerHeartbeat) (m *consumer, joined bool, err error) {
	var static *consumer
	if ev.InstanceID != "" {
		static = g.static(ev.InstanceID)
	}
	m = g.members[said.MemberID]
	switch {
	case static != nil && static.id != said.MemberID && ev.MemberID != "":
		return nil, false, ErrFencedInstanceID
	case static != nil && static.id != said.MemberID:
		if static.classic == nil && static.epoch != staticLeaveEpoch {
			return nil, false, fmt.Errorf("%w: %s is member %s", ErrUnreleasedInstanceID, ev.InstanceID, static.id)
		}
		return g.replace(static, said), false, nil
	case m == nil && len(g.members) >= g.limits.MaxMembers:
		return nil, false, ErrGroupMaxSizeReached
	case m == nil:
		m = &consumer{id: said.MemberID, instance: ev.InstanceID, state: memberStable}
		g.members[m.id] = m
		return m, true, nil
	}
	return m, false, nil
}

// Sync serves SyncGroup.
func (g *ConsumerGroup) Sync(now time.Time, ev *SyncGroup, cluster Cluster) (Synced, error) {
	g.now, g.out = now, nil
	m, err := g.classicMember(ev.MemberID, ev.InstanceID, ev.Generation)
	if err != nil {
		return Synced{}, err
	}
	protocol := g.spoken(m)
	switch {
	case ev.ProtocolType != "" && ev.ProtocolType != consumerProtocolType, ev.Protocol != "" && ev.Protocol != protocol:
		return Synced{}, ErrInconsistentGroupProtocol
	case m.epoch < g.epoch && m.state != memberUnrevoked: // one that has yet to let go gets nothing new before
		g.callBack(m)
		return Synced{}, ErrRebalanceInProgress
	}
	m.session = now.Add(m.classic.session)
	return Synced{ProtocolType: consumerProtocolType, Protocol: protocol, Assignment: assignmentOf(m.assigned, cluster)}, nil
}

// Beat serves Heartbeat.
func (g *ConsumerGroup) Beat(now time.Time, ev *Heartbeat, cluster Cluster) ([]Change, error) {
	g.now, g.out = now, nil
	m, err := g.classicMember(ev.MemberID, ev.InstanceID, ev.Generation)
	if err != nil {
		return nil, err
	}
	g.refresh(cluster, false)
	m.session = now.Add(m.classic.session)
	if m.epoch < g.epoch || m.state == memberUnrevoked || m.state == memberUnreleased && !g.waits(m) {
		g.callBack(m)
		return g.out, ErrRebalanceInProgress
	}
	return g.out, nil
}

// waits reports whether a member has to wait for partitions of others.
func (g *ConsumerGroup) waits(m *consumer) bool {
	for _, h := range m.target {
		if owner := g.owners[h]; owner != nil && owner != m {
			return true
		}
	}
	return false
}

// callBack expects the member to join again within its rebalance timeout.
func (g *ConsumerGroup) callBack(m *consumer) {
	if m.rejoinBy.IsZero() {
		m.rejoinBy = g.now.Add(m.rebalance)
	}
}

// Leave serves LeaveGroup, which an operator may send for members of either protocol.
func (g *ConsumerGroup) Leave(now time.Time, members []Leaving) ([]error, []Change) {
	g.now, g.out = now, nil
	errs := make([]error, len(members))
	for i, l := range members {
		m := g.members[l.MemberID]
		if l.InstanceID != "" {
			m = g.static(l.InstanceID)
		}
		switch {
		case m == nil:
			errs[i] = ErrUnknownMemberID
		case l.InstanceID != "" && l.MemberID != "" && m.id != l.MemberID:
			errs[i] = ErrFencedInstanceID
		default:
			g.remove(m)
		}
	}
	return errs, g.out
}

// classicMember finds the member that a request of the classic protocol speaks for.
func (g *ConsumerGroup) classicMember(id, instance string, generation int32) (*consumer, error) {
	m := g.members[id]
	if instance != "" {
		if m = g.static(instance); m != nil && m.id != id {
			return nil, ErrFencedInstanceID
		}
	}
	switch {
	case m == nil || m.classic == nil:
		return nil, ErrUnknownMemberID
	case m.epoch != generation:
		return nil, ErrIllegalGeneration
	}
	return m, nil
}
