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
