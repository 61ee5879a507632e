package group

import (
	"math"
	"slices"
	"time"
)

// rebalance calls on all members to join again, unless that is under way, and
// completes it at once if all have.
func (g *Group) rebalance() {
	switch g.state {
	case Dead:
		return
	case Empty:
		delay := max(g.limits.InitialRebalanceDelay, 0)
		g.initial, g.initialGrew = true, false
		g.initialRemaining = max(g.rebalanceTimeout()-delay, 0)
		g.become(PreparingRebalance)
		g.joinDeadline = g.now.Add(delay)
	case Stable, CompletingRebalance:
		for _, m := range g.members {
			m.replaced = nil // its join counts for the next generation
			if m.sync != 0 {
				g.touch(m)
				g.answer(Answer{Ref: m.sync, Err: ErrRebalanceInProgress})
				m.sync = 0
			}
			if g.state == CompletingRebalance {
				m.assignment = nil
			}
		}
		g.initial = false
		g.become(PreparingRebalance)
		g.joinDeadline = g.now.Add(g.rebalanceTimeout())
	}
	g.tryComplete()
}

// tryComplete ends the joining phase when there is nobody to wait for, or no time.
func (g *Group) tryComplete() {
	if g.state != PreparingRebalance {
		return
	}
	if !g.joinDeadline.After(g.now) {
		g.joinTimeUp()
		return
	}
	waiting := len(g.pending) > 0 || slices.ContainsFunc(g.members, func(m *member) bool { return m.join == 0 })
	if !g.initial && !waiting || len(g.members) == 0 && len(g.pending) == 0 {
		g.complete()
	}
}

func (g *Group) joinTimeUp() {
	if g.initial && g.initialGrew && g.initialRemaining > 0 {
		delay := min(g.limits.InitialRebalanceDelay, g.initialRemaining)
		g.initialRemaining -= delay
		g.initialGrew = false
		g.joinDeadline = g.now.Add(delay)
		return
	}
	g.complete()
}

// complete begins the next generation with those who have joined.
func (g *Group) complete() {
	// A static member that is away keeps its place until its session ends.
	g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m.join == 0 && m.instance == "" })
	if len(g.members) > 0 && !g.elect() {
		g.initial = false
		g.joinDeadline = g.now.Add(max(g.rebalanceTimeout(), time.Second)) // nobody is here to lead: wait again
		return
	}
	if g.generation == math.MaxInt32 {
		g.generation = 0
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol, g.leader = "", ""
		g.become(Empty)
		g.store()
		return
	}
	g.protocol = g.selectProtocol()
	g.become(CompletingRebalance)
	g.syncDeadline = g.now.Add(g.rebalanceTimeout())
	for _, m := range g.members {
		m.assignment, m.synced = nil, false
		ref := m.join
		m.join, m.fresh = 0, false
		if ref != 0 {
			g.joined(m, ref)
		}
	}
}

// elect keeps the leader if it has joined, else takes the first who has.
func (g *Group) elect() bool {
	if m := g.member(g.leader); m != nil && m.join != 0 {
		return true
	}
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.join != 0 })
	if i < 0 {
		return false
	}
	g.leader = g.members[i].id
	return true
}

// selectProtocol has each member vote for the first of its protocols that all
// share. Ties go to the protocol that the eldest member prefers.
func (g *Group) selectProtocol() string {
	votes := map[string]int{}
	best := ""
	for _, m := range g.members {
		for _, p := range m.protocols {
			if g.shared(p.Name) {
				votes[p.Name]++
				break
			}
		}
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			if votes[p.Name] > votes[best] {
				best = p.Name
			}
		}
	}
	return best
}

func (g *Group) shared(protocol string) bool {
	for _, m := range g.members {
		if _, ok := m.protocol(protocol); !ok {
			return false
		}
	}
	return true
}

// rebalanceTimeout is the longest that any member asked for (max.poll.interval.ms
// of Java's consumer).
func (g *Group) rebalanceTimeout() (d time.Duration) {
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}

// onTick does what is due: sessions end, phases end.
func (g *Group) onTick() {
	due := func(t time.Time) bool { return !t.After(g.now) }
	n := len(g.pending)
	g.pending = slices.DeleteFunc(g.pending, func(p pendingMember) bool { return due(p.deadline) })
	gone := g.expired(func(m *member) bool { return m.expires() && due(m.deadline) })
	if g.state == CompletingRebalance && due(g.syncDeadline) {
		// Members that joined but never asked for the assignment hold up nobody.
		gone = append(gone, g.expired(func(m *member) bool { return !m.synced && !slices.Contains(gone, m) })...)
	}
	for _, m := range gone {
		g.remove(m, ErrUnknownMemberID)
	}
	if len(gone) > 0 || n != len(g.pending) {
		g.afterRemoval(len(gone) > 0)
	}
	g.tryComplete()
}

func (g *Group) expired(is func(*member) bool) (gone []*member) {
	for _, m := range g.members {
		if is(m) {
			gone = append(gone, m)
		}
	}
	return gone
}

// remove drops a member; afterRemoval must follow.
func (g *Group) remove(m *member, err error) {
	g.refuse(m, err)
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// afterRemoval starts or completes the rebalance that a removal calls for.
func (g *Group) afterRemoval(members bool) {
	switch {
	case g.state == PreparingRebalance:
		g.tryComplete()
	case members && (g.state == Stable || g.state == CompletingRebalance):
		g.rebalance()
	}
}
