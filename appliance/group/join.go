package group

import (
	"fmt"
	"slices"
)

func (g *Group) onJoin(ev *JoinGroup) {
	if err := g.tryJoin(ev); err != nil {
		g.answer(Answer{Ref: ev.Ref, Err: err, Join: &Joined{MemberID: ev.MemberID, Generation: -1}})
	}
}

// tryJoin parks or answers the request, or returns the error to answer with.
func (g *Group) tryJoin(ev *JoinGroup) error {
	if g.state == Dead {
		return ErrCoordinatorNotAvailable
	}
	if err := g.limits.checkJoin(ev); err != nil {
		return err
	}
	static := g.staticMember(ev.InstanceID)
	switch {
	case !g.supports(ev):
		return ErrInconsistentGroupProtocol
	case ev.MemberID != "":
		return g.rejoin(ev)
	case static != nil:
		if err := g.checkRoom(ev, static); err != nil {
			return err
		}
		g.replaceStatic(ev, static)
		return nil
	}
	if err := g.checkRoom(ev, nil); err != nil {
		return err
	}
	if ev.InstanceID == "" && ev.RequireKnownMember {
		g.pending = append(g.pending, pendingMember{ev.NewMemberID, g.now.Add(ev.SessionTimeout)})
		g.answer(Answer{Ref: ev.Ref, Err: ErrMemberIDRequired, Join: &Joined{MemberID: ev.NewMemberID, Generation: -1}})
		return nil
	}
	g.add(ev, ev.NewMemberID)
	return nil
}

// supports reports whether some protocol of the request is offered by all members.
func (g *Group) supports(ev *JoinGroup) bool {
	if ev.ProtocolType == "" || len(ev.Protocols) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	return ev.ProtocolType == g.protocolType && slices.ContainsFunc(ev.Protocols, func(p Protocol) bool {
		return !slices.ContainsFunc(g.members, func(m *member) bool {
			_, ok := m.protocol(p.Name)
			return !ok
		})
	})
}

// checkRoom bounds the members, and the metadata that all of them bring; as is
// the member that the request is of, nil for a new one.
func (g *Group) checkRoom(ev *JoinGroup, as *member) error {
	if as == nil && len(g.members)+len(g.pending) >= g.limits.MaxMembers {
		return fmt.Errorf("%w: %d members", ErrGroupMaxSizeReached, g.limits.MaxMembers)
	}
	n := subscriptionBytes(ev.Protocols)
	for _, m := range g.members {
		if m != as {
			n += subscriptionBytes(m.protocols)
		}
	}
	if n > g.limits.MaxSubscriptionBytes {
		return fmt.Errorf("%w: the members' protocol metadata would take %d bytes, at most %d", ErrGroupMaxSizeReached, n, g.limits.MaxSubscriptionBytes)
	}
	return nil
}

func subscriptionBytes(ps []Protocol) (n int) {
	for i := range ps {
		n += len(ps[i].Name) + len(ps[i].Metadata)
	}
	return n
}

// rejoin is the join of a member that has an id.
func (g *Group) rejoin(ev *JoinGroup) error {
	if i := slices.IndexFunc(g.pending, func(p pendingMember) bool { return p.id == ev.MemberID }); i >= 0 && ev.InstanceID == "" {
		if err := g.checkRoom(ev, &member{}); err != nil {
			return err
		}
		g.pending = slices.Delete(g.pending, i, i+1)
		g.add(ev, ev.MemberID)
		return nil
	}
	m, err := g.current(ev.MemberID, ev.InstanceID)
	if err != nil {
		return err
	}
	if err := g.checkRoom(ev, m); err != nil {
		return err
	}
	same := m.offers(ev.Protocols)
	switch {
	case g.state == CompletingRebalance && same:
		// The answer of the join was lost: give it again.
		g.joined(m, ev.Ref)
	case g.state == Stable && same && m.id != g.leader:
		// Only the leader can ask for a new assignment without a change of its own:
		// it does so when the topics have changed.
		g.joined(m, ev.Ref)
	default:
		g.update(m, ev)
		g.rebalance()
	}
	return nil
}

// add makes a member of the request and starts a rebalance.
func (g *Group) add(ev *JoinGroup, id string) {
	if len(g.members) == 0 {
		g.protocolType = ev.ProtocolType
	}
	m := &member{id: id, instance: ev.InstanceID, fresh: true}
	g.members = append(g.members, m)
	g.initialGrew = true
	g.update(m, ev)
	m.deadline = g.now.Add(newMemberJoinTimeout)
	g.rebalance()
}

// update takes over what the request says of the member, and parks the request.
func (g *Group) update(m *member, ev *JoinGroup) {
	m.clientID, m.clientHost = ev.ClientID, ev.ClientHost
	m.session, m.rebalance = ev.SessionTimeout, ev.RebalanceTimeout
	m.protocols, m.canSkip = ev.Protocols, ev.CanSkipAssignment
	g.refuse(m, ErrRebalanceInProgress)
	m.join = ev.Ref
}

// refuse answers what the member has parked with an error.
func (g *Group) refuse(m *member, err error) {
	if m.join != 0 {
		g.answer(Answer{Ref: m.join, Err: err, Join: &Joined{MemberID: m.id, Generation: -1}})
	}
	if m.sync != 0 {
		g.answer(Answer{Ref: m.sync, Err: err})
	}
	m.join, m.sync, m.replaced = 0, 0, nil
}

// replaceStatic gives a restarted static member the place of its former self
// under a new member id. In a stable group nobody else notices (KIP-345).
func (g *Group) replaceStatic(ev *JoinGroup, m *member) {
	g.refuse(m, ErrFencedInstanceID)
	oldLeader := g.leader
	if g.leader == m.id {
		g.leader = ev.NewMemberID
	}
	m.id = ev.NewMemberID
	g.update(m, ev)
	if !m.fresh {
		g.touch(m)
	}
	switch {
	case g.state == Stable && g.selectProtocol() == g.protocol:
		m.replaced = &replacement{oldLeader: oldLeader}
		g.store()
	default:
		// A leader may be computing an assignment for the old id, so a group that
		// completes a rebalance starts it anew.
		g.rebalance()
	}
}

// answerReplaced answers the static members whose new id is now in the log.
func (g *Group) answerReplaced(err error) {
	for _, m := range g.members {
		if m.replaced == nil || m.join == 0 {
			continue
		}
		if err != nil {
			g.refuse(m, ErrCoordinatorNotAvailable)
			continue
		}
		j, ref := g.membership(m), m.join
		if m.canSkip {
			// The leader learns that it is the leader, to watch the topics, and that
			// the assignment stands (KIP-814).
			j.SkipAssignment = m.id == g.leader
		} else {
			// An older client would compute an assignment that a stable group ignores,
			// so it is told that its former self leads.
			j.Leader, j.Members = m.replaced.oldLeader, nil
		}
		m.join, m.replaced = 0, nil
		g.touch(m)
		g.answer(Answer{Ref: ref, Join: j})
	}
}

// joined answers a join with the member's place in the current generation.
func (g *Group) joined(m *member, ref Ref) {
	g.touch(m)
	g.answer(Answer{Ref: ref, Join: g.membership(m)})
}

func (g *Group) membership(m *member) *Joined {
	j := &Joined{MemberID: m.id, Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader}
	if m.id != g.leader {
		return j
	}
	for _, o := range g.members {
		metadata, _ := o.protocol(g.protocol)
		j.Members = append(j.Members, JoinedMember{MemberID: o.id, InstanceID: o.instance, Metadata: metadata})
	}
	return j
}
