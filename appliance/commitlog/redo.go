package commitlog

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Redo brings back, after a crash, what the write-ahead log holds of one
// partition: every batch is written again to the place it was given, whether or
// not it got there before. Doing it twice changes nothing. The log must not be open.
type Redo struct {
	opts    Options
	names   map[int64]bool // segments in the folder
	oldest  int64          // the first of them; -1 when there was none
	gone    int64          // end offset of what was to go to segments that are missing
	touched []*redone
}

// redone is a segment that was written to.
type redone struct {
	base       int64
	f          vfs.File
	start, end int64 // the bytes written again
}

// NewRedo prepares the folder, which must exist.
func NewRedo(o Options) (*Redo, error) {
	o = o.withDefaults()
	list, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("commitlog: list %s: %w", o.Dir, err)
	}
	r := &Redo{opts: o, names: map[int64]bool{}, oldest: -1}
	for _, name := range list {
		if base, ok := parseName(name, logSuffix); ok {
			r.names[base] = true
			if r.oldest < 0 || base < r.oldest {
				r.oldest = base
			}
		}
	}
	return r, nil
}

// Write writes one batch again. Batches come in the order in which they were
// first written.
func (r *Redo) Write(at Position, b record.Batch) error {
	if !r.names[at.Segment] && at.Byte > 0 {
		// Only retention takes away a segment whose beginning was checkpointed. It
		// takes away from the front, but a power cut may undo that in any order:
		// Finish, which knows the log start, decides.
		if at.Segment > r.oldest {
			r.gone = max(r.gone, b.NextOffset())
		}
		return nil
	}
	s, err := r.segment(at)
	if err != nil {
		return err
	}
	if _, err := s.f.WriteAt(b, at.Byte); err != nil {
		return fmt.Errorf("commitlog: redo %s at %d: %w", r.path(at.Segment, logSuffix), at.Byte, err)
	}
	s.end = at.Byte + int64(len(b))
	return nil
}

func (r *Redo) path(base int64, suffix string) string {
	return r.opts.Dir + "/" + fileName(base, suffix)
}

func (r *Redo) segment(at Position) (*redone, error) {
	if n := len(r.touched); n > 0 && r.touched[n-1].base == at.Segment {
		return r.touched[n-1], nil
	}
	name := r.path(at.Segment, logSuffix)
	f, err := r.opts.FS.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.opts.FS.Create(name)
	}
	if err != nil {
		return nil, fmt.Errorf("commitlog: redo %s: %w", name, err)
	}
	r.names[at.Segment] = true
	s := &redone{base: at.Segment, f: f, start: at.Byte, end: at.Byte}
	r.touched = append(r.touched, s)
	return s, nil
}

// Finish cuts what a crash left behind the last batch, cuts the indexes to what
// was not written again, and makes everything durable. Records before start, the
// log start offset, may be missing. The Redo is closed.
func (r *Redo) Finish(start int64) error {
	if r.gone > start {
		return fmt.Errorf("commitlog: redo %s: a segment with records up to offset %d is missing although its beginning was durable; the log starts at %d", r.opts.Dir, r.gone-1, start)
	}
	for _, s := range r.touched {
		if err := r.finish(s); err != nil {
			return err
		}
	}
	if len(r.touched) == 0 {
		return nil
	}
	last := r.touched[len(r.touched)-1].base
	for base := range r.names {
		if base > last {
			return fmt.Errorf("commitlog: redo %s: segment %d lies behind the last batch, in segment %d", r.opts.Dir, base, last)
		}
	}
	if err := r.opts.FS.SyncDir(r.opts.Dir); err != nil {
		return fmt.Errorf("commitlog: sync folder %s: %w", r.opts.Dir, err)
	}
	r.touched = nil
	return nil
}

func (r *Redo) finish(s *redone) (err error) {
	defer func() { err = errors.Join(err, s.f.Close()) }()
	if err := s.f.Truncate(s.end); err != nil {
		return fmt.Errorf("commitlog: cut %s to %d: %w", r.path(s.base, logSuffix), s.end, err)
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("commitlog: sync %s: %w", r.path(s.base, logSuffix), err)
	}
	if s.end <= smallSegment {
		return nil // its index is not looked at
	}
	x := newIndex(r.opts, s.base)
	return errors.Join(x.load(s.start, func(entry) bool { return true }), x.close())
}

// Abandon closes the Redo without finishing it.
func (r *Redo) Abandon() {
	for _, s := range r.touched {
		_ = s.f.Close() // nothing was promised
	}
	r.touched = nil
}
