package clock

import "time"

// begin decides what to believe at boot. Without anything written down there is
// no data either that a wrong time could harm.
func (c *Clock) begin(s *saved) {
	wall, mono := c.opts.Source.Read()
	c.asleep, c.floor, c.started = c.opts.Source.Asleep(), c.opts.Built, mono
	r := &reference{wall: wall, mono: mono, trusted: !wall.Before(c.floor)}
	if s != nil {
		if s.wall.After(c.floor) {
			c.floor = s.wall
		}
		gap := wall.Sub(s.wall)
		r.trusted = r.trusted && gap >= -c.opts.MaxJump && (gap <= c.opts.MaxJump || c.opts.Battery)
		c.steps, r.elapsed = s.steps, s.elapsed
		c.known, c.knownAt, c.booting = s.known, s.elapsed, true
	}
	if !r.trusted {
		r.wall = c.floor
	} else if r.elapsed += c.switchedOff(wall, r.elapsed); s == nil || wall.Sub(s.wall) > c.opts.MaxJump {
		c.settle(r)
	}
	c.since = r.wall
	c.ref.Store(r)
}

// settle ends the time after boot in which more can be learnt of how long the box
// was off.
func (c *Clock) settle(r *reference) {
	c.known, c.knownAt, c.booting = r.wall, r.elapsed, false
}

// switchedOff is how long the box was off before this process, once wall is trusted;
// 0 if that is not known, or part of elapsed already.
func (c *Clock) switchedOff(wall time.Time, elapsed time.Duration) time.Duration {
	if !c.booting || c.known.IsZero() {
		return 0
	}
	return max(0, wall.Sub(c.known)-(elapsed-c.knownAt))
}

func (c *Clock) logBoot() {
	if r := c.ref.Load(); !r.trusted {
		wall, _ := c.opts.Source.Read()
		c.opts.Log.Warn("the machine's clock is not trusted yet", "machine", wall.UTC(), "floor", c.floor.UTC(), "mend", mend)
	}
}

const mend = "let a time service (NTP) set the clock, or say that it is right with weir clock confirm"

// watch judges the clocks now and then, so that a jump is seen on an idle box too.
func (c *Clock) watch() {
	defer close(c.ended)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.poll()
		case <-c.stop:
			return
		}
	}
}

func (c *Clock) poll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge()
	if _, mono := c.opts.Source.Read(); mono-c.last >= c.opts.Persist {
		if err := c.save(); err != nil {
			c.opts.Log.Error("the time was not written down", "err", err)
		}
	}
}

// suspect looks at a jump closely: it may be that the machine was asleep.
func (c *Clock) suspect() (now time.Time, elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.judge()
}

// judge compares the wall clock with what the monotonic clock makes of the trusted
// time, and follows it or not. The caller holds mu.
func (c *Clock) judge() (now time.Time, elapsed time.Duration) {
	wall, mono := c.opts.Source.Read()
	asleep := c.opts.Source.Asleep()
	old := c.ref.Load()
	r := *old
	r.wall, r.elapsed = old.at(mono)
	r.mono = mono
	slept := max(0, asleep-c.asleep)
	c.asleep = asleep
	r.wall, r.elapsed = r.wall.Add(slept), r.elapsed+slept
	if old.trusted && c.booting && mono-c.started > bootGrace {
		c.settle(&r)
	}
	jump := wall.Sub(r.wall)
	near := jump <= c.opts.MaxJump && jump >= -c.opts.MaxJump
	switch {
	case old.trusted && near:
		r.wall = wall // it is slewed, or stepped a little
		if c.booting && c.opts.Source.Synchronised() {
			c.settle(&r)
		}
	case old.trusted:
		r.trusted, c.since, c.sync = false, r.wall, candidate{}
		c.opts.Log.Warn("the machine's clock has jumped and is not trusted", "by", jump.Round(time.Second), "machine", wall.UTC(), "trusted", r.wall.UTC(), "mend", mend)
	}
	c.ref.Store(&r)
	if !r.trusted {
		c.reconsider(wall, mono, jump, near)
	}
	return c.ref.Load().at(mono)
}

// reconsider gives an untrusted clock its chance. Near the trusted time it is right
// again.
func (c *Clock) reconsider(wall time.Time, mono, jump time.Duration, near bool) {
	if wall.Before(c.opts.Built) || !c.opts.Source.Synchronised() {
		c.sync = candidate{}
		if near && !wall.Before(c.opts.Built) {
			c.accept(wall, mono, "its return")
		}
		return
	}
	if drift := jump - c.sync.offset; !c.sync.on || drift > time.Minute || drift < -time.Minute {
		c.sync = candidate{true, mono, jump}
	}
	if near || mono-c.sync.since >= c.opts.Confirm {
		c.accept(wall, mono, "the kernel's time service")
	}
}

// accept makes wall the trusted time, and notes by how much that differs. The time
// switched off before this boot is known from now on.
func (c *Clock) accept(wall time.Time, mono time.Duration, by string) {
	r := *c.ref.Load()
	expected, elapsed := r.at(mono)
	elapsed += c.switchedOff(wall, elapsed)
	jump := wall.Sub(expected)
	if jump > c.opts.MaxJump || jump < -c.opts.MaxJump {
		if len(c.steps) == maxSteps {
			// What has to be forgotten of the corrections is added to the next: ages
			// come out too small rather than too great.
			if c.steps[0].size > 0 && c.steps[1].size > 0 {
				c.steps[1].size += c.steps[0].size
			}
			c.steps = c.steps[1:]
		}
		c.steps = append(c.steps[:len(c.steps):len(c.steps)], step{elapsed, jump})
	}
	if !r.trusted {
		c.opts.Log.Info("the machine's clock is trusted", "confirmed_by", by, "jump", jump.Round(time.Second), "now", wall.UTC())
		c.since = wall
	}
	c.sync = candidate{}
	now := &reference{wall: wall, mono: mono, elapsed: elapsed, trusted: true}
	c.settle(now)
	c.ref.Store(now)
}
