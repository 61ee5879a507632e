package topic

// EndOffsetForEpoch answers OffsetForLeaderEpoch: the end offset of the largest
// epoch that is not above epoch, and that epoch; -1, -1 when there is none.
func (p *Partition) EndOffsetForEpoch(epoch int32) (endEpoch int32, endOffset int64) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	endEpoch, endOffset = -1, -1
	if epoch == p.set.opts.LeaderEpoch {
		return epoch, p.hw.Load()
	}
	for i, e := range p.state.epochs {
		if e.epoch > epoch {
			break
		}
		endEpoch, endOffset = e.epoch, p.hw.Load()
		if i+1 < len(p.state.epochs) {
			endOffset = min(endOffset, p.state.epochs[i+1].start)
		}
	}
	return endEpoch, endOffset
}
