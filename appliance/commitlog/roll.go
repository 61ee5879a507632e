package commitlog

// Roll begins a segment at offset base, which is the end of the log, so that the
// one before it is complete and can be removed. Nothing happens if the active
// segment begins there. Like Write it is the writer's to call.
func (l *Log) Roll(base int64) error {
	if a := l.active(); a != nil && a.base == base {
		return nil
	}
	s, err := l.roll(base)
	if err != nil {
		return err
	}
	// Synced although it is empty: the file may have been there with something in it.
	l.dirtyMu.Lock()
	s.dirty.Store(true)
	l.dirty = append(l.dirty, s)
	l.dirtyMu.Unlock()
	return nil
}

// Roll begins a segment again, as Log.Roll did. Its batches, if it has any, come after.
func (r *Redo) Roll(base int64) error {
	if r.names[base] && len(r.touched) > 0 && r.touched[len(r.touched)-1].base == base {
		return nil
	}
	s, err := r.segment(Position{Segment: base})
	if err == nil {
		s.next = base
	}
	return err
}
