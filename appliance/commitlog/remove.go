package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrNames is returned, wrapped, after a failed sync of a log's folder. Another that
// succeeds proves nothing: the name of a segment that was begun meanwhile may be gone.
var ErrNames = errors.New("commitlog: the names of segments may not be durable")

// SegmentInfo is what retention needs to know of a segment.
type SegmentInfo struct {
	Base, End    int64 // offsets; End is exclusive
	Bytes        int64
	MaxTimestamp int64 // ms; -1 while empty
}

// Segments lists the segments, the active one last. Those that were not looked into
// yet are: the error is that of the first which makes no sense.
func (l *Log) Segments() ([]SegmentInfo, error) {
	var out []SegmentInfo
	err := l.each(func(s *segment) (bool, error) {
		if err := l.load(s); err != nil {
			return false, err
		}
		out = append(out, SegmentInfo{s.base, s.end.Load(), s.size.Load(), s.maxTS.Load()})
		return true, nil
	})
	return out, err
}

// Bounds is Segments without looking into any: MaxTimestamp is -1 where it is not
// known, and End where the next segment begins.
func (l *Log) Bounds() []SegmentInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]SegmentInfo, len(l.segments))
	for i, s := range l.segments {
		out[i] = SegmentInfo{s.base, s.end.Load(), s.size.Load(), s.maxTS.Load()}
	}
	return out
}

// First is what Segments says of the first; ok is false where there is none.
func (l *Log) First() (info SegmentInfo, ok bool, err error) {
	err = l.each(func(s *segment) (bool, error) {
		if err := l.load(s); err != nil {
			return true, err
		}
		info, ok = SegmentInfo{s.base, s.end.Load(), s.size.Load(), s.maxTS.Load()}, true
		return false, nil
	})
	return info, ok, err
}

// RemoveBefore removes the segments that end at or before offset, except the
// active one, and makes that durable. Readers that are at it finish unharmed.
// The caller has made the new log start offset durable before.
func (l *Log) RemoveBefore(offset int64) error {
	l.structure.Lock()
	defer l.structure.Unlock()
	l.mu.Lock()
	n := 0
	for n < len(l.segments)-1 && l.segments[n].end.Load() <= offset {
		n++
	}
	gone := append([]*segment(nil), l.segments[:n]...)
	l.segments = append([]*segment(nil), l.segments[n:]...)
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	var errs []error
	for _, s := range gone {
		s.removed.Store(true)
		for _, suffix := range []string{indexSuffix, timeSuffix, logSuffix} {
			if err := l.opts.FS.Remove(s.path(suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("commitlog: remove %s: %w", s.path(suffix), err))
			}
		}
		s.release()
	}
	if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
		errs = append(errs, fmt.Errorf("%w: sync folder %s: %w", ErrNames, l.opts.Dir, err))
	}
	return errors.Join(errs...)
}
