package topic

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// roomInterval is after how long a checkpoint that found no room is tried again.
const roomInterval = 250 * time.Millisecond

// checkpointLoop syncs segments so that the write-ahead log's files can be used
// again: at intervals, and whenever it runs short of them.
func (s *Set) checkpointLoop() {
	defer s.background.Done()
	tick := time.NewTicker(s.opts.CheckpointInterval)
	defer tick.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-tick.C:
		case <-s.wal.CheckpointWanted():
		case <-again: // the write-ahead log may wait for it
		case <-s.stop:
			return
		}
		again = nil
		if err := s.checkpoint(); noRoom(err) {
			again = time.After(roomInterval)
		} else if err != nil {
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
	select {
	case <-s.wal.Failed():
		// What a sync has failed for may find nothing left to sync the next time: no
		// watermark may say that it is on the disk.
		return s.wal.Err()
	default:
	}
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
		if err := p.bring(); err != nil {
			return s.again(dirty, err)
		}
	}
	dirty = slices.DeleteFunc(dirty, func(p *Partition) bool {
		gone := p.Err() != nil // deleted
		if gone {
			p.dirty.Store(true) // keep syncs it
		}
		return gone
	})
	if err := s.syncPartitions(dirty); err != nil {
		return s.again(dirty, err)
	}
	return s.wal.Checkpoint(seq)
}

// again judges why there was no checkpoint of partitions. One that found no room is
// tried again, with all that it was to do; after another failure there is none any more,
// nor when the set closes, which may wait for this one.
func (s *Set) again(dirty []*Partition, err error) error {
	closing := false
	select {
	case <-s.closing:
		closing = true
	default:
	}
	if closing || !noRoom(err) {
		s.wal.Fail(err)
		return err
	}
	for _, p := range dirty {
		p.stateMu.Lock()
		p.state.dirty = true
		p.stateMu.Unlock()
		p.identified = false
		p.touch()
	}
	s.sayNoRoom(err)
	return err
}

// syncPartitions makes segments and states durable, and then notes how far.
func (s *Set) syncPartitions(dirty []*Partition) error {
	for _, p := range dirty {
		if err := p.remember(p.log.End()); err != nil {
			return err
		}
	}
	sync := syncEach
	if len(dirty) >= together && s.files.CanSyncAll() {
		sync = s.syncTogether
	}
	if err := sync(dirty); err != nil {
		return err
	}
	return s.saveWatermarks(dirty)
}

func syncEach(dirty []*Partition) error {
	for _, p := range dirty {
		if err := p.identify(); err != nil {
			return err
		}
		if err := p.log.Sync(); err != nil {
			return err
		}
		if err := p.saveState(); err != nil {
			return err
		}
	}
	return nil
}

// together is from how many partitions on the file system is synced as a whole: one
// commit of its journal instead of one for each, which takes less time and wears the
// flash less.
const together = 3

// syncTogether is syncEach in two syncs of the whole file system, or in one if no
// state has changed. What was flushed is synced though another found no room: it counts
// as clean from then on.
func (s *Set) syncTogether(dirty []*Partition) error {
	written, full := s.flush(dirty)
	if full != nil && !noRoom(full) {
		return full
	}
	if err := s.syncAll(); err != nil || full != nil || len(written) == 0 {
		return errors.Join(err, full)
	}
	for _, f := range written {
		if err := renameNew(s.opts.FS, f.dir, f.name); err != nil {
			return err
		}
	}
	return s.syncAll()
}

// newFile is one that was written beside the old one.
type newFile struct{ dir, name string }

// flush hands everything that a checkpoint makes durable to the kernel.
func (s *Set) flush(dirty []*Partition) (written []newFile, err error) {
	write := func(p *Partition, name string, b []byte) error {
		if b == nil {
			return nil
		}
		written = append(written, newFile{p.dir, name})
		return writeNew(s.opts.FS, p.dir, name, b, false)
	}
	for _, p := range dirty {
		if err := p.log.Flush(); err != nil {
			return nil, err
		}
		if err := write(p, metadataFile, p.takeIdentity()); err != nil {
			return nil, err
		}
		if err := write(p, stateFile, p.takeState()); err != nil {
			return nil, err
		}
	}
	return written, nil
}

func (s *Set) syncAll() error {
	if err := s.files.SyncAll(); err != nil {
		return fmt.Errorf("%w: %w", vfs.ErrUnsynced, err)
	}
	return nil
}

// saveState writes the partition's state if it has changed.
func (p *Partition) saveState() error {
	b := p.takeState()
	if b == nil {
		return nil
	}
	err := replaceFile(p.set.opts.FS, p.dir, stateFile, b)
	if err != nil {
		p.stateMu.Lock()
		p.state.dirty = true // the next watermark would say that there is a newer one than that
		p.stateMu.Unlock()
	}
	return err
}

// takeState encodes the partition's state, to be written; nil if it has not changed.
func (p *Partition) takeState() []byte {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if !p.state.dirty {
		return nil
	}
	hw := p.hw.Load()
	_, elapsed := p.set.opts.Clock.Read()
	p.state.producers.expire(elapsed, p.opened, p.set.Tuning().ProducerExpiration)
	p.state.forget()
	p.state.generation++
	b := p.state.encode(hw)
	p.mark.generation = p.state.generation
	// What is staged beyond the watermark is not in b: the next checkpoint, after
	// the commit that marks the partition dirty again, must write it.
	p.state.dirty = p.state.ahead(hw)
	return b
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
	err = p.log.RemoveBefore(p.start.Load())
	if errors.Is(err, commitlog.ErrNames) {
		p.set.Fail(err)
	}
	if err != nil {
		p.set.opts.Log.Error("segments below the log start stay until the next boot", "partition", p.tp.String(), "err", err)
	}
	return p.start.Load(), nil
}
