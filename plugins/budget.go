package plugins

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget is the memory that all instances may have together. Each takes its limit
// out of it, whatever it uses. When there is none left, an instance that is not
// in a call is closed for the one that wants to start; its task starts another
// when it has work. So with memory for one instance every partition moves on.
type budget struct {
	max int64

	mu      sync.Mutex // guards used, holders
	used    int64
	holders map[*runner]bool
	waiting atomic.Int32
	changed chan struct{} // closed and renewed when somebody may try again
}

func newBudget(limit int64) *budget {
	return &budget{max: limit, holders: map[*runner]bool{}, changed: make(chan struct{})}
}

// acquire takes n bytes for r, whose lock the caller holds, and waits for them.
func (b *budget) acquire(ctx context.Context, r *runner, n int64) error {
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for {
		b.mu.Lock()
		if b.used+n > b.max {
			b.reclaim(n)
		}
		if b.used+n <= b.max {
			b.used += n
			b.holders[r] = true
			b.mu.Unlock()
			return nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reclaim closes idle instances until n bytes are free. b.mu is held.
func (b *budget) reclaim(n int64) {
	for r := range b.holders {
		if b.used+n <= b.max {
			return
		}
		if r.mu.TryLock() {
			b.dropLocked(r)
			r.mu.Unlock()
		}
	}
}

// release closes r's instance, if it has one, and gives its memory back. The
// caller holds r's lock.
func (b *budget) release(r *runner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(r)
	b.wakeLocked()
}

func (b *budget) dropLocked(r *runner) {
	if r.guest != nil {
		r.guest.close()
		r.guest = nil
	}
	if b.holders[r] {
		delete(b.holders, r)
		b.used -= r.program.limits.MemoryBytes
	}
}

// idle tells those that wait that an instance is not in a call any more.
func (b *budget) idle() {
	if b.waiting.Load() > 0 {
		b.mu.Lock()
		b.wakeLocked()
		b.mu.Unlock()
	}
}

func (b *budget) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *budget) inUse() (bytes int64, instances int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, len(b.holders)
}
