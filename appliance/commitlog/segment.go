package commitlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// segment is one file of batches and its indexes. size and end move forward
// after the bytes are in the file, so a reader that loads them reads whole batches.
type segment struct {
	opts Options
	base int64
	next int64 // base of the following segment; 0 for the active one. Guarded by Log.mu
	f    vfs.File

	size  atomic.Int64 // bytes of whole batches
	end   atomic.Int64 // offset after the last record; until load, that of the next segment
	maxTS atomic.Int64 // of the records, ms; -1 while empty
	ready atomic.Bool  // load was called: maxTS and idx are known

	idxMu sync.Mutex // guards idx
	idx   *index
	since int // bytes written since the last index entry; writer's

	detached bool // from its names: the file is pinned, the index in memory; guarded by idxMu

	dirty  atomic.Bool  // is in Log.dirty
	begun  atomic.Int64 // bytes below are on their way to the disk, or were there when it was opened
	sealed atomic.Bool  // another follows

	refs    atomic.Int32 // readers, plus one for the log itself
	removed atomic.Bool

	foreign   atomic.Int64  // bytes below were there when it was opened; see verify.go
	checked   atomic.Uint64 // chunks of those whose CRCs were checked
	verifying sync.Mutex
	audited   atomic.Bool
	bad       atomic.Pointer[[]stretch] // what is stepped over, in order
}

