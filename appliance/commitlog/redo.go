package commitlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Redo brings back, after a crash, what the write-ahead log holds of one
// partition: every batch is written again to the place it was given, whether or
// not it got there before. Doing it twice changes nothing. The log must not be open.
//
// Where batches are missing because the write-ahead log was damaged, the next goes
// to its place all the same. What the segment has in the hole may be what is missing,
// since nothing but durable batches ever gets there: Open finds out.
type Redo struct {
	opts    Options
	names   map[int64]bool // segments in the folder
	touched []*redone
	next    int64 // offset after the last batch; -1 before the first
	holes   []int64
}

// redone is a segment that was written to.
type redone struct {
	base       int64
	f          vfs.File
	start, end int64 // the bytes written again
	next       int64 // offset after the last batch
	made       bool  // it was not there
}

// NewRedo prepares the folder, which must exist.
func NewRedo(o Options) (*Redo, error) {
	o = o.withDefaults()
	list, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("commitlog: list %s: %w", o.Dir, err)
	}
	r := &Redo{opts: o, names: map[int64]bool{}, next: -1}
	for _, name := range list {
		if base, ok := parseName(name, logSuffix); ok {
			r.names[base] = true
		}
	}
	return r, nil
}

// After says that all below offset is in the segments already: the first batch
// written is expected to be the one at it.
func (r *Redo) After(offset int64) { r.next = offset }

// Follows reports whether a batch with that base offset at that place is what
// follows the last one written.
func (r *Redo) Follows(at Position, base int64) bool {
	if len(r.touched) == 0 || base != r.next {
		return false
	}
	last := r.touched[len(r.touched)-1]
	return at == Position{last.base, last.end} || at == Position{Segment: base}
}

// Write writes one batch again. Batches come in the order in which they were
// first written.
func (r *Redo) Write(at Position, b record.Batch) error {
	s, err := r.segment(at)
	if err != nil {
		return err
	}
	if at.Byte != s.end || r.next >= 0 && b.BaseOffset() != r.next {
		r.hole(s)
	}
	if _, err := s.f.WriteAt(b, at.Byte); err != nil {
		return fmt.Errorf("commitlog: redo %s at %d: %w", r.path(at.Segment, logSuffix), at.Byte, err)
	}
	s.end, s.next, r.next = at.Byte+int64(len(b)), b.NextOffset(), b.NextOffset()
	return nil
}

// hole notes that batches are missing before the next one of s: there, or at the end
// of the segment before.
func (r *Redo) hole(s *redone) {
	for _, t := range []*redone{r.before(s), s} {
		if t != nil && (len(r.holes) == 0 || r.holes[len(r.holes)-1] < t.base) {
			r.holes = append(r.holes, t.base)
		}
	}
}

func (r *Redo) before(s *redone) *redone {
	if n := len(r.touched); n > 1 && r.touched[n-1] == s {
		return r.touched[n-2]
	}
	return nil
}

// Holes lists, by base offset, the segments in which batches are missing, which the
// write-ahead log should have had. They are to be audited.
func (r *Redo) Holes() []int64 { return r.holes }

func (r *Redo) path(base int64, suffix string) string {
	return r.opts.Dir + "/" + fileName(base, suffix)
}

func (r *Redo) segment(at Position) (*redone, error) {
	if n := len(r.touched); n > 0 && r.touched[n-1].base == at.Segment {
		return r.touched[n-1], nil
	}
	name := r.path(at.Segment, logSuffix)
	f, err := r.opts.FS.Open(name)
	if err == nil {
		if f, err = r.own(at.Segment, f); f == nil && err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.opts.FS.Create(name)
	}
	if err != nil {
		return nil, fmt.Errorf("commitlog: redo %s: %w", name, err)
	}
	s := &redone{base: at.Segment, f: f, start: at.Byte, end: at.Byte, made: !r.names[at.Segment]}
	r.names[at.Segment] = true
	r.touched = append(r.touched, s)
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("commitlog: size of %s: %w", name, err)
	}
	s.end = min(size, at.Byte)
	return s, nil
}

// own sets a file aside that is not the segment whose name it bears, before anything
// is written to it; it returns the file if it is.
func (r *Redo) own(base int64, f vfs.File) (vfs.File, error) {
	s := newSegment(r.opts, base)
	s.f = f
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.size.Store(size)
	if err := s.identify(); err == nil || !errors.Is(err, errForeign) {
		return f, nil // what is damaged in it the audit will tell
	}
	_, err = s.setAside()
	delete(r.names, base)
	return nil, errors.Join(err, f.Close())
}

