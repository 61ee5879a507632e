package checker

// What a log removes because it was told to is not lost.

// Compacted says that the log may remove a value of the lane as soon as a later
// one of it is there, as in a topic with cleanup.policy=compact and the lane's name
// as key. The last one acked must stay.
func (l *Lane) Compacted() *Lane {
	l.h.mu.Lock()
	l.compacted = true
	l.h.mu.Unlock()
	return l
}

// Trimmed says that the log was told to remove what is below an offset, by
// DeleteRecords or a limit of size or age.
func (h *History) Trimmed(p Partition, before int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trimmed == nil {
		h.trimmed = map[Partition]int64{}
	}
	h.trimmed[p] = max(h.trimmed[p], before)
}

// trimmedTo is the last value of the lane that may be gone, and all before it: a
// lane is in order.
func (l *Lane) trimmedTo() (seq int64) {
	for i := range l.sends {
		if s := &l.sends[i]; s.offset != noOffset && s.offset < l.h.trimmed[s.at] {
			seq = int64(i + 1)
		}
	}
	return seq
}

// removed reports whether a value that was read once may be gone.
func (h *History) removed(p Partition, offset int64, v value, atEnd []copyAt) bool {
	if offset < h.trimmed[p] {
		return true
	}
	if !v.lane.compacted {
		return false
	}
	for _, c := range atEnd {
		if c.seq > v.seq {
			return true
		}
	}
	return false
}
