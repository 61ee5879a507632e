package group

import (
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// What follows serves the classic protocol to groups that are of the consumer protocol.
// Each takes a locked group and unlocks it.

func (c *Coordinator) joinConsumers(s *slot, ev *JoinGroup) (Joined, error) {
	joined, changes, err := s.consumer.Join(time.Now(), ev, c.opts.Cluster)
	if err != nil {
		c.unlock(s)
		return joined, err
	}
	return joined, c.commitConsumers(s, changes)
}

func (c *Coordinator) syncConsumers(s *slot, ev *SyncGroup) (Synced, error) {
	defer c.unlock(s)
	return s.consumer.Sync(time.Now(), ev, c.opts.Cluster)
}

func (c *Coordinator) beatConsumers(s *slot, ev *Heartbeat) error {
	changes, err := s.consumer.Beat(time.Now(), ev, c.opts.Cluster)
	if werr := c.commitConsumers(s, changes); werr != nil {
		return werr
	}
	return err
}

func (c *Coordinator) leaveConsumers(s *slot, members []Leaving) ([]error, error) {
	errs, changes := s.consumer.Leave(time.Now(), members)
	return errs, c.commitConsumers(s, changes)
}

// commitConsumers writes what has changed in a group of the consumer protocol. When only
// classic members are left, and the policy lets it, it becomes a classic group again.
func (c *Coordinator) commitConsumers(s *slot, changes []Change) error {
	g, nowMs := s.consumer, c.opts.Now().UnixMilli()
	if p := c.opts.MigrationPolicy; !g.Classic() || p != MigrateBoth && p != MigrateDown {
		return c.writeConsumers(s, g.records(s.id, changes, nowMs))
	}
	classic := g.Downgrade(time.Now(), c.opts.Cluster)
	rs := append(c.consumerTombstones(s.id, nowMs), g.records(s.id, g.tombstones(changes), nowMs)...)
	id := s.id
	s.consumer, s.group = nil, classic
	c.opts.Logger.Info("group goes back to the classic protocol", "group", id, "generation", classic.generation, "members", len(classic.members))
	if err := c.writeConsumers(s, append(rs, encodeGroup(id, classic.encode(), nowMs))); err != nil {
		return err
	}
	s, err := c.lock(id, false)
	switch {
	case s == nil || err != nil:
	case s.consumer == nil:
		c.step(s, Regroup{})
	default: // a member of the consumer protocol was faster
		c.unlock(s)
	}
	return nil // what was asked is done
}

// tombstones is of all that the log may have of the group, changes being under way.
func (g *ConsumerGroup) tombstones(changes []Change) (out []Change) {
	for _, c := range changes {
		if c.Gone {
			out = append(out, c)
		}
	}
	for id := range g.members {
		for _, kind := range []RecordKind{RecordCurrent, RecordTarget, RecordMember} {
			out = append(out, Change{kind, id, true})
		}
	}
	return append(out, Change{Kind: RecordGroup, Gone: true}, Change{Kind: RecordTargetEpoch, Gone: true})
}

// upgrade is a locked classic group with members as one of the consumer protocol, and the
// records that make it one. The slot does not change.
func (c *Coordinator) upgrade(s *slot) (*ConsumerGroup, []Change, error) {
	if p := c.opts.MigrationPolicy; p != MigrateBoth && p != MigrateUp {
		return nil, nil, ErrGroupIDNotFound
	}
	return s.group.Upgrade(time.Now(), c.opts.Cluster)
}

// goOver has the locked slot be of the consumer protocol; what its classic members wait
// for is answered.
func (c *Coordinator) goOver(s *slot, g *ConsumerGroup) []record.Record {
	c.deliver(s, s.group.Dissolve(time.Now()))
	s.group, s.consumer = NewGroup(&c.opts.Limits, time.Now()), g
	c.opts.Logger.Info("group goes over to the consumer protocol", "group", s.id, "epoch", g.epoch, "members", len(g.members))
	return []record.Record{encodeGroup(s.id, nil, c.opts.Now().UnixMilli())}
}

// deliver answers those who wait.
func (c *Coordinator) deliver(s *slot, effects []Effect) {
	for _, e := range effects {
		if a, ok := e.(Answer); ok && s.waiters[a.Ref] != nil {
			s.waiters[a.Ref] <- a
			delete(s.waiters, a.Ref)
		}
	}
}
