package commitlog

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// rewriting is the work on one group of segments. Nothing is written before the
// first batch that does not stay as it is; then what lies before it is copied.
type rewriting struct {
	*cleaning
	old []*segment

	f        vfs.File // nil until something changes
	size     int64    // of f and what of it is in out
	unsynced int64
	first    [record.HeaderLen]byte // header of the first batch
	maxTS    int64

	segment *segment // of old, the one being read
	at      int64    // of the batch being looked at, in it
	last    *segment // of old, the last that is not empty
}

// rewrite makes one segment of old, or leaves them if it is one and all stays.
func (w *cleaning) rewrite(old []*segment) (err error) {
	r := &rewriting{cleaning: w, old: old, maxTS: -1}
	w.out = w.out[:0]
	if len(old) > 1 {
		err = r.begin()
	}
	for _, s := range old {
		if s.size.Load() > 0 {
			r.last = s
		}
	}
	for i := 0; i < len(old) && err == nil; i++ {
		r.segment, r.at = old[i], 0
		err = w.batches(old[i], func(b record.Batch) (bool, error) {
			n := int64(len(b))
			err := r.add(b)
			r.at += n
			return true, err
		})
	}
	if r.f == nil {
		return err
	}
	if err == nil {
		err = r.flush()
	}
	if err == nil {
		err = r.sync()
	}
	if err = errors.Join(err, r.f.Close()); err == nil {
		err = r.swap()
	}
	if err != nil && !w.log.halfSwapped() {
		return errors.Join(err, w.log.opts.remove(fileName(old[0].base, cleanedSuffix)))
	}
	return err
}

// add decides about a batch.
func (r *rewriting) add(b record.Batch) error {
	out, err := r.decide(b)
	if err != nil {
		return err
	}
	if len(out) == len(b) && &out[0] == &b[0] {
		if r.f == nil {
			r.maxTS = max(r.maxTS, b.MaxTimestamp())
			return nil
		}
		return r.write(b)
	}
	if r.f == nil {
		if err := r.begin(); err != nil {
			return err
		}
		if err := r.copyPrefix(); err != nil {
			return err
		}
	}
	if out == nil {
		return nil
	}
	return r.write(out)
}

// decide returns the batch itself, what is left of it, or nil for nothing.
func (r *rewriting) decide(b record.Batch) (record.Batch, error) {
	if b.Count() == 0 {
		return r.emptied(b, b), nil
	}
	if b.Control() {
		return r.decideMarker(b)
	}
	aborted := r.aborted(b)
	covered := b.BaseOffset() >= r.from && b.LastOffset() < r.end
	horizon, expired := int64(record.NoHorizon), false
	switch set, ok := b.DeleteHorizon(); {
	case covered:
		// Seen by the map for the first time. A horizon that it has already is that of
		// another log, or of a cleaning that did not come to its end.
		horizon = r.Now + r.DeleteRetention
	case ok:
		expired = r.Now >= set
	}
	out, err := r.filter.Apply(b, horizon, func(x *record.Record) bool {
		if aborted {
			return false
		}
		if x.Key == nil {
			return true // from before the topic was compacted: nothing supersedes it
		}
		return x.Offset >= r.keys.last(x.Key) && (x.Value != nil || !expired)
	})
	if err != nil {
		return nil, err
	}
	r.done.Removed += int64(out.Removed)
	if out.Kept == 0 {
		return r.emptied(b, out.Batch), nil
	}
	if b.Transactional() {
		r.alive[b.ProducerID()] = true
	}
	if set, ok := out.Batch.DeleteHorizon(); ok && out.Tombstones > 0 {
		r.done.Horizon = min(r.done.Horizon, set)
	}
	return out.Batch, nil
}

// decideMarker is decide for a marker.
func (r *rewriting) decideMarker(b record.Batch) (record.Batch, error) {
	alive := r.alive[b.ProducerID()]
	needed := alive || r.Marked != nil && r.Marked(b)
	delete(r.alive, b.ProducerID())
	set, ok := b.DeleteHorizon()
	horizon := int64(record.NoHorizon)
	switch {
	case !ok || b.LastOffset() >= r.from && b.BaseOffset() < r.end:
		// From here on it stays for as long as a tombstone would; one that is still needed
		// is met again.
		horizon = r.Now + max(r.DeleteRetention, minMarkerRetention)
	case !needed && r.Now >= set:
		out, err := r.filter.Apply(b, horizon, func(*record.Record) bool { return false })
		if err != nil {
			return nil, err
		}
		r.done.Removed += int64(out.Removed)
		return r.emptied(b, out.Batch), nil
	}
	out, err := r.filter.Apply(b, horizon, func(*record.Record) bool { return true })
	if err != nil {
		return nil, err
	}
	if set, _ := out.Batch.DeleteHorizon(); !alive {
		r.done.Horizon = min(r.done.Horizon, set)
	}
	return out.Batch, nil
}

