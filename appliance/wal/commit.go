package wal

import (
	"fmt"
	"time"
)

// idleAfter is how long nothing must have been committed for the next round to
// go without linger: a lone message on a quiet box is not delayed.
const idleAfter = 100 * time.Millisecond

// commitLoop is the committer: the only goroutine that writes rounds.
func (l *Log) commitLoop() {
	defer close(l.done)
	for l.take() {
		err := l.commit(l.taken)
		if err != nil {
			l.fail(err)
		}
		l.taken.finish(err)
		l.taken.reset()
	}
	// What was staged after a failure, or in the race with it, is not committed.
	l.mu.Lock()
	rest, err := l.open, l.err
	l.open = newRound()
	l.mu.Unlock()
	rest.finish(err)
}

// take waits for a round worth committing and swaps it out. It returns false
// when there is nothing more to do: closed and drained, or failed.
func (l *Log) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open.entries) == 0 && !l.closed {
		l.wake.Wait()
	}
	if len(l.open.entries) == 0 || (l.err != nil && !l.closed) || isFailed(l.failed) {
		return false
	}
	if l.opts.Linger > 0 && !l.closed && time.Since(l.lastCommit) < idleAfter {
		l.linger()
	}
	l.open, l.taken = l.taken, l.open
	l.room.Broadcast()
	return true
}

// linger lets the open round fill for a while. It holds l.mu at entry and exit.
func (l *Log) linger() {
	select {
	case <-l.full: // a signal that an earlier round left behind
	default:
	}
	if len(l.open.entries) >= l.opts.LingerWaiters || len(l.open.buf) >= l.opts.LingerBytes {
		return
	}
	l.mu.Unlock()
	t := time.NewTimer(l.opts.Linger)
	select {
	case <-t.C:
	case <-l.full:
	}
	t.Stop()
	l.mu.Lock()
}

// commit writes, syncs and applies one round.
func (l *Log) commit(r *round) error {
	if err := l.ring.write(r); err != nil {
		return err
	}
	l.lastCommit = time.Now()
	l.stats.Rounds.Add(1)
	l.stats.Entries.Add(uint64(len(r.entries)))
	l.stats.PayloadBytes.Add(uint64(r.payload))
	l.stats.WrittenBytes.Add(uint64(len(r.buf)))
	for i := range r.entries {
		e := &r.entries[i]
		more := i+1 < len(r.entries) && r.entries[i+1].sink == e.sink
		if err := e.sink.Apply(r.buf[e.start:e.end], more); err != nil {
			return fmt.Errorf("wal: apply an entry of round %d: %w", l.ring.seq, err)
		}
	}
	l.applied.Store(l.ring.seq)
	return nil
}

// fail stops the log for good. A sync that failed says nothing of what is on the
// disk, and trying again proves nothing: only a restart, which reads the disk, does.
func (l *Log) fail(err error) {
	l.opts.Log.Error("storage failed: nothing more is accepted until a restart", "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	if !isFailed(l.failed) {
		close(l.failed)
	}
	l.room.Broadcast()
}

func isFailed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