func createSegment(o Options, base int64) (*segment, error) {
	s := newSegment(o, base)
	f, err := o.FS.Create(s.path(logSuffix))
	if errors.Is(err, fs.ErrExist) {
		// Left behind by a roll that a crash undid: nothing refers to what is in it.
		if f, err = o.FS.Open(s.path(logSuffix)); err == nil {
			err = f.Truncate(0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("commitlog: create %s: %w", s.path(logSuffix), err)
	}
	s.f = f
	s.idx.fresh = true
	s.ready.Store(true)
	return s, nil
}

func newSegment(o Options, base int64) *segment {
	s := &segment{opts: o, base: base, idx: newIndex(o, base)}
	s.end.Store(base)
	s.maxTS.Store(-1)
	s.refs.Store(1)
	return s
}

func (s *segment) name(suffix string) string { return fileName(s.base, suffix) }
func (s *segment) path(suffix string) string { return s.opts.Dir + "/" + s.name(suffix) }

// openSegment opens an existing segment. One that is followed by another, which
// starts at next, is looked into only when it is needed; next is 0 for the active one.
func openSegment(o Options, redo *Redo, base, next int64) (_ *segment, err error) {
	s := newSegment(o, base)
	if s.f = redo.take(base); s.f != nil {
		s.dirty.Store(true)
	} else if s.f, err = o.FS.Open(s.path(logSuffix)); err != nil {
		return nil, fmt.Errorf("commitlog: open %s: %w", s.path(logSuffix), err)
	}
	size, err := s.f.Size()
	if err != nil {
		s.release()
		return nil, fmt.Errorf("commitlog: size of %s: %w", s.path(logSuffix), err)
	}
	s.size.Store(size)
	s.begun.Store(size)
	s.foreign.Store(size)
	if s.next = next; next > 0 {
		s.end.Store(next)
	}
	return s, nil
}

// smallSegment is read faster from its start than by way of its index.
const smallSegment = 16 << 10

// load finds out where the segment ends and completes its indexes by reading what
// lies behind their last entry. It does so once.
func (s *segment) load() error {
	if s.ready.Load() {
		return nil
	}
	s.idxMu.Lock()
	defer s.idxMu.Unlock()
	if s.ready.Load() {
		return nil
	}
	if err := s.identify(); err != nil {
		return err
	}
	size := s.size.Load()
	if size <= smallSegment {
		s.idx.fresh = true
	} else if err := s.idx.load(size, s.startsBatch); err != nil {
		return fmt.Errorf("commitlog: load the index of %s: %w", s.path(logSuffix), err)
	}
	if err := s.scan(size); err != nil {
		return err
	}
	s.ready.Store(true)
	return nil
}

// startsBatch reports whether the batch that e names starts where e says.
func (s *segment) startsBatch(e entry) bool {
	var h [record.HeaderLen]byte
	if _, err := s.f.ReadAt(h[:], e.pos); err != nil {
		return false
	}
	b := record.Batch(h[:])
	return b.Magic() == 2 && b.BaseOffset() >= s.base && b.LastOffset() == e.offset
}

// scan reads batch headers from the last index entry to the end of the file. The
// caller holds idxMu.
func (s *segment) scan(size int64) error {
	pos, end, maxTS := int64(0), s.base, int64(-1)
	indexed := s.idx.len() > 0
	if indexed {
		e, err := s.idx.at(s.idx.len() - 1)
		if err != nil {
			return fmt.Errorf("commitlog: load the index of %s: %w", s.path(logSuffix), err)
		}
		pos, maxTS = e.pos, e.timestamp
	}
	last, dense := int64(-1), !s.sparse()
	err := s.headers(pos, size, func(pos int64, h record.Batch) error {
		follows := last >= 0 || !indexed
		last = pos
		if h.BaseOffset() < end || dense && follows && h.BaseOffset() != end || h.NextOffset() <= h.BaseOffset() {
			return &CorruptError{s.path(logSuffix), pos, fmt.Errorf("%w: offset %d follows offset %d", record.ErrCorrupt, h.BaseOffset(), end-1)}
		}
		maxTS = max(maxTS, h.MaxTimestamp())
		if !indexed && s.due() {
			s.idx.add(entry{h.LastOffset(), pos, maxTS})
		}
		indexed = false // only the first batch is in the index already
		s.since += int(h.Len())
		end = h.NextOffset()
		return nil
	})
	if err == nil && s.next == 0 && last >= 0 {
		err = s.vouch(last, size) // where the log ends hangs on it
	}
	if err == nil && s.next > 0 && (end > s.next || end < s.next && (!s.sparse() || s.covers() < s.next)) {
		err = &CorruptError{s.path(logSuffix), size, fmt.Errorf("%w: it ends with offset %d, the next segment starts at %d", record.ErrCorrupt, end-1, s.next)}
	}
	if err != nil {
		s.idx.tail = nil
		return err
	}
	s.end.Store(end)
	s.maxTS.Store(maxTS)
	return nil
}

// vouch checks the batch at pos: a *CorruptError says that it is not whole.
func (s *segment) vouch(pos, size int64) error {
	r := s.reader()
	defer r.close()
	h, err := r.header(pos)
	ok := false
	if err == nil && h != nil {
		ours := s.ofEpoch(h)
		ok, err = r.whole(pos, size, h)
		ok = ok && ours
	}
	if err == nil && !ok {
		err = &CorruptError{s.path(logSuffix), pos, fmt.Errorf("%w: the last batch is not whole", record.ErrCorrupt)}
	}
	return err
}

// headers calls fn with the header of every batch from pos to size. The header
// is valid until fn returns.
func (s *segment) headers(pos, size int64, fn func(pos int64, h record.Batch) error) error {
	buf := headerBufs.Get().(*[headerChunk]byte)
	defer headerBufs.Put(buf)
	var start, end int64 // of what buf holds
	for pos < size {
		if st, bad := s.badAt(pos); bad {
			pos = st.to
			continue
		}
		if pos < start || pos+record.HeaderLen > end {
			n, err := s.f.ReadAt(buf[:], pos)
			if err != nil && err != io.EOF {
				return s.readError(pos, err)
			}
			start, end = pos, pos+int64(n)
		}
		h := buf[pos-start : end-start]
		length := batchLen(h)
		if length == 0 || pos+length > size {
			return &CorruptError{s.path(logSuffix), pos, fmt.Errorf("%w: no whole batch in the last %d bytes", record.ErrCorrupt, size-pos)}
		}
		if err := fn(pos, record.Batch(h[:record.HeaderLen])); err != nil {
			return err
		}
		pos += length
	}
	return nil
}

// headerChunk is read at once: small batches lie close together, and of large
// ones only the header is wanted.
const headerChunk = 4096

var headerBufs = sync.Pool{New: func() any { return new([headerChunk]byte) }}

// batchLen is the length of the batch that starts with h; 0 if h is no batch header.
func batchLen(h []byte) int64 {
	if len(h) < record.HeaderLen {
		return 0
	}
	b := record.Batch(h)
	n := b.Len()
	if n < record.HeaderLen || b.Magic() != 2 || b.LastOffsetDelta() < 0 {
		return 0
	}
	return n
}

// append writes batches at the end: one write, however many they are.
func (s *segment) append(batches []byte) error {
	pos := s.size.Load()
	if _, err := s.f.WriteAt(batches, pos); err != nil {
		return fmt.Errorf("commitlog: write %s at %d: %w", s.path(logSuffix), pos, err)
	}
	for b, rest, ok := record.Split(batches); ok; b, rest, ok = record.Split(rest) {
		s.note(pos, b)
		s.grow(pos, b)
		pos += int64(len(b))
	}
	s.begun.Store(s.opts.Writeback.Appended(s.f, s.begun.Load(), pos))
	return nil
}

// due reports whether enough log lies since the last index entry for another.
func (s *segment) due() bool {
	if s.since < s.opts.IndexIntervalBytes {
		return false
	}
	s.since = 0
	return true
}

// note enters the batch at pos in the index if that is due.
func (s *segment) note(pos int64, h record.Batch) {
	if !s.due() {
		return
	}
	s.idxMu.Lock()
	s.idx.add(entry{h.LastOffset(), pos, max(s.maxTS.Load(), h.MaxTimestamp())})
	s.idxMu.Unlock()
}

// grow makes the batch at pos part of what readers see.
func (s *segment) grow(pos int64, h record.Batch) {
	length := h.Len()
	s.since += int(length)
	s.maxTS.Store(max(s.maxTS.Load(), h.MaxTimestamp()))
	s.size.Store(pos + length)
	s.end.Store(h.NextOffset())
}

// sync makes the segment durable. Index entries are written out, in time, but not
// synced: what a crash takes of them is rebuilt.
func (s *segment) sync() error {
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("%w: commitlog: sync %s: %w", vfs.ErrUnsynced, s.path(logSuffix), err)
	}
	return s.flushIndex()
}

// indexTail is how many index entries of the active segment may wait to be written
// out. Writing a few bytes into two files at every checkpoint would wear a flash
// more than the records do; reading 128 KiB of log again after a crash takes nothing.
const indexTail = 32

func (s *segment) flushIndex() error {
	s.begun.Store(s.size.Load()) // a sync of the file, or of all files, goes with it
	s.idxMu.Lock()
	defer s.idxMu.Unlock()
	if s.removed.Load() || !s.sealed.Load() && len(s.idx.tail) < indexTail {
		return nil
	}
	if err := s.idx.flush(); err != nil && !s.removed.Load() { // a closed file is opened by its name, which goes
		return fmt.Errorf("commitlog: write the index of %s: %w", s.path(logSuffix), err)
	}
	return nil
}