// emptied is what stays of a batch without records: nothing, unless a producer's
// sequence is known by it, or the group's end.
func (r *rewriting) emptied(b, empty record.Batch) record.Batch {
	last := r.segment == r.last && r.at+int64(len(b)) == r.last.size.Load()
	if last || b.ProducerID() != record.NoProducerID && r.Retain != nil && r.Retain(b) {
		return empty
	}
	return nil
}

// begin makes the file. One that an earlier cleaning left is removed.
func (r *rewriting) begin() (err error) {
	o, name := r.log.opts, fileName(r.old[0].base, cleanedSuffix)
	if err := o.remove(name); err != nil {
		return err
	}
	if r.f, err = o.FS.Create(o.Dir + "/" + name); err != nil {
		return fmt.Errorf("commitlog: create %s/%s: %w", o.Dir, name, err)
	}
	return nil
}

// copyPrefix copies what of the first segment was found to stay as it is.
func (r *rewriting) copyPrefix() error {
	s, buf := r.old[0], make([]byte, min(cleanChunk, r.at))
	for at := int64(0); at < r.at; {
		n := min(int64(len(buf)), r.at-at)
		if k, err := s.f.ReadAt(buf[:n], at); int64(k) < n {
			return fmt.Errorf("commitlog: read %s at %d: %w", s.path(logSuffix), at, err)
		}
		if at == 0 {
			copy(r.first[:], buf)
		}
		r.done.Read += n
		if err := r.put(buf[:n]); err != nil {
			return err
		}
		if err := r.pause(int(n)); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// write appends a batch to the file.
func (r *rewriting) write(b record.Batch) error {
	if r.size == 0 {
		copy(r.first[:], b)
	}
	r.maxTS = max(r.maxTS, b.MaxTimestamp())
	return r.put(b)
}

func (r *rewriting) put(b []byte) error {
	r.out = append(r.out, b...)
	r.size += int64(len(b))
	if len(r.out) < cleanChunk {
		return nil
	}
	return r.flush()
}

// flush writes out what has gathered.
func (r *rewriting) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	n := len(r.out)
	if _, err := r.f.WriteAt(r.out, r.size-int64(n)); err != nil {
		return fmt.Errorf("commitlog: write %s: %w", fileName(r.old[0].base, cleanedSuffix), err)
	}
	r.out = r.out[:0]
	r.done.Written += int64(n)
	if r.unsynced += int64(n); r.unsynced >= cleanSyncBytes {
		r.unsynced = 0
		if err := r.sync(); err != nil {
			return err
		}
	}
	return r.pause(n)
}

func (r *rewriting) sync() error {
	if err := r.f.Sync(); err != nil {
		return fmt.Errorf("%w: commitlog: sync %s: %w", vfs.ErrUnsynced, fileName(r.old[0].base, cleanedSuffix), err)
	}
	return nil
}

// swap puts the file in place, if all that it was made from is still there.
func (r *rewriting) swap() error {
	r.log.structure.Lock()
	defer r.log.structure.Unlock()
	if r.log.swapping {
		return errSwapping
	}
	for _, s := range r.old {
		if s.removed.Load() {
			return ErrRemoved
		}
	}
	if r.BeforeSwap != nil {
		last := r.old[len(r.old)-1]
		re := Replacement{New: SegmentInfo{r.old[0].base, last.end.Load(), r.size, r.maxTS}, First: r.first[:]}
		for _, s := range r.old {
			re.Old = append(re.Old, SegmentInfo{s.base, s.end.Load(), s.size.Load(), s.maxTS.Load()})
		}
		if err := r.BeforeSwap(re); err != nil {
			return err
		}
	}
	if err := r.log.swap(r.old); err != nil {
		return err
	}
	r.done.Segments++
	r.done.Replaced += len(r.old)
	return nil
}

// ErrRemoved is returned by Clean when retention took away what was being cleaned.
var ErrRemoved = errors.New("commitlog: segments were removed while they were cleaned")

func (l *Log) halfSwapped() bool {
	l.structure.Lock()
	defer l.structure.Unlock()
	return l.swapping
}
