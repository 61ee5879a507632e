package topic

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sort"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// recovered is what a partition knows of itself besides its state.
type recovered struct {
	mark     watermark // of the last checkpoint; under stateMu, changed by checkpoints alone
	holes    []int64   // segments in which the write-ahead log left some
	reserved int64     // offsets below were given, whether their batches are there or not
}

func (p *Partition) identity() identity { return identity{p.topic.id, p.tp.Partition} }

// open opens the partition's log and takes its offsets from it.
func (p *Partition) open() (err error) {
	p.log = &commitlog.Log{} // nothing to read, should it fail; Err says why
	if err := p.adoptState(); err != nil {
		p.state = newState(p.identity())
		return err
	}
	o := p.options()
	o.Start, o.Redo, o.Dense = p.state.logStart, p.redo, !p.state.rebuild && !p.state.guessed
	log, err := commitlog.Open(o)
	if err != nil {
		return err
	}
	p.log = log
	if _, end := p.log.End(); len(p.state.epochs) == 0 && end.Byte > 0 {
		p.state.rebuild = true // every batch leaves an epoch: the file was lost
	}
	if p.state.rebuild {
		if err := p.rebuildState(); err != nil {
			return err
		}
	}
	if len(p.holes) > 0 {
		if err := p.log.Audit(p.holes[0]); err != nil {
			return err
		}
	}
	p.settleOffsets()
	_, p.opened = p.set.opts.Clock.Read()
	p.since = p.opened
	return nil
}

// adoptState loads the partition's state, unless recovery has; one that is damaged,
// is another's or an old copy is rebuilt from the batches.
func (p *Partition) adoptState() error {
	if p.state != nil {
		return nil
	}
	st, err := loadState(p.set.opts.FS, p.dir, p.identity())
	switch {
	case err != nil && !errors.Is(err, errState):
		return err
	case err == nil && st.owner == p.identity() && st.generation >= p.mark.generation && st.generation > 0:
		p.state = st
		return nil
	case err == nil && st.generation == 0 && p.mark == (watermark{}):
		p.state = st // there is none yet
		return p.claim(identity{})
	}
	owner := identity{}
	if err == nil {
		owner = st.owner
	}
	if err := p.keepState(); err != nil {
		return err
	}
	if err := p.claim(owner); err != nil {
		return err
	}
	if p.state == nil {
		p.state = newState(p.identity())
		p.state.rebuild, p.state.dirty = true, true
		p.state.logStart, p.state.generation = p.mark.logStart, p.mark.generation
	}
	return nil
}

