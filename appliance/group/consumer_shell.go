package group

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// ConsumerHeartbeat serves ConsumerGroupHeartbeat: it returns when what it has changed
// is in the log. A classic group becomes one of the consumer protocol when the first
// member of that joins.
func (c *Coordinator) ConsumerHeartbeat(group string, ev ConsumerHeartbeat) (Beat, error) {
	if err := c.opts.Limits.checkGroupID(group); err != nil {
		return Beat{}, err
	}
	s, err := c.lock(group, ev.Epoch == joinEpoch)
	switch {
	case err != nil:
		return Beat{}, err
	case s == nil:
		return Beat{}, ErrGroupIDNotFound
	}
	var rs []record.Record
	var upgraded []Change
	g, nowMs := s.consumer, c.opts.Now().UnixMilli()
	switch {
	case s.group.State() == Dead:
		err = ErrCoordinatorNotAvailable
	case g != nil:
	case ev.Epoch != joinEpoch:
		err = fmt.Errorf("%w: %q is not a group of the consumer protocol", ErrGroupIDNotFound, group)
	case !s.group.Disposable():
		if g, upgraded, err = c.upgrade(s); err != nil {
			err = fmt.Errorf("%w: %q has members of the classic protocol", err, group)
		}
	default:
		g = NewConsumerGroup(&c.opts.Limits)
		if value, _ := c.log.table.metadata(group); value != nil {
			rs = append(rs, encodeGroup(group, nil, nowMs))
		}
	}
	if err != nil {
		c.unlock(s)
		return Beat{}, err
	}
	before := g.target
	beat, changes, err := g.Heartbeat(time.Now(), &ev, c.opts.Cluster)
	if err != nil {
		c.unlock(s)
		return Beat{}, err
	}
	if upgraded != nil {
		rs = append(rs, c.goOver(s, g)...)
		changes = append(upgraded, changes...)
	}
	s.consumer = g
	if g.target != before {
		c.rebalances.Add(1)
		c.opts.Logger.Info("group rebalanced", "group", s.id, "epoch", g.target, "members", len(g.members), "assignor", g.assignor())
	}
	if len(rs) > 0 {
		return beat, c.writeConsumers(s, append(rs, g.records(group, changes, nowMs)...))
	}
	return beat, c.commitConsumers(s, changes)
}

// writeConsumers is write; a group whose changes are not in the log is again as it was.
func (c *Coordinator) writeConsumers(s *slot, rs []record.Record) error {
	if len(rs) == 0 {
		c.unlock(s)
		return nil
	}
	err := c.write(s, rs)
	if err != nil {
		s.mu.Lock()
		value, _ := c.log.table.metadata(s.id)
		s.consumer, s.group = c.restoreConsumers(s.id), c.restore(s.id, value)
		c.unlock(s)
	}
	return err
}

func (c *Coordinator) tickConsumers(s *slot) {
	changes := s.consumer.Tick(time.Now())
	if len(changes) > 0 {
		c.opts.Logger.Info("group members removed: not heard of in time", "group", s.id, "members", len(s.consumer.members))
	}
	if err := c.commitConsumers(s, changes); err != nil {
		c.opts.Logger.Error("group metadata not stored", "group", s.id, "err", err)
	}
}

// restoreConsumers makes the group that the log tells of; nil if it is not of the
// consumer protocol.
func (c *Coordinator) restoreConsumers(id string) *ConsumerGroup {
	records := c.log.table.consumers(id)
	if records == nil {
		return nil
	}
	g, err := RestoreConsumers(&c.opts.Limits, records, time.Now())
	if err != nil {
		c.opts.Logger.Error("group metadata ignored, members must join anew", "group", id, "err", err)
		return NewConsumerGroup(&c.opts.Limits)
	}
	return g
}

