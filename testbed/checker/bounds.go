package checker

// bounds is where a partition begins and ends, as far as anybody was told.
type bounds struct {
	known      int64 // the offset after the last that was acked or read
	end        int64 // the greatest end that a reader was told of
	start      int64 // the greatest start that a reader was told of
	removable  int64 // what is below may have been removed
	startKnown bool
}

func (h *History) of(p Partition) *bounds {
	b := h.bounds[p]
	if b == nil {
		b = &bounds{}
		h.bounds[p] = b
	}
	return b
}

// Removable notes, before it is asked for, that what lies below an offset may be
// removed: by DeleteRecords, or by retention. It is not missing then.
func (h *History) Removable(p Partition, below int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.of(p)
	b.removable = max(b.removable, below)
}

// Compacted notes that a topic is compacted. The values of a lane have one key,
// so all but its last may be missing.
func (h *History) Compacted(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compacted[topic] = true
}

// Range notes what a reader was told of a partition: its log start offset, and its
// end, the high watermark. Calls for one partition must come in the order of the
// answers.
func (r *Reader) Range(p Partition, start, end int64) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	b, found := r.h.of(p), &r.h.anomalies
	switch {
	case end < b.known:
		found.add(EarlyEnd, "%s: %s ends at %d; offset %d is known", r.name, p, end, b.known-1)
	case end < b.end:
		found.add(WatermarkBack, "%s: %s ends at %d; it ended at %d before", r.name, p, end, b.end)
	}
	if start > b.removable {
		found.add(Removed, "%s: %s starts at %d; only what is below %d was to be removed", r.name, p, start, b.removable)
	}
	if b.startKnown && start < b.start {
		found.add(StartBack, "%s: %s starts at %d; it started at %d before", r.name, p, start, b.start)
	}
	b.end, b.start, b.startKnown = max(b.end, end), max(b.start, start), true
}

// gone reports whether a value that is not there may have been removed. lowest is
// the lane's first value that is there.
func (h *History) gone(l *Lane, seq, lowest, highest int64) bool {
	s := &l.sends[seq-1]
	if h.compacted[s.at.Topic] || h.compacted[l.at.Topic] {
		return seq < max(highest, l.lastAcked())
	}
	if s.offset != noOffset {
		return s.offset < h.of(s.at).removable
	}
	// Where it was is not known: it may be gone if all that was sent after it lies
	// where things were removed.
	return seq < lowest && h.of(l.at).removable > 0
}

// lastAcked is the number of the lane's last acked value; 0 if there is none.
func (l *Lane) lastAcked() int64 {
	for i := len(l.sends); i > 0; i-- {
		if l.sends[i-1].state == acked {
			return int64(i)
		}
	}
	return 0
}

// wait is something that has to end.
type wait struct{ what string }

// Begin notes that something has begun that must end before Check: an append, a
// poll that must return, a rebalance. Its caller calls end when it has. What does
// not end by itself in time is given up without calling it.
func (h *History) Begin(what string) (end func()) {
	w := &wait{what}
	h.mu.Lock()
	h.waits[w] = true
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		delete(h.waits, w)
		h.mu.Unlock()
	}
}

func (h *History) checkWaits(found *anomalies) {
	for w := range h.waits {
		found.add(Stuck, "%s did not end", w.what)
	}
}
