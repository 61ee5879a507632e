package wal

// Settle waits until everything that was staged before the call is in its final
// place, or the log has failed.
func (l *Log) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.taken
	if len(l.open.entries) > 0 {
		until++
	}
	if l.settled < until {
		// For a round that the committer holds just now: it is about to put off its sync.
		l.syncDue = true
		l.wake.Signal()
	}
	for l.settled < until && !l.ended && !isFailed(l.failed) {
		if len(l.open.entries) > 0 || l.unsynced != nil {
			l.syncDue = true
			l.wake.Signal()
			l.endLinger()
		}
		l.idle.Wait()
	}
}

// CatchUp waits until everything that was committed before the call is in its final
// place, or the log has failed. That is never long.
func (l *Log) CatchUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for until := l.committed; l.settled < until && !l.ended && !isFailed(l.failed); {
		l.idle.Wait()
	}
}
