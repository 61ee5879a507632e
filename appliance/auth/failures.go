package auth

import (
	"sync"
	"time"
)

// How long the answer to a login that failed is held back: twice as long with each
// failure from the same address, until there was none for forgetAfter.
const (
	firstDelay  = 100 * time.Millisecond
	maxDelay    = 5 * time.Second
	forgetAfter = time.Minute
	maxFailures = 4096 // addresses remembered
)

// failures counts failed logins by address. Only the answers to failures are held
// back: who knows the password is not kept waiting by those who guess.
type failures struct {
	mu   sync.Mutex
	from map[string]failure
}

type failure struct {
	last time.Time
	next time.Duration
}

// add notes a failure and returns how long to hold the answer back.
func (f *failures) add(host string, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == nil {
		f.from = map[string]failure{}
	}
	n := f.from[host]
	if n.next == 0 || now.Sub(n.last) > forgetAfter {
		n.next = firstDelay
	}
	delay := n.next
	if len(f.from) >= maxFailures {
		f.forget(now)
	}
	f.from[host] = failure{now, min(2*n.next, maxDelay)}
	return delay
}

// forget makes room: of what is old, or of anything.
func (f *failures) forget(now time.Time) {
	for host, n := range f.from {
		if now.Sub(n.last) > forgetAfter || len(f.from) >= maxFailures {
			delete(f.from, host)
		}
	}
}
