package wal

import (
	"fmt"
	"runtime"
	"time"
)

// idleAfter is how long nothing must have been committed for the next round to
// go without linger: a lone message on a quiet box is not delayed.
const idleAfter = 100 * time.Millisecond

// commitLoop is the committer: the only goroutine that writes rounds. What is
// durable it hands to the applier, and writes the next round meanwhile.
func (l *Log) commitLoop() {
	for {
		r := l.take()
		if r == nil {
			break
		}
		if err := l.commit(r); err != nil {
			l.fail(err)
			r.finish(err)
		}
	}
	close(l.durable)
	// What was staged after a failure, or in the race with it, is not committed.
	l.mu.Lock()
	rest, err := l.open, l.err
	l.open = newRound()
	l.mu.Unlock()
	rest.finish(err)
}

// take waits for a round worth committing, or for the time to sync what was
// written without, and swaps the open round out. It returns nil when there is
// nothing more to do: closed and drained, or failed.
func (l *Log) take() *round {
	next := <-l.free
	// Those who were just told stage their next entries first: with the round that
	// one of them alone would make, the others would wait for two syncs.
	runtime.Gosched()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open.entries) == 0 && !l.closed && !l.syncDue && !isFailed(l.failed) {
		l.wake.Wait()
	}
	if isFailed(l.failed) || l.closed && len(l.open.entries) == 0 && l.unsynced == nil {
		return nil
	}
	if l.opts.Linger > 0 && !l.closed && !l.syncDue && l.open.relaxed == 0 && time.Since(l.lastCommit) < idleAfter {
		l.linger()
	}
	r := l.open
	l.open = next
	if len(r.entries) > 0 {
		l.taken++
	}
	l.room.Broadcast()
	return r
}

// linger lets the open round fill for a while. It holds l.mu at entry and exit.
func (l *Log) linger() {
	select {
	case <-l.full: // a signal that an earlier round left behind
	default:
	}
	l.lingerFor(l.opts.Linger, l.opts.LingerBytes)
	l.lingerFor(l.opts.BlockLinger-l.opts.Linger, fullBlock)
}

// fullBlock is when a round is taken to fill a block: another entry would hardly fit.
const fullBlock = blockBytes - blockBytes/16

// lingerFor waits until the open round has so many bytes or LingerWaiters entries.
func (l *Log) lingerFor(d time.Duration, bytes int) {
	if d <= 0 || l.closed || l.syncDue || l.open.relaxed > 0 || len(l.open.entries) >= l.opts.LingerWaiters || len(l.open.buf) >= bytes {
		return
	}
	l.fullBytes = bytes
	l.mu.Unlock()
	t := time.NewTimer(d)
	select {
	case <-t.C:
	case <-l.full:
	}
	t.Stop()
	l.mu.Lock()
	l.fullBytes = l.opts.LingerBytes
}

// commit writes a round and syncs it, with those written without a sync before it;
// or leaves it to them, if nobody in it waits for the disk.
func (l *Log) commit(r *round) error {
	if len(r.entries) > 0 {
		if err := l.write(r); err != nil {
			return err
		}
		if r.relaxed > 0 {
			r.finishRelaxed()
		}
		if r.relaxed == len(r.entries) && l.postpone(r) {
			return nil
		}
	}
	if err := l.ring.sync(); err != nil {
		return err
	}
	l.stats.Syncs.Add(1)
	l.lastCommit = time.Now()
	if u := l.synced(); u != nil {
		l.settle(u)
	}
	l.settle(r)
	return nil
}

func (l *Log) write(r *round) error {
	if err := l.ring.write(r); err != nil {
		return err
	}
	r.last, r.rounds = l.ring.seq, 1
	l.stats.Rounds.Add(1)
	l.stats.Entries.Add(uint64(len(r.entries)))
	l.stats.PayloadBytes.Add(uint64(r.payload))
	l.stats.WrittenBytes.Add(uint64(len(r.buf)))
	return nil
}

// settle lets readers have what a durable round holds, tells those who wait, and
// hands the round to the applier. The committer waits here if that is a round behind.
func (l *Log) settle(r *round) {
	l.mu.Lock()
	l.committed += uint64(r.rounds)
	l.mu.Unlock()
	for i := range r.entries {
		e := &r.entries[i]
		e.sink.Commit(r.buf[e.start:e.end])
	}
	r.finish(nil)
	l.durable <- r
}

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
		if in.Crowded {
			in.Place = r.place.plus(e.start)
		}
		if err := e.sink.Apply(r.buf[e.start:e.end], in); err != nil {
			return fmt.Errorf("wal: apply an entry of round %d: %w", r.last, err)
		}
	}
	return nil
}

// fail stops the log for good. A sync that failed says nothing of what is on the
// disk, and trying again proves nothing: only a restart, which reads the disk, does.
func (l *Log) fail(err error) {
	if isFailed(l.failed) {
		return // the first error is the cause
	}
	l.opts.Log.Error("storage failed: nothing more is accepted until a restart", "err", err)
	l.ring.stop(err) // the committer may wait for a file that no checkpoint will free any more
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isFailed(l.failed) {
		l.err = err
		close(l.failed)
	}
	l.wake.Signal()
	l.room.Broadcast()
	l.idle.Broadcast()
}

func isFailed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
