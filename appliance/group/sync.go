package group

import (
	"fmt"
	"slices"
)

func (g *Group) onSync(ev *SyncGroup) {
	if err := g.trySync(ev); err != nil {
		g.answer(Answer{Ref: ev.Ref, Err: err})
	}
}

// trySync parks or answers the request, or returns the error to answer with.
func (g *Group) trySync(ev *SyncGroup) error {
	m, err := g.current(ev.MemberID, ev.InstanceID)
	switch {
	case err != nil:
		return err
	case ev.Generation != g.generation:
		return ErrIllegalGeneration
	case ev.ProtocolType != "" && ev.ProtocolType != g.protocolType, ev.Protocol != "" && ev.Protocol != g.protocol:
		return ErrInconsistentGroupProtocol
	}
	switch g.state {
	case PreparingRebalance:
		return ErrRebalanceInProgress
	case Stable:
		g.touch(m)
		g.answer(Answer{Ref: ev.Ref, Sync: g.assignment(m)})
		return nil
	}
	if m.id == g.leader {
		if err := g.assign(ev.Assignments); err != nil {
			return err
		}
	}
	if m.sync != 0 {
		g.answer(Answer{Ref: m.sync, Err: ErrRebalanceInProgress})
	}
	m.sync, m.synced = ev.Ref, true
	if m.id == g.leader {
		g.store()
	}
	return nil
}

// assign takes the leader's assignment; whom it leaves out gets nothing.
func (g *Group) assign(as map[string][]byte) error {
	n := 0
	for id, a := range as {
		n += len(id) + len(a)
	}
	if n > g.limits.MaxAssignmentBytes {
		return fmt.Errorf("%w: the assignments take %d bytes, at most %d", ErrInvalidRequest, n, g.limits.MaxAssignmentBytes)
	}
	for _, m := range g.members {
		m.assignment = as[m.id]
	}
	return nil
}

func (g *Group) assignment(m *member) *Synced {
	return &Synced{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}

// store asks for the group's metadata to be written; the outcome comes as Stored.
func (g *Group) store() {
	g.storeSeq++
	g.storing = true
	g.out = append(g.out, Store{Seq: g.storeSeq, Value: g.encode()})
}

// onStored goes on where store left off. A newer store, or a rebalance that
// began meanwhile, has overtaken this one.
func (g *Group) onStored(ev *Stored) {
	if ev.Seq != g.storeSeq || !g.storing {
		return
	}
	g.storing = false
	switch g.state {
	case CompletingRebalance:
		g.onAssignmentStored(ev.Err)
	case Stable:
		g.answerReplaced(ev.Err)
	}
}

func (g *Group) onAssignmentStored(err error) {
	if m := g.member(g.leader); m == nil || m.sync == 0 {
		return // of an earlier generation
	}
	if err == nil {
		g.become(Stable)
	}
	for _, m := range g.members {
		if m.sync == 0 {
			continue
		}
		ref := m.sync
		m.sync = 0
		g.touch(m)
		if err != nil {
			m.synced = false
			g.answer(Answer{Ref: ref, Err: ErrCoordinatorNotAvailable})
			continue
		}
		g.answer(Answer{Ref: ref, Sync: g.assignment(m)})
	}
	if err != nil {
		g.rebalance()
	}
}

func (g *Group) onHeartbeat(ev *Heartbeat) error {
	m, err := g.current(ev.MemberID, ev.InstanceID)
	switch {
	case err != nil:
		return err
	case ev.Generation != g.generation:
		return ErrIllegalGeneration
	}
	g.touch(m)
	if g.state == PreparingRebalance {
		return ErrRebalanceInProgress
	}
	return nil
}

func (g *Group) onLeave(ev *LeaveGroup) {
	a := Answer{Ref: ev.Ref, Leave: make([]error, len(ev.Members))}
	if g.state == Dead {
		a.Leave, a.Err = nil, ErrCoordinatorNotAvailable
		g.answer(a)
		return
	}
	members, pending := false, false
	for i, l := range ev.Members {
		if j := slices.IndexFunc(g.pending, func(p pendingMember) bool { return p.id == l.MemberID }); j >= 0 && l.InstanceID == "" {
			g.pending, pending = slices.Delete(g.pending, j, j+1), true
			continue
		}
		m, err := g.leaving(l)
		if err != nil {
			a.Leave[i] = err
			continue
		}
		g.remove(m, ErrUnknownMemberID)
		members = true
	}
	g.answer(a)
	if members || pending {
		g.afterRemoval(members)
	}
}

// leaving finds a member to remove. An operator knows only the instance id.
func (g *Group) leaving(l Leaving) (*member, error) {
	if l.InstanceID != "" && l.MemberID == "" {
		if m := g.staticMember(l.InstanceID); m != nil {
			return m, nil
		}
		return nil, ErrUnknownMemberID
	}
	return g.current(l.MemberID, l.InstanceID)
}
