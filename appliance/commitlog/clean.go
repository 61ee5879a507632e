package commitlog

import (
	"errors"
	"fmt"
	"math"

	"github.com/weirmq/weir/appliance/record"
)

// Limits of a Cleaner.
const (
	// DefaultMapBytes is what a Cleaner's map of keys may take: 500,000 keys.
	DefaultMapBytes = 16 << 20
	// MinMapBytes is the least that makes sense.
	MinMapBytes = 1 << 10

	// cleanChunk is read and written at once, as log.cleaner.io.buffer.size.
	cleanChunk = 512 << 10
	// maxCleanBatch bounds the memory for one batch: the greatest max.message.bytes.
	maxCleanBatch = 64<<20 + record.HeaderLen
	// cleanSyncBytes is written between two syncs of a new segment, so that the last
	// one does not hold up everybody else's.
	cleanSyncBytes = 4 << 20
	// minMarkerRetention, in ms, is how long a marker stays at least once there are no
	// records left of what it ended: a reader may be about to deliver them.
	minMarkerRetention = 60_000
)

// A Cleaner compacts logs: of the records with one key the last stays. It uses
// its memory for one log after another, and so it is not safe for concurrent use.
//
// It works as Kafka's. The dirty part of the log, what was appended since it was
// last cleaned, is read into a map of each key's last offset. When the map is full
// only what was read until then is cleaned, and the rest next time. Then the log is
// read from its start, and segments with records that the map knows to be
// superseded are written anew, small neighbours into one. What stays keeps its
// offset; a batch of which all records stay is copied as it is, byte for byte; and
// a segment of which everything stays is not written at all.
type Cleaner struct {
	// MapBytes bounds the map; 0 means DefaultMapBytes.
	MapBytes int
	// Throttle is told how many bytes were read or written, and may wait. Its error
	// ends the cleaning, which leaves the log as far as it got. nil: no limit.
	Throttle func(n int) error

	keys    offsetMap
	decoder record.Decoder
	filter  record.Filter
	in      []byte // batches as read
	out     []byte // batches to be written
}

// Cleaning says what is to be done to one log.
type Cleaning struct {
	// Dirty is the offset from which on the log was not cleaned yet.
	Dirty int64
	// Until is where cleaning ends: the base of a segment. No segment from there on is
	// touched. The owner has checkpointed all of those before: one that the write-ahead
	// log may still write to must not be cleaned.
	Until int64
	// SegmentBytes bounds the segments that several are made into (segment.bytes).
	SegmentBytes int64
	// Now, and how long tombstones stay from when they are first cleaned
	// (delete.retention.ms), in ms.
	Now, DeleteRetention int64
	// Retain reports whether a batch of an idempotent producer must stay, though none
	// of its records does: what the producer sent last is known by it. nil: none.
	Retain func(h record.Batch) bool
	// Aborted reports whether a batch of a transaction was aborted. All transactions
	// with batches below Until are decided. nil: none was.
	Aborted func(h record.Batch) bool
	// Marked reports whether a marker must stay: it ends a transaction that Aborted
	// knows. nil: none must.
	Marked func(h record.Batch) bool
	// BeforeSwap, if not nil, is called before segments are replaced for good. Its
	// error ends the cleaning and leaves them as they are.
	BeforeSwap func(Replacement) error
}

// Replacement is a segment that takes the place of others, which are gone then.
type Replacement struct {
	Old []SegmentInfo // by base offset; the first has the base of New
	New SegmentInfo
	// First is the header of the first batch of New; valid until BeforeSwap returns.
	First record.Batch
}

// Cleaned is what came of it.
type Cleaned struct {
	// Dirty is where the dirty part begins now.
	Dirty int64
	// Horizon is when the first of the tombstones and markers that are left may be removed, ms;
	// math.MaxInt64 when there is none.
	Horizon int64

	Read, Written      int64 // bytes
	Removed            int64 // records
	Segments, Replaced int   // segments written, and those that they replace
}

// errSwapping is returned for a log whose segments are half replaced.
var errSwapping = errors.New("commitlog: a segment could not be put in its place; the next start finishes that")

// Clean compacts the log. On an error, a *CorruptError where a batch cannot be
// read, the log is as good as before: what was replaced by then stays replaced, and
// Dirty is as it was.
//
// What was aborted is removed. A marker stays for as long as there is a record of its
// transaction, and then as a tombstone does (KIP-534): readers who are behind have
// seen it, or have nothing to see.
func (c *Cleaner) Clean(l *Log, o Cleaning) (Cleaned, error) {
	done := Cleaned{Dirty: o.Dirty, Horizon: math.MaxInt64}
	segments := l.sealed(o.Until)
	defer func() {
		for _, s := range segments {
			s.release()
		}
	}()
	w := &cleaning{Cleaner: c, Cleaning: o, log: l, done: &done, alive: map[int64]bool{}}
	if err := w.build(segments); err != nil {
		return done, err
	}
	for rest := segments; len(rest) > 0 && rest[0].base < w.end; {
		n := w.group(rest)
		if err := w.rewrite(rest[:n]); err != nil {
			return done, err
		}
		rest = rest[n:]
	}
	done.Dirty = w.end
	return done, nil
}