// keepState copies a state file that is not used to the quarantine.
func (p *Partition) keepState() error {
	f, err := p.set.opts.FS.Open(p.dir + "/" + stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("topic: open %s/%s: %w", p.dir, stateFile, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err == nil {
		err = vfs.Keep(p.set.opts.FS, quarantineDir, path.Base(p.dir)+"-"+stateFile, f, 0, min(size, maxStateBytes))
	}
	if err != nil {
		return fmt.Errorf("topic: keep the damaged %s/%s: %w", p.dir, stateFile, err)
	}
	return nil
}

// rebuildState derives the state from the batches.
func (p *Partition) rebuildState() error {
	p.set.opts.Log.Warn("partition state was damaged and is rebuilt from the log", "partition", p.tp.String())
	st := newState(p.identity())
	st.logStart, st.generation, st.dirty, st.guessed = p.state.logStart, p.state.generation, true, true
	if err := p.log.Headers(func(h record.Batch) error { st.recall(h, p.set.opts.MaxProducers); return nil }); err != nil {
		return err
	}
	p.stateMu.Lock()
	st.lost = p.state.lost
	p.state = st
	p.stateMu.Unlock()
	p.touch() // before the cleaner saves it, a checkpoint notes what the segments are
	return nil
}

// settleOffsets decides where the log starts and ends. What the last checkpoint knew
// to be there and is not, is lost, and its offsets are never given again.
func (p *Partition) settleOffsets() {
	next, at := p.log.End()
	end := max(next, p.mark.end, p.reserved)
	torn := p.log.Torn()
	if torn && p.mark == (watermark{}) {
		// Nobody knows how many records the bytes at the end were: an offset that
		// the segment's index could not even have held was surely never given.
		end = max(end, at.Segment+math.MaxInt32+1)
	}
	if torn && end == at.Segment {
		end++ // its file is in the way, and stays
	}
	start := p.state.logStart
	switch first := p.log.Start(); {
	case p.log.Empty() || first <= start:
	case p.state.guessed && p.mark == (watermark{}):
		start = first // where it started nobody knows
	default:
		p.lose(commitlog.Damage{Segment: start, First: start, Next: first, Cause: "the first segments are missing"})
	}
	if next = max(next, start); next < end {
		p.lose(commitlog.Damage{Segment: at.Segment, From: at.Byte, To: max(at.Byte, p.mark.bytes), First: next, Next: end,
			Cause: fmt.Sprintf("the log ends at offset %d, it had reached %d", next, end)})
	}
	if next < end || torn {
		at = commitlog.Position{Segment: end}
	}
	p.next, p.at, p.reserved = end, at, end
	p.ahead.Store(end)
	p.hw.Store(max(end, start))
	p.from = start
	p.start.Store(start)
	p.unstable.Store(p.state.unstable())
}

// remember notes what a checkpoint has made durable: the log up to end, and what its
// sealed segments are. It must not run beside itself.
func (p *Partition) remember(end int64, at commitlog.Position) error {
	rolled := at.Segment != p.mark.segment
	crc, epoch := p.mark.crc, p.mark.epoch
	if rolled || crc == 0 {
		id, ok, err := p.log.Identity(at.Segment)
		if err != nil {
			return err
		}
		if crc, epoch = 0, 0; ok {
			crc, epoch = id.CRC, id.Epoch
		}
	}
	var sealed []commitlog.SegmentID
	if rolled || p.state.guessed {
		for _, base := range p.log.Sealed() {
			if p.remembers(base) {
				continue
			}
			id, ok, err := p.log.Identity(base)
			if err != nil {
				return err
			}
			if ok {
				sealed = append(sealed, id)
			}
		}
	}
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.mark = watermark{logStart: p.state.logStart, end: max(end, p.mark.end, p.reserved), segment: at.Segment, bytes: at.Byte,
		crc: crc, epoch: epoch, generation: p.state.generation}
	for _, id := range sealed {
		id.Cleaned = id.Cleaned || p.state.guessed
		p.state.know(id)
	}
	return nil
}

// known is what the partition remembers of the segment that starts at base.
func (p *Partition) known(base int64) []commitlog.SegmentID {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	ids := p.state.segmentsAt(base)
	if m := p.mark; m.segment == base && m.crc != 0 {
		ids = append(ids, commitlog.SegmentID{Base: base, End: m.end, Bytes: m.bytes, First: base, Epoch: m.epoch, CRC: m.crc, Growing: true})
	}
	return ids
}

func (p *Partition) remembers(base int64) bool {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	return len(p.state.segmentsAt(base)) > 0
}

func (s *state) segmentsAt(base int64) (ids []commitlog.SegmentID) {
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].Base >= base })
	for ; i < len(s.segments) && s.segments[i].Base == base; i++ {
		ids = append(ids, s.segments[i])
	}
	return ids
}

// know adds what a segment is, or may be soon.
func (s *state) know(id commitlog.SegmentID) {
	if slices.Contains(s.segmentsAt(id.Base), id) {
		return
	}
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].Base > id.Base })
	s.segments, s.dirty = slices.Insert(s.segments, i, id), true
}

// Expect notes, durably, that a segment may be replaced by the one that id describes:
// whoever is about to rename a file over another calls it first. Until the new one is
// there both are accepted. id.End is where the replaced range ends.
func (p *Partition) Expect(id commitlog.SegmentID) error {
	p.set.checkpointing.Lock()
	defer p.set.checkpointing.Unlock()
	p.stateMu.Lock()
	p.state.know(id)
	p.stateMu.Unlock()
	return p.saveState()
}

