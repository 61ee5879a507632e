package group

import (
	"slices"
	"time"
)

// reconcile brings a member one step nearer to its target: it first lets go of what it
// is not to hold any more, and then takes what nobody else holds. Only then is it at
// the target's epoch.
func (g *ConsumerGroup) reconcile(m *consumer, ev *ConsumerHeartbeat) {
	switch m.state {
	case memberStable:
		if m.epoch == g.target {
			return
		}
	case memberUnrevoked:
		if ev.holds(m.revoking) {
			return
		}
		g.free(m, m.revoking)
		m.revoking = nil
	}
	kept := m.assigned.and(m.target)
	revoking := m.assigned.minus(m.target)
	taken := m.target.filter(func(h Held) bool { return g.owners[h] == nil || g.owners[h] == m })
	step := *m
	switch {
	case len(revoking) > 0 && ev.holds(revoking):
		step.state, step.assigned, step.revoking = memberUnrevoked, kept, revoking
	default:
		g.free(m, revoking)
		step.previous, step.epoch = m.epoch, g.target
		step.state, step.assigned, step.revoking = memberStable, taken, nil
		if len(taken) < len(m.target) {
			step.state = memberUnreleased
		}
	}
	g.enter(m, step)
}

// holds reports whether the member holds any of the partitions. One that does not say
// what it holds has not let go of anything.
func (ev *ConsumerHeartbeat) holds(s Share) bool {
	return len(s) > 0 && (!ev.OwnedSaid || len(ev.Owned.and(s)) > 0)
}

func (g *ConsumerGroup) free(m *consumer, s Share) {
	for _, h := range s {
		if g.owners[h] == m {
			delete(g.owners, h)
		}
	}
}

// enter makes the step, if it is one.
func (g *ConsumerGroup) enter(m *consumer, step consumer) {
	if m.state == step.state && m.epoch == step.epoch && slices.Equal(m.assigned, step.assigned) && slices.Equal(m.revoking, step.revoking) {
		return
	}
	*m = step
	if m.state == memberUnrevoked {
		m.revokeBy = g.now.Add(m.rebalance)
	} else {
		m.revokeBy = time.Time{}
	}
	for _, h := range m.assigned {
		g.owners[h] = m
	}
	g.write(RecordCurrent, m)
}
