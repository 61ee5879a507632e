package wal

import (
	"runtime"
	"sync"
	"time"
)

// idleAfter is how long nothing must have been committed for the next round to
// go without linger: a lone message on a quiet box is not delayed.
const idleAfter = 100 * time.Millisecond

// committers is how many rounds are on their way to the disk at a time, at most.
const committers = 2

// commitLoop is a committer. There are two, and each carries a round from its first
// byte on the disk to those who wait: while one waits for its sync, the other may
// write the next round, if that is as large and at least Options.OverlapBytes. A
// smaller one waits and gathers company, so that a sync serves as many as it can.
// What is durable they hand to the applier.
//
// l.writing and l.syncing are taken hand over hand, so rounds are synced and settled
// in the order in which they were written.
func (l *Log) commitLoop() {
	for {
		l.writing <- struct{}{}
		r := l.take()
		if r == nil {
			<-l.writing
			return
		}
		err := l.write(r)
		if err != nil {
			l.fail(err) // before another round is taken
		}
		l.syncing <- struct{}{}
		l.setInSync(len(r.buf))
		<-l.writing
		if err == nil {
			err = l.commit(r)
		}
		if err != nil {
			l.fail(err)
			r.finish(err)
		}
		l.setInSync(0)
		<-l.syncing
	}
}

// endCommits ends the applier once the committers have.
func (l *Log) endCommits(running *sync.WaitGroup) {
	running.Wait()
	close(l.durable)
	// What was staged after a failure, or in the race with it, is not committed.
	l.mu.Lock()
	rest, err := l.open, l.err
	l.open = newRound()
	l.mu.Unlock()
	rest.finish(err)
}

// setInSync says how large the round is that is being made durable; 0: there is none.
func (l *Log) setInSync(bytes int) {
	l.mu.Lock()
	l.inSync = bytes
	l.wake.Signal()
	l.mu.Unlock()
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
	for !l.due() && !isFailed(l.failed) {
		l.wake.Wait()
	}
	if isFailed(l.failed) || l.closed && len(l.open.entries) == 0 && l.unsynced == nil {
		l.free <- next
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

// due reports whether the open round is to be written, or something else is to be
// done by a committer. The caller holds l.mu.
func (l *Log) due() bool {
	if l.inSync > 0 {
		return len(l.open.buf) >= max(l.opts.OverlapBytes, l.inSync)
	}
	return len(l.open.entries) > 0 || l.closed || l.syncDue
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

// write writes a round, if there is anything in it.
func (l *Log) write(r *round) error {
	if len(r.entries) == 0 {
		return nil
	}
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

// commit syncs a written round, with those written without a sync before it; or
// leaves it to them, if nobody in it waits for the disk.
func (l *Log) commit(r *round) error {
	if r.relaxed > 0 {
		r.finishRelaxed()
	}
	if len(r.entries) > 0 && r.relaxed == len(r.entries) && l.postpone(r) {
		return nil
	}
	synced, err := l.ring.sync()
	if err != nil {
		return err
	}
	if synced {
		l.stats.Syncs.Add(1)
	}
	if u := l.synced(); u != nil {
		l.settle(u)
	}
	l.settle(r)
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
