package wal

import "time"

// relaxedBytes is how much may be written without a sync: a power cut takes no more.
const relaxedBytes = 1 << 20

// Relax says how far the sync of a group may lag behind its acknowledgement.
type Relax struct {
	// Records is how many are in the group; a sync comes once Every of all groups
	// are not synced (Kafka's flush.messages).
	Records, Every int64
	// Within is the longest time until the sync (Kafka's flush.ms).
	Within time.Duration
}

// EndRelaxed closes the group as End does, but those who wait are told once it is
// written to the file, where it survives the end of the process and not that of the
// power. It is committed and applied once it is synced, as any other.
func (l *Log) EndRelaxed(x Relax) {
	o := l.open
	for i := l.group; i < len(o.entries); i++ {
		o.entries[i].relaxed = true
	}
	o.relax(len(o.entries)-l.group, x)
	l.endLinger()
	l.End()
}

// relax notes that n more entries need no sync before they are acknowledged.
func (r *round) relax(n int, x Relax) {
	if r.relaxed == 0 || x.Every < r.bounds.Every {
		r.bounds.Every = x.Every
	}
	if r.relaxed == 0 || x.Within < r.bounds.Within {
		r.bounds.Within = x.Within
	}
	r.bounds.Records += x.Records
	r.relaxed += n
}

// finishRelaxed tells those who do not wait for the sync.
func (r *round) finishRelaxed() {
	for i := range r.entries {
		if e := &r.entries[i]; e.relaxed {
			e.sink.Done(r.buf[e.start:e.end], e.tag, nil)
			e.tag, e.told = nil, true
		}
	}
}

// postpone leaves a written round's sync for later and reports whether that may be.
// The round's content is copied together with what was written before it, so that
// the round can be filled again.
func (l *Log) postpone(r *round) bool {
	u := l.unsynced
	if u == nil {
		u = <-l.gathers
	}
	u.absorb(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsynced = u
	r.reset()
	if l.syncDue || l.closed || u.bounds.Records >= u.bounds.Every || len(u.buf) >= relaxedBytes || u.bounds.Within <= 0 {
		return false
	}
	l.syncWithin(u.bounds.Within)
	l.free <- r
	return true
}

// syncWithin has the committer sync in d at the latest. The caller holds l.mu.
func (l *Log) syncWithin(d time.Duration) {
	at := time.Now().Add(d)
	if !l.syncAt.IsZero() && !at.Before(l.syncAt) {
		return
	}
	if l.syncTimer != nil {
		l.syncTimer.Stop()
	}
	l.syncAt = at
	l.syncTimer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.syncAt.IsZero() && l.unsynced != nil {
			l.syncDue = true
			l.wake.Signal()
		}
	})
}

// synced takes over what was written without a sync, after one; nil if there was nothing.
func (l *Log) synced() *round {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastCommit = time.Now()
	u := l.unsynced
	l.unsynced, l.syncDue, l.syncAt = nil, false, time.Time{}
	if l.syncTimer != nil {
		l.syncTimer.Stop()
		l.syncTimer = nil
	}
	return u
}

// absorb takes over the content of a round that was written.
func (r *round) absorb(written *round) {
	r.gathered = true
	shift := len(r.buf) - roundHeader
	end := roundHeader
	if n := len(written.entries); n > 0 {
		end = written.entries[n-1].end
	}
	r.buf = append(r.buf, written.buf[roundHeader:end]...)
	for _, e := range written.entries {
		e.start, e.end = e.start+shift, e.end+shift
		r.entries = append(r.entries, e)
	}
	r.relax(written.relaxed, written.bounds)
	r.payload += written.payload
	r.last, r.rounds = written.last, r.rounds+written.rounds
}
