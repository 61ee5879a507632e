package group

import (
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// InternalPrefix begins the ids of groups whose offsets are the broker's own: of
// plugins and mirrors. They do not expire, however long a plugin is paused.
const InternalPrefix = "__weir"

// clockFloor is before any commit could have been made: a box whose clock says
// less has not been told the time yet. 2025-01-01.
const clockFloor = 1735689600000

// expireOffsets deletes, now and then, offsets that nobody has used for long (KIP-211).
func (c *Coordinator) expireOffsets() {
	if c.opts.OffsetsRetention < 0 {
		return
	}
	t := time.NewTicker(c.opts.RetentionCheckInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.expireOnce(time.Now())
		case <-c.done:
			return
		}
	}
}

func (c *Coordinator) expireOnce(now time.Time) {
	for _, id := range c.log.table.ids() {
		if strings.HasPrefix(id, InternalPrefix) {
			continue
		}
		s, err := c.lock(id, false)
		if err != nil || s == nil {
			continue
		}
		rs := c.expiredRecords(s, now)
		if len(rs) == 0 {
			c.unlock(s)
			continue
		}
		if err := c.writeAll(s, rs); err != nil {
			c.opts.Logger.Error("expired offsets not deleted", "group", id, "err", err)
			return
		}
		c.expired.Add(int64(len(rs)))
		c.opts.Logger.Info("group's offsets expired", "group", id, "records", len(rs))
	}
}

// expiredRecords is the tombstones of what has expired in a locked group.
func (c *Coordinator) expiredRecords(s *slot, now time.Time) (rs []record.Record) {
	if !s.disposable() || s.inflight > 0 {
		return nil
	}
	offsets := c.log.table.commits(s.id)
	for tp, o := range offsets {
		// The clock starts when the last member has left.
		if c.idle(o.CommitMs, now) && c.deserted(s.group, now) {
			rs = append(rs, offsetTombstone(s.id, tp, c.opts.Now().UnixMilli()))
		}
	}
	if value, _ := c.log.table.metadata(s.id); value != nil && len(rs) == len(offsets) {
		rs = append(rs, encodeGroup(s.id, nil, c.opts.Now().UnixMilli()))
	}
	if s.consumer != nil && len(rs) == len(offsets) {
		rs = append(rs, c.consumerTombstones(s.id, c.opts.Now().UnixMilli())...)
	}
	return rs
}

// idle reports whether a moment lies the retention time back. What was written
// while the clock was not set is as old as this process: a box that learns the
// time after 50 years in 1970 must not forget all offsets.
func (c *Coordinator) idle(sinceMs int64, now time.Time) bool {
	if sinceMs < clockFloor {
		return now.Sub(c.opened) > c.opts.OffsetsRetention
	}
	since := time.UnixMilli(sinceMs)
	age := now.Sub(since)
	if c.opts.Age != nil {
		age = c.opts.Age(since)
	}
	return age > c.opts.OffsetsRetention
}

// deserted reports whether the last member left the retention time ago. That of this
// process is measured by the monotonic clock.
func (c *Coordinator) deserted(g *Group, now time.Time) bool {
	if g.since.After(c.opened) {
		return now.Sub(g.since) > c.opts.OffsetsRetention
	}
	return c.idle(g.since.UnixMilli(), now)
}
