package wal

import "fmt"

// applyLoop is the applier: it brings durable rounds to their final place, in order.
func (l *Log) applyLoop() {
	defer close(l.done)
	for r := range l.durable {
		if !isFailed(l.failed) {
			if err := r.apply(l.opts.CrowdedRuns); err != nil {
				l.fail(err)
			} else if r.rounds > 0 {
				l.applied.Store(r.last)
			}
		}
		l.mu.Lock()
		l.settled += uint64(r.rounds)
		l.idle.Broadcast()
		l.mu.Unlock()
		pool := l.free
		if r.gathered {
			pool = l.gathers
		}
		r.reset()
		pool <- r
	}
	l.mu.Lock()
	l.ended = true
	l.idle.Broadcast()
	l.mu.Unlock()
}

func (r *round) apply(crowdedRuns int) error {
	in := Context{Crowded: r.crowded(crowdedRuns)}
	for i := range r.entries {
		e := &r.entries[i]
		in.More = i+1 < len(r.entries) && r.entries[i+1].sink == e.sink
		in.Place = r.place.plus(e.start)
		if err := e.sink.Apply(r.buf[e.start:e.end], in); err != nil {
			return fmt.Errorf("wal: apply an entry of round %d: %w", r.last, err)
		}
	}
	return nil
}