// sealed lists the segments that end before until, acquired. The active one is never among them.
func (l *Log) sealed(until int64) (out []*segment) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.segments[:max(0, len(l.segments)-1)] {
		if s.next > until || !s.acquire() {
			break
		}
		out = append(out, s)
	}
	return out
}

// cleaning is the work on one log.
type cleaning struct {
	*Cleaner
	Cleaning
	log  *Log
	done *Cleaned

	from, end int64 // the map holds the keys of offsets from up to end

	alive map[int64]bool // producers with records, that stay, of a transaction that has not ended yet
}

func (w *cleaning) aborted(b record.Batch) bool {
	return b.Transactional() && w.Aborted != nil && w.Aborted(b)
}

// build fills the map from the dirty part.
func (w *cleaning) build(segments []*segment) error {
	w.from, w.end = w.Dirty, w.Dirty
	limit := w.MapBytes
	if limit == 0 {
		limit = DefaultMapBytes
	}
	var keys int64
	if n := len(segments); n > 0 {
		keys = max(0, segments[n-1].next-max(w.Dirty, segments[0].base))
	}
	w.keys.reset(keys, max(limit, MinMapBytes))
	full := false
	for _, s := range segments {
		if full || s.next <= w.Dirty {
			continue
		}
		err := w.batches(s, func(b record.Batch) (bool, error) {
			if b.NextOffset() <= w.Dirty {
				return true, nil
			}
			w.from = min(w.from, b.BaseOffset())
			room, err := w.enter(b)
			full = !room
			return room, err
		})
		if err != nil {
			return err
		}
		if !full {
			w.end = max(w.end, s.next)
		}
	}
	return nil
}

// enter puts the keys of a batch into the map; false when there was no room for all.
func (w *cleaning) enter(b record.Batch) (room bool, err error) {
	if b.Control() || b.Count() == 0 || w.aborted(b) {
		w.end = max(w.end, b.NextOffset())
		return true, nil
	}
	w.decoder.RawHeaders = true
	if err := w.decoder.Reset(b); err != nil {
		return false, err
	}
	for {
		var r record.Record
		more, err := w.decoder.Next(&r)
		if err != nil {
			return false, err
		}
		if !more {
			w.end = max(w.end, b.NextOffset())
			return true, nil
		}
		if r.Key != nil && !w.keys.put(r.Key, r.Offset) {
			return false, nil
		}
		w.end = max(w.end, r.Offset+1)
	}
}

// batches calls fn with each batch of a segment, its CRC checked, until it returns
// false. The batch is valid until fn returns.
func (w *cleaning) batches(s *segment, fn func(b record.Batch) (bool, error)) error {
	f, err := s.pin()
	if err != nil {
		return fmt.Errorf("commitlog: open %s: %w", s.path(logSuffix), err)
	}
	defer s.unpin()
	size, at := s.size.Load(), int64(0) // at is where the rest begins in the file
	var rest []byte
	for at < size {
		b, tail, ok := record.Split(rest)
		if !ok {
			if rest, err = w.fill(s, f, at, size, rest); err != nil {
				return err
			}
			continue
		}
		if err := b.Validate(); err != nil {
			return &CorruptError{s.path(logSuffix), at, err}
		}
		rest, at = tail, at+int64(len(b))
		if more, err := fn(b); err != nil || !more {
			if errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrTooLarge) {
				err = &CorruptError{s.path(logSuffix), at - int64(len(b)), err}
			}
			return err
		}
	}
	return nil
}

// fill reads on at at, of which rest is there already, until a whole batch is there.
func (w *cleaning) fill(s *segment, f interface {
	ReadAt(p []byte, off int64) (int, error)
}, at, size int64, rest []byte) ([]byte, error) {
	want := int64(cleanChunk)
	if len(rest) >= record.HeaderLen {
		length := batchLen(rest)
		if length == 0 || length > maxCleanBatch || at+length > size {
			return nil, &CorruptError{s.path(logSuffix), at, fmt.Errorf("%w: no whole batch in the last %d bytes", record.ErrCorrupt, size-at)}
		}
		want = max(want, length)
	}
	if want = min(want, size-at); want <= int64(len(rest)) {
		return nil, &CorruptError{s.path(logSuffix), at, fmt.Errorf("%w: no whole batch in the last %d bytes", record.ErrCorrupt, size-at)}
	}
	have := len(rest)
	if int64(cap(w.in)) < want {
		grown := make([]byte, want)
		copy(grown, rest)
		w.in = grown
	} else {
		copy(w.in[:want], rest)
	}
	w.in = w.in[:want]
	if n, err := f.ReadAt(w.in[have:], at+int64(have)); n < len(w.in)-have {
		return nil, fmt.Errorf("commitlog: read %s at %d: %w", s.path(logSuffix), at, err)
	}
	w.done.Read += want - int64(have)
	return w.in, w.pause(int(want) - have)
}

func (c *Cleaner) pause(n int) error {
	if c.Throttle == nil {
		return nil
	}
	return c.Throttle(n)
}

// group is how many of the segments are made into one: as many as fit, at least one.
func (w *cleaning) group(segments []*segment) int {
	n, size := 1, segments[0].size.Load()
	for _, s := range segments[1:] {
		size += s.size.Load()
		if s.base >= w.end || size > w.SegmentBytes || s.next-1-segments[0].base > math.MaxInt32 {
			break
		}
		n++
	}
	return n
}
