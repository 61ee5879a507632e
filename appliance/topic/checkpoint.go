package topic

import (
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// checkpointLoop syncs segments so that the write-ahead log's files can be used
// again: at intervals, and whenever it runs short of them.
func (s *Set) checkpointLoop() {
	defer s.background.Done()
	tick := time.NewTicker(s.opts.CheckpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.wal.CheckpointWanted():
		case <-s.stop:
			return
		}
		if err := s.checkpoint(); err != nil {
			s.opts.Log.Error("checkpoint failed", "err", err)
			return // the write-ahead log has stopped accepting
		}
	}
}

// Checkpoint brings everything committed so far to its final place, durably.
func (s *Set) Checkpoint() error {
	s.wal.Settle()
	return s.checkpoint()
}

func (s *Set) checkpoint() error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	// The sequence first: what later rounds touch may be synced too early, never too late.
	seq := s.wal.Applied()
	s.dirtyMu.Lock()
	dirty := s.dirty
	s.dirty = nil
	for _, p := range dirty {
		p.dirty.Store(false)
	}
	s.dirtyMu.Unlock()
	for _, p := range dirty {
		if p.Err() != nil {
			continue // deleted
		}
		if err := p.checkpoint(); err != nil {
			s.wal.Fail(err)
			return err
		}
	}
	if err := s.saveWatermarks(dirty); err != nil {
		s.wal.Fail(err)
		return err
	}
	return s.wal.Checkpoint(seq)
}

// checkpoint makes the partition's segments and state durable, and notes how far.
func (p *Partition) checkpoint() error {
	end, at := p.log.End()
	if err := p.log.Sync(); err != nil {
		return err
	}
	if err := p.remember(end, at); err != nil {
		return err
	}
	return p.saveState()
}

// saveState writes the partition's state if it has changed.
func (p *Partition) saveState() error {
	p.stateMu.Lock()
	if !p.state.dirty {
		p.stateMu.Unlock()
		return nil
	}
	hw := p.hw.Load()
	p.state.forget()
	p.state.generation++
	b := p.state.encode(hw)
	p.mark.generation = p.state.generation
	// What is staged beyond the watermark is not in b: the next checkpoint, after
	// the commit that marks the partition dirty again, must write it.
	p.state.dirty = p.state.ahead(hw)
	p.stateMu.Unlock()
	return replaceFile(p.set.opts.FS, p.dir, stateFile, b)
}

// DeleteRecords moves the log start offset up to before; -1 means the high
// watermark. It returns the log start offset, durable.
func (p *Partition) DeleteRecords(before int64) (logStart int64, err error) {
	hw := p.hw.Load()
	if before == -1 {
		before = hw
	}
	if before < 0 || before > hw {
		return -1, record.ErrOffsetOutOfRange
	}
	if before <= p.start.Load() {
		return p.start.Load(), nil
	}
	o := newOutcome()
	p.staging.Lock()
	if err = p.Err(); err == nil {
		err = p.stageOffset(entryLogStart, before, o)
	}
	p.staging.Unlock()
	if err != nil {
		return -1, err
	}
	if <-o.done; o.err != nil {
		return -1, o.err
	}
	if err := p.log.RemoveBefore(p.start.Load()); err != nil {
		p.set.opts.Log.Error("segments below the log start stay until the next boot", "partition", p.tp.String(), "err", err)
	}
	return p.start.Load(), nil
}
