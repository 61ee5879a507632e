package auth

import (
	"sync"
	"time"
)

// forgetAfter is how long there was no failure from an address until its first one
// counts as the first again.
const forgetAfter = time.Minute

// failures counts failed logins by address. Only the answers to failures are held
// back: who knows the password is not kept waiting by those who guess.
type failures struct {
	o    *Options
	mu   sync.Mutex
	from map[string]failure
}

type failure struct {
	last time.Time
	next time.Duration
}

// add notes a failure and returns how long to hold the answer back: twice as long with
// each failure from the same address.
func (f *failures) add(host string, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == nil {
		f.from = map[string]failure{}
	}
	n := f.from[host]
	if n.next == 0 || now.Sub(n.last) > forgetAfter {
		n.next = f.o.FailureDelay
	}
	delay := n.next
	if len(f.from) >= f.o.MaxFailedAddresses {
		f.forget(now)
	}
	f.from[host] = failure{now, min(2*n.next, f.o.MaxFailureDelay)}
	return delay
}

// forget makes room: of what is old, or of anything.
func (f *failures) forget(now time.Time) {
	for host, n := range f.from {
		if now.Sub(n.last) > forgetAfter || len(f.from) >= f.o.MaxFailedAddresses {
			delete(f.from, host)
		}
	}
}
