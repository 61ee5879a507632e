package txn

import "time"

// expireEvery is how often there is a look for transactional ids that are not used.
const expireEvery = 10 * time.Minute

// clockFloor is before any transaction could have been made, as in package group: a
// box whose clock says less has not been told the time yet. 2025-01-01.
const clockFloor = 1735689600000

// watch has time pass for the transactions.
func (c *Coordinator) watch() {
	t := time.NewTicker(c.opts.CheckInterval)
	defer t.Stop()
	var expired time.Duration // elapsed, when there last was a look
	for {
		select {
		case <-t.C:
		case <-c.done:
			return
		}
		c.tick()
		if now := c.now().Elapsed; now-expired >= expireEvery {
			expired = now
			c.Expire()
		}
	}
}

// tick aborts transactions that have taken too long, and completes those that are decided.
func (c *Coordinator) tick() {
	c.mu.Lock()
	slots := make([]*slot, 0, len(c.slots))
	for _, s := range c.slots {
		slots = append(slots, s)
	}
	c.mu.Unlock()
	for _, s := range slots {
		s.mu.Lock()
		if at, ok := s.t.Deadline(); !s.gone && ok && at <= c.now().Elapsed {
			c.tickOne(s)
		}
		s.mu.Unlock()
	}
}

func (c *Coordinator) tickOne(s *slot) {
	was := s.t.State()
	a := c.withID(s, func(newID int64) Event { return Tick{NewID: newID} })
	switch {
	case a.Err != nil:
		c.opts.Logger.Error("a transaction that took too long could not be aborted, trying again", "transactional_id", s.id, "err", a.Err)
	case was == Ongoing:
		c.timeouts.Add(1)
		c.opts.Logger.Warn("transaction aborted: it took longer than transaction.timeout.ms", "transactional_id", s.id,
			"producer_id", s.t.producerID, "timeout", s.t.timeout)
	}
}

// Expire forgets, durably, the transactional ids that were not used for Options.Expiration.
func (c *Coordinator) Expire() {
	if c.opts.Expiration < 0 {
		return
	}
	var last *staging
	for _, id := range c.ids() {
		s, err := c.lock(id, false)
		if err != nil || s == nil {
			continue
		}
		if _, active := s.t.Deadline(); !active && c.idle(s.t) && c.store(s, nil) == nil {
			c.forget(s)
			c.expired.Add(1)
			last = s.last
		}
		s.mu.Unlock()
	}
	if err := last.wait(); err != nil {
		c.opts.Logger.Error("transactional ids that are not used come back with the next start", "err", err)
	}
}

// idle reports whether the transaction was last used the expiration time ago. What was
// written while the clock was not set is as old as this process.
func (c *Coordinator) idle(t *Transaction) bool {
	now := c.now()
	age := now.Elapsed - c.opened.Elapsed
	if t.updated.UnixMilli() >= clockFloor {
		if age = now.Wall.Sub(t.updated); c.opts.Age != nil {
			age = c.opts.Age(t.updated)
		}
	}
	return age > c.opts.Expiration
}

// forget takes the locked slot out of memory.
func (c *Coordinator) forget(s *slot) {
	s.gone = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[s.id] == s {
		delete(c.slots, s.id)
	}
}