// replaced forgets what segments were before others took their places, or they became
// part of others: what is expected would grow with each cleaning, and an old copy of a
// segment pass for the new one. No replacement may be under way.
func (p *Partition) replaced() error {
	p.set.checkpointing.Lock()
	defer p.set.checkpointing.Unlock()
	now := map[int64]commitlog.SegmentID{}
	for _, base := range p.log.Sealed() {
		p.stateMu.Lock()
		ids := p.state.segmentsAt(base)
		p.stateMu.Unlock()
		now[base] = commitlog.SegmentID{Bytes: -1}
		if len(ids) < 2 {
			continue
		}
		is, ok, err := p.log.Identity(base)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if ok && id.Bytes == is.Bytes && id.CRC == is.CRC && id.First == is.First {
				now[base] = id
			}
		}
	}
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.state.segments = slices.DeleteFunc(p.state.segments, func(id commitlog.SegmentID) bool {
		is, there := now[id.Base]
		gone := !there || is.Bytes >= 0 && id != is
		p.state.dirty = p.state.dirty || gone
		return gone
	})
	return nil
}

// epochsAt is between which leader epochs a record at offset was appended.
func (p *Partition) epochsAt(offset int64) (least, greatest int32) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	least, greatest = math.MinInt32, math.MaxInt32
	if p.state.rebuild {
		return least, greatest
	}
	for i, e := range p.state.epochs {
		if e.start > offset {
			break
		}
		if least, greatest = e.epoch, math.MaxInt32; i+1 < len(p.state.epochs) {
			greatest = e.epoch
		}
	}
	return least, greatest
}

// claim makes sure that the folder is the partition's, when its state does not say
// so; owner is whose state it holds, if any. A folder that is another's is set aside,
// and an empty one made.
func (p *Partition) claim(owner identity) error {
	fsys := p.set.opts.FS
	if _, err := fsys.List(p.dir); errors.Is(err, fs.ErrNotExist) {
		p.set.opts.Log.Error("the folder of a partition is missing", "partition", p.tp.String())
		return p.newFolder()
	}
	id, named, err := loadFolderID(fsys, p.dir)
	if errors.Is(err, fs.ErrNotExist) && owner == (identity{}) {
		return nil // it is written at the first checkpoint
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if named && id == p.topic.id && owner == (identity{}) {
		return nil
	}
	fits, known := p.fits()
	foreign := known && !fits && (owner != identity{} || named && id != p.topic.id) ||
		!known && named && id != p.topic.id && p.set.ids[id] != nil
	if foreign {
		as, err := vfs.SetAside(fsys, topicsDir, path.Base(p.dir), quarantineDir, path.Base(p.dir))
		if err != nil {
			return fmt.Errorf("topic: set aside folder %s: %w", p.dir, err)
		}
		p.set.opts.Log.Error("a folder that belongs to another partition was set aside", "partition", p.tp.String(), "kept", quarantineDir+"/"+as)
		return p.newFolder()
	}
	if !named || id != p.topic.id {
		p.set.opts.Log.Warn("the identity of a partition's folder was damaged and is written anew", "partition", p.tp.String())
		return replaceFile(fsys, p.dir, metadataFile, p.folderID())
	}
	return nil
}

// newFolder makes the partition's folder anew, empty. What was in it is lost as far
// as the last checkpoint knows.
func (p *Partition) newFolder() error {
	if err := p.makeFolder(); err != nil {
		return err
	}
	if err := p.set.opts.FS.SyncDir(topicsDir); err != nil {
		return fmt.Errorf("topic: sync folder %s: %w", topicsDir, err)
	}
	p.state = newState(p.identity())
	p.state.logStart, p.state.generation, p.state.dirty = p.mark.logStart, p.mark.generation, true
	return nil
}

// fits reports whether the folder holds the segment that the last checkpoint knew;
// known is false where that cannot be said.
func (p *Partition) fits() (fits, known bool) {
	if p.mark.crc == 0 {
		return false, false
	}
	f, err := p.set.opts.FS.Open(p.dir + "/" + commitlog.FileName(p.mark.segment))
	if errors.Is(err, fs.ErrNotExist) {
		return false, true
	}
	if err != nil {
		return false, false
	}
	defer f.Close()
	h := make(record.Batch, record.HeaderLen)
	if _, err := f.ReadAt(h, 0); err != nil {
		return false, false
	}
	return h.CRC() == p.mark.crc, true
}
