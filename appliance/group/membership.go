package group

import (
	"context"
	"crypto/rand"
	"fmt"
)

// Join serves JoinGroup: it returns when the next generation begins, after up to
// the rebalance timeout. Ref and NewMemberID of ev are set here. With
// ErrMemberIDRequired, and any other error of the protocol, Joined has the member id to
// answer with.
func (c *Coordinator) Join(ctx context.Context, group string, ev JoinGroup) (Joined, error) {
	failed := Joined{MemberID: ev.MemberID, Generation: -1}
	if err := c.opts.Limits.checkGroupID(group); err != nil {
		return failed, err
	}
	if err := c.opts.Limits.checkJoin(&ev); err != nil {
		return failed, err
	}
	// A member that has an id has it from a group that exists.
	s, err := c.lock(group, ev.MemberID == "")
	if err != nil {
		return failed, err
	}
	if s == nil {
		return failed, ErrUnknownMemberID
	}
	ev.Ref, ev.NewMemberID = c.newRef(), newMemberID(&ev)
	if s.consumer != nil && !s.consumer.Empty() {
		return c.joinConsumers(s, &ev)
	}
	if s.consumer != nil {
		if s, err = c.toClassic(s); err != nil {
			return failed, err
		}
	}
	a, err := c.ask(ctx, s, ev.Ref, ev)
	if a.Join == nil {
		return failed, err
	}
	return *a.Join, err
}

// newMemberID is what Kafka makes: the client's or the instance's id, and chance.
func newMemberID(ev *JoinGroup) string {
	const longest = 255 // of the client's part
	name := ev.InstanceID
	if name == "" {
		name = ev.ClientID
	}
	return name[:min(len(name), longest)] + "-" + rand.Text()
}

// Sync serves SyncGroup: it returns when the leader's assignment is in the log.
func (c *Coordinator) Sync(ctx context.Context, group string, ev SyncGroup) (Synced, error) {
	s, err := c.existing(group)
	if err != nil {
		return Synced{}, err
	}
	if s.consumer != nil {
		return c.syncConsumers(s, &ev)
	}
	ev.Ref = c.newRef()
	a, err := c.ask(ctx, s, ev.Ref, ev)
	if err != nil {
		return Synced{}, err
	}
	return *a.Sync, nil
}

// Heartbeat serves Heartbeat.
func (c *Coordinator) Heartbeat(ctx context.Context, group string, ev Heartbeat) error {
	s, err := c.existing(group)
	if err != nil {
		return err
	}
	if s.consumer != nil {
		return c.beatConsumers(s, &ev)
	}
	ev.Ref = c.newRef()
	_, err = c.ask(ctx, s, ev.Ref, ev)
	return err
}

// Leave serves LeaveGroup; the errors are one per member.
func (c *Coordinator) Leave(ctx context.Context, group string, members []Leaving) ([]error, error) {
	if max := c.opts.Limits.MaxMembers; len(members) > max {
		return nil, fmt.Errorf("%w: %d members leave, a group has at most %d", ErrInvalidRequest, len(members), max)
	}
	s, err := c.existing(group)
	if err != nil {
		return nil, err
	}
	if s.consumer != nil {
		return c.leaveConsumers(s, members)
	}
	ref := c.newRef()
	a, err := c.ask(ctx, s, ref, LeaveGroup{Ref: ref, Members: members})
	return a.Leave, err
}

// existing locks the group of a request that speaks for a member.
func (c *Coordinator) existing(group string) (*slot, error) {
	if err := c.opts.Limits.checkGroupID(group); err != nil {
		return nil, err
	}
	s, err := c.lock(group, false)
	if err == nil && s == nil {
		err = ErrUnknownMemberID
	}
	return s, err
}