// Finish cuts what a crash left behind the last batch, and the indexes to what was
// not written again. Records before start, the log start offset, may be missing. kept
// is told of batches, by header or as a whole marker, that the segments have and the write-ahead log has not: nothing
// gets there before it is durable, so it is the write-ahead log that has lost them.
//
// Nothing of it is durable until the log that is opened with [Options.Redo] has been
// synced: a box whose partitions were all being written is to be ready before that.
func (r *Redo) Finish(start int64, kept func(h record.Batch)) error {
	for i, s := range r.touched {
		bound := int64(0)
		if i+1 < len(r.touched) {
			bound = r.touched[i+1].base
		}
		if err := r.finish(s, start, bound, kept); err != nil {
			return err
		}
	}
	return nil
}

// take gives the file of a segment that was written to, still open, to the log: who
// closes it first might never hear of a write that fails. It is nil for others.
func (r *Redo) take(base int64) (f vfs.File) {
	if r == nil {
		return nil
	}
	for _, s := range r.touched {
		if s.base == base {
			f, s.f = s.f, nil
		}
	}
	return f
}

func (r *Redo) finish(s *redone, start, bound int64, kept func(h record.Batch)) error {
	name := r.path(s.base, logSuffix)
	if s.made && s.start > 0 && s.next <= start {
		// Retention took it away, and the write-ahead log remembers its last batches.
		f := s.f
		s.f = nil
		return errors.Join(f.Close(), r.opts.FS.Remove(name))
	}
	if err := r.extend(s, bound, kept); err != nil {
		return err
	}
	if err := s.f.Truncate(s.end); err != nil {
		return fmt.Errorf("commitlog: cut %s to %d: %w", name, s.end, err)
	}
	if s.end <= smallSegment {
		return nil // its index is not looked at
	}
	x := newIndex(r.opts, s.base)
	return errors.Join(x.load(s.start, func(entry) bool { return true }), x.close())
}

// extend moves s.end over whole batches that follow the last one.
func (r *Redo) extend(s *redone, bound int64, kept func(h record.Batch)) error {
	size, err := s.f.Size()
	if err != nil {
		return fmt.Errorf("commitlog: size of %s: %w", r.path(s.base, logSuffix), err)
	}
	if s.end >= size {
		return nil
	}
	b := (&segment{opts: r.opts, base: s.base, f: s.f}).reader()
	defer b.close()
	for s.end < size {
		h, err := b.header(s.end)
		if err != nil || h == nil || h.BaseOffset() != s.next || bound > 0 && h.NextOffset() > bound {
			return err
		}
		h = append(record.Batch(nil), h...)
		if ok, err := b.whole(s.end, size, h); err != nil || !ok {
			return err
		}
		if h, err = withMarker(s.f, s.end, h); err != nil {
			return fmt.Errorf("commitlog: read %s at %d: %w", r.path(s.base, logSuffix), s.end, err)
		}
		s.end, s.next = s.end+h.Len(), h.NextOffset()
		if kept != nil {
			kept(h)
		}
	}
	return nil
}

// Sync makes what was written again durable where no log will: it cannot be opened.
func (r *Redo) Sync() error {
	for _, s := range r.touched {
		name := r.path(s.base, logSuffix)
		f, err := s.f, error(nil)
		if s.f = nil; f == nil { // the log had taken it over, or it was removed
			if f, err = r.opts.FS.Open(name); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("commitlog: sync %s: %w", name, err)
		}
	}
	return r.opts.syncDir()
}

// Abandon closes the files that no log has taken over.
func (r *Redo) Abandon() {
	for _, s := range r.touched {
		if s.f != nil {
			_ = s.f.Close() // nothing was promised
		}
	}
	r.touched = nil
}

// withMarker is the header h of the batch at pos, or the whole batch if it is small
// enough to be a marker: what it says is in its record.
func withMarker(f io.ReaderAt, pos int64, h record.Batch) (record.Batch, error) {
	if !h.Control() || h.Len() > record.MarkerLen {
		return h, nil
	}
	b := make(record.Batch, h.Len())
	_, err := f.ReadAt(b, pos)
	if err == io.EOF {
		err = nil // it ends there
	}
	return b, err
}
