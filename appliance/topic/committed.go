package topic

// ReadCommitted is Read of what lies below the last stable offset, which it returns,
// and with it which transactions of what it has read were aborted, by first offset.
func (p *Partition) ReadCommitted(offset int64, maxBytes int) (c Section, aborted []AbortedTransaction, stable int64, err error) {
	for {
		p.stateMu.Lock()
		forgotten := p.state.forgotten
		p.stateMu.Unlock()
		stable = p.LastStableOffset()
		if c, err = p.readBelow(offset, maxBytes, stable); err != nil || c.Len() == 0 {
			return c, nil, stable, err
		}
		aborted, known, err := p.abortedOf(c, offset, forgotten)
		if err != nil {
			_ = c.Close()
			return Section{}, nil, stable, err
		}
		if known {
			return c, aborted, stable, nil
		}
		_ = c.Close()
	}
}

// abortedOf lists the aborted transactions with records in c, which was read from
// offset on. They are not known when some were forgotten since: the cleaner has removed
// their records, but c may be of the segment that still has them.
func (p *Partition) abortedOf(c Section, offset, forgotten int64) (aborted []AbortedTransaction, known bool, err error) {
	p.stateMu.Lock()
	none, known := len(p.state.aborted) == 0, p.state.forgotten == forgotten
	p.stateMu.Unlock()
	if none || !known {
		return nil, known, nil
	}
	next, err := c.Next() // outside of the lock, for it may read
	if err != nil {
		return nil, false, err
	}
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	return p.state.abortedIn(offset, next), p.state.forgotten == forgotten, nil
}