// toClassic makes a locked group without members one of the classic protocol.
func (c *Coordinator) toClassic(s *slot) (*slot, error) {
	if !s.consumer.Empty() {
		c.unlock(s)
		return nil, fmt.Errorf("%w: the group has members of the consumer protocol", ErrInconsistentGroupProtocol)
	}
	id := s.id
	s.consumer = nil
	if err := c.writeConsumers(s, c.consumerTombstones(id, c.opts.Now().UnixMilli())); err != nil {
		return nil, err
	}
	s, err := c.lock(id, true)
	if err == nil && s.consumer != nil { // a consumer was faster
		c.unlock(s)
		err = ErrInconsistentGroupProtocol
	}
	return s, err
}

// consumerTombstones deletes all records of the consumer protocol that the log has of a group.
func (c *Coordinator) consumerTombstones(id string, nowMs int64) (rs []record.Record) {
	for key := range c.log.table.consumers(id) {
		rs = append(rs, record.Record{Timestamp: nowMs, Key: []byte(key)})
	}
	return rs
}

// CheckFetch decides whether a member may fetch offsets (OffsetFetch 9). Members of
// classic groups do not say who they are.
func (c *Coordinator) CheckFetch(group, memberID string, epoch int32) error {
	s, err := c.lock(group, false)
	if s == nil || err != nil {
		return err
	}
	defer c.unlock(s)
	if s.consumer == nil {
		return nil
	}
	return s.consumer.CheckMember(memberID, "", epoch, true)
}

// DescribeConsumers serves ConsumerGroupDescribe.
func (c *Coordinator) DescribeConsumers(group string) (ConsumerDescription, error) {
	if c.log.down != nil {
		return ConsumerDescription{Group: group, State: Dead}, c.log.down
	}
	s, err := c.lock(group, false)
	if err != nil {
		return ConsumerDescription{Group: group, State: Dead}, err
	}
	if s != nil {
		defer c.unlock(s)
		if s.consumer != nil {
			return s.consumer.Describe(group), nil
		}
	}
	return ConsumerDescription{Group: group, State: Dead}, fmt.Errorf("%w: %q is not a group of the consumer protocol", ErrGroupIDNotFound, group)
}

// brief is the group as lists of groups show it.
func (d ConsumerDescription) brief() Description {
	out := Description{Group: d.Group, State: d.State, Consumer: true, ProtocolType: consumerProtocolType, Protocol: d.Assignor, Generation: d.Epoch}
	for i := range d.Members {
		m := &d.Members[i]
		out.Members = append(out.Members, MemberDescription{MemberID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost})
	}
	return out
}

// What follows is of a slot that is locked, of either protocol.

func (s *slot) empty() bool {
	return s.group.State() == Empty && (s.consumer == nil || s.consumer.Empty())
}

func (s *slot) disposable() bool {
	return s.group.Disposable() && (s.consumer == nil || s.consumer.Empty())
}

func (s *slot) deadline() (at time.Time, ok bool) {
	if s.consumer != nil {
		return s.consumer.Deadline()
	}
	return s.group.Deadline()
}

func (s *slot) kill() error {
	if s.consumer != nil && !s.consumer.Empty() {
		return ErrNonEmptyGroup
	}
	return s.group.Kill()
}

func (s *slot) subscribed(topic string) bool {
	if s.consumer != nil {
		return s.consumer.subscribed(topic)
	}
	return s.group.subscribed(topic)
}

// subscribed reports whether some member may consume the topic.
func (g *ConsumerGroup) subscribed(topic string) bool {
	for _, m := range g.members {
		for _, name := range m.topics {
			if name == topic {
				return true
			}
		}
		if m.pattern != nil && m.pattern.MatchString(topic) {
			return true
		}
	}
	return false
}

func (s *slot) checkCommit(req *Commit) error {
	switch {
	case s.consumer == nil:
		return s.group.CheckCommit(time.Now(), req.MemberID, req.InstanceID, req.Generation)
	case s.group.State() == Dead:
		return ErrCoordinatorNotAvailable
	}
	return s.consumer.CheckMember(req.MemberID, req.InstanceID, req.Generation, false)
}
