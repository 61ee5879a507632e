package quota

import (
	"sync"
	"time"
)

// Pace spreads events out to a number per second.
type Pace struct {
	mu    sync.Mutex
	every time.Duration
	next  time.Time // the earliest time of the next event
}

// paceBurst is what may happen at once after a pause, as a time.
const paceBurst = time.Second

// NewPace allows so many events per second; 0 is any number.
func NewPace(perSecond int) *Pace {
	p := &Pace{}
	p.Set(perSecond)
	return p
}

// Set changes how many.
func (p *Pace) Set(perSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every = 0; perSecond > 0 {
		p.every = time.Second / time.Duration(perSecond)
	}
}

// Take returns for how long the event that is due at now must wait.
func (p *Pace) Take(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every == 0 {
		return 0
	}
	if earliest := now.Add(-paceBurst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(p.every)
	return max(0, p.next.Sub(now))
}
