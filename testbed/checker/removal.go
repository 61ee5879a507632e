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

// Trimmed says that the log is told, or was told, to remove what is below an offset,
// by DeleteRecords or a limit of size or age.
func (h *History) Trimmed(p Partition, before int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.of(p)
	b.removable = max(b.removable, before)
}

// gone reports whether a value that is not there may have been removed. lowest and
// highest are the first and the last of the lane's that are there.
func (l *Lane) gone(seq, lowest, highest int64) bool {
	if l.compacted {
		return seq < max(highest, l.lastAcked())
	}
	s := &l.sends[seq-1]
	if s.offset != noOffset {
		return s.offset < l.h.of(s.at).removable
	}
	// Where it was is not known. A lane is in order, so it may be gone if a later one is
	// that was where things were removed, or the first that is there lies above that.
	for i := seq; i < int64(len(l.sends)); i++ {
		if s := &l.sends[i]; s.offset != noOffset {
			return s.offset < l.h.of(s.at).removable
		}
	}
	return seq < lowest && l.h.anyRemoved()
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

func (h *History) anyRemoved() bool {
	for _, b := range h.bounds {
		if b.removable > 0 {
			return true
		}
	}
	return false
}

// removed reports whether a value that was read once may be gone.
func (h *History) removed(p Partition, offset int64, v value, atEnd []copyAt) bool {
	if offset < h.of(p).removable {
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
