package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/weirmq/weir/appliance/record"
)

// Damage is a stretch of a log whose records cannot be read any more. The bytes
// stay where they are, or are set aside where the file is another's; reads go from
// the batch before to the batch after, as over offsets that compaction has removed.
type Damage struct {
	Segment     int64 // base offset
	From, To    int64 // bytes of it; equal where they are missing
	First, Next int64 // offsets that are lost; Next is exclusive
	Cause       string
}

// stretch is bytes of a segment to be stepped over.
type stretch struct {
	from, to    int64
	first, next int64
}

// badAt returns the stretch that holds pos.
func (s *segment) badAt(pos int64) (stretch, bool) {
	bad := s.bad.Load()
	if bad == nil {
		return stretch{}, false
	}
	i := sort.Search(len(*bad), func(i int) bool { return (*bad)[i].to > pos })
	if i < len(*bad) && (*bad)[i].from <= pos {
		return (*bad)[i], true
	}
	return stretch{}, false
}

// goodUntil is where the first bad stretch after pos begins, end at most.
func (s *segment) goodUntil(pos, end int64) int64 {
	bad := s.bad.Load()
	if bad == nil {
		return end
	}
	for _, st := range *bad {
		if st.from > pos && st.from < st.to {
			return min(end, st.from)
		}
	}
	return end
}

// load has s looked into, as often as it takes: once, unless it is damaged. The
// segment may be gone from the log then.
func (l *Log) load(s *segment) error {
	for range 3 {
		err := s.load()
		if err == nil {
			return nil
		}
		if err = l.heal(s, err); err != nil {
			return err
		}
		if s.removed.Load() {
			return errRemoved
		}
	}
	return fmt.Errorf("commitlog: internal error: %s is still damaged after an audit", s.path(logSuffix))
}

// errRemoved is returned for a segment that the log no longer has.
var errRemoved = errors.New("commitlog: the segment was removed")

// Audit looks through the segments that lie at or behind base, all of their bytes, and
// steps over what is damaged from then on.
func (l *Log) Audit(base int64) error {
	return l.each(func(s *segment) (bool, error) {
		if s.base < base {
			return true, nil
		}
		err := l.load(s)
		if err == nil {
			err = l.audit(s, errors.New("bytes that are no batch whose CRC is right"))
		}
		if err == errRemoved {
			err = nil
		}
		return err == nil, err
	})
}

// Torn reports whether the log ends with bytes that are no batch: what follows must
// begin a new segment.
func (l *Log) Torn() bool {
	s := l.active()
	if s == nil {
		return false
	}
	bad := s.bad.Load()
	return bad != nil && len(*bad) > 0 && (*bad)[len(*bad)-1].to == s.size.Load()
}

// heal deals with an error of s: damage is found out and stepped over from then on,
// and the caller tries again. Anything else stays an error.
func (l *Log) heal(s *segment, err error) error {
	var damage *CorruptError
	switch {
	case errors.Is(err, errForeign):
		return l.quarantine(s)
	case !errors.As(err, &damage):
		return err
	case s.audited.Load():
		return err // the audit has seen nothing wrong there: an error of ours
	}
	return l.audit(s, damage)
}

// quarantine takes a file that is not the segment it should be out of the log.
func (l *Log) quarantine(s *segment) error {
	l.mu.Lock()
	at := -1
	for i := range l.segments {
		if l.segments[i] == s {
			at = i
		}
	}
	if at < 0 {
		l.mu.Unlock()
		return nil // somebody else was faster
	}
	to, err := s.setAside()
	if err != nil {
		l.mu.Unlock()
		return err
	}
	next := s.next
	l.segments = append(append([]*segment(nil), l.segments[:at]...), l.segments[at+1:]...)
	if at > 0 {
		l.segments[at-1].next = next
	}
	l.mu.Unlock()
	d := Damage{Segment: s.base, To: s.size.Load(), First: s.base, Next: next, Cause: "a file that is not this segment; kept as " + to}
	if next == 0 {
		for _, id := range s.known() {
			d.Next = max(d.Next, id.End)
		}
	}
	s.removed.Store(true) // its indexes are not to be written
	s.release()
	l.report(d)
	return nil
}

func (l *Log) report(ds ...Damage) {
	if l.opts.Damaged == nil {
		return
	}
	for _, d := range ds {
		l.opts.Damaged(d)
	}
}

// audit reads all of a segment that was there when it was opened, finds the batches
// that are whole, and rebuilds the index with them.
func (l *Log) audit(s *segment, why error) error {
	l.mu.RLock()
	bound := s.next
	l.mu.RUnlock()
	s.idxMu.Lock()
	if s.audited.Load() {
		s.idxMu.Unlock()
		return nil
	}
	a := audit{s: s, r: s.reader(), size: s.foreign.Load(), bound: bound, dense: !s.sparse(), next: s.base, maxTS: -1}
	err := a.run()
	a.r.close()
	if err == nil {
		err = a.adopt()
	}
	s.idxMu.Unlock()
	if err != nil {
		return err
	}
	for _, st := range a.bad {
		if st.first < st.next {
			l.report(Damage{Segment: s.base, From: st.from, To: st.to, First: st.first, Next: st.next, Cause: why.Error()})
		}
	}
	return nil
}

// audit is the state of one.
type audit struct {
	s     *segment
	r     *reader
	size  int64
	bound int64 // no offset from there on; 0 for the active segment
	dense bool

	next    int64 // the offset that must follow
	epoch   int32
	maxTS   int64
	bad     []stretch
	entries []entry
	since   int
}

func (a *audit) run() error {
	for pos := int64(0); pos < a.size; {
		h, err := a.good(pos, true)
		if err != nil {
			return err
		}
		if h == nil {
			to, err := a.resync(pos)
			if err != nil {
				return err
			}
			a.bad = append(a.bad, stretch{pos, to, a.next, a.next})
			pos = to
			if h, err = a.r.header(pos); err != nil {
				return err
			}
			if pos < a.size {
				a.bad[len(a.bad)-1].next = h.BaseOffset()
			}
		}
		if pos < a.size {
			pos = a.take(pos, h)
		}
	}
	if a.bound > 0 && a.next < a.bound && (a.dense || a.tail() || a.s.covers() < a.bound) {
		a.lostTail(a.bound)
	}
	if end := a.s.end.Load(); a.bound == 0 && a.s.ready.Load() && a.tail() && a.next < end {
		// The end was taken from the headers: what is damaged is damaged since.
		a.lostTail(end)
		a.next = end
	}
	return nil
}

// take enters the whole batch at pos and returns where the next one starts.
func (a *audit) take(pos int64, h record.Batch) int64 {
	a.maxTS = max(a.maxTS, h.MaxTimestamp())
	if a.since >= a.s.opts.IndexIntervalBytes {
		a.since = 0
		a.entries = append(a.entries, entry{h.LastOffset(), pos, a.maxTS})
	}
	a.since += int(h.Len())
	a.next, a.epoch = h.NextOffset(), h.LeaderEpoch()
	return pos + h.Len()
}

// tail reports whether the segment ends with bytes that make no sense.
func (a *audit) tail() bool { return len(a.bad) > 0 && a.bad[len(a.bad)-1].to == a.size }

// lostTail says that all up to end is lost.
func (a *audit) lostTail(end int64) {
	if !a.tail() {
		a.bad = append(a.bad, stretch{a.size, a.size, a.next, a.next})
	}
	a.bad[len(a.bad)-1].next = end
}

// good returns the header of the batch at pos if it is whole and may stand there.
// strict: no offset is missing before it, where none may be.
func (a *audit) good(pos int64, strict bool) (record.Batch, error) {
	h, err := a.r.header(pos)
	if err != nil || h == nil {
		return nil, err
	}
	if pos == 0 && !a.s.knows(h) || !a.s.ofEpoch(h) {
		return nil, nil
	}
	base, next, epoch, length := h.BaseOffset(), h.NextOffset(), h.LeaderEpoch(), h.Len()
	if base < a.next || next <= base || a.bound > 0 && next > a.bound || strict && a.dense && base != a.next || epoch < a.epoch {
		return nil, nil
	}
	if ok, err := a.r.whole(pos, a.size, h); err != nil || !ok {
		return nil, err
	}
	remembered := pos == 0 && len(a.s.known()) > 0 // and it is the one, as was asked above
	if base > a.next || epoch > a.epoch && !remembered {
		// Base offset and epoch are under no CRC. If the batch behind makes sense
		// without this one and not with it, it is this one.
		if spoils, err := a.spoils(pos+length, base, next, epoch); err != nil || spoils {
			return nil, err
		}
	}
	return a.r.header(pos)
}

// spoils reports whether the batch at pos is whole and would follow what is known,
// but not a batch from base to next of that epoch.
func (a *audit) spoils(pos, base, next int64, epoch int32) (bool, error) {
	h, err := a.r.header(pos)
	if err != nil || h == nil || h.BaseOffset() < a.next || h.LeaderEpoch() < a.epoch {
		return false, err
	}
	if (base == a.next || h.BaseOffset() >= next) && (h.BaseOffset() < next || h.LeaderEpoch() >= epoch) {
		return false, nil
	}
	return a.r.whole(pos, a.size, h)
}

// resync finds the next whole batch behind pos: where the header at pos says that it
// ends, if it says so, or the first bytes that are one. a.size when there is none.
func (a *audit) resync(pos int64) (int64, error) {
	h, err := a.r.header(pos)
	if err != nil {
		return 0, err
	}
	if h != nil && h.Len() <= a.size-pos {
		to := pos + h.Len()
		if h, err := a.good(to, false); err != nil || h != nil || to == a.size {
			return to, err
		}
	}
	for pos++; pos+record.HeaderLen <= a.size; {
		b, err := a.r.at(pos, readerBytes)
		if err != nil {
			return 0, err
		}
		n := len(b) - record.HeaderLen + 1
		if n <= 0 {
			break
		}
		i := a.plausible(b, n)
		pos += int64(i)
		if i == n {
			continue
		}
		if h, err := a.good(pos, false); err != nil || h != nil {
			return pos, err
		}
		pos++
	}
	return a.size, nil
}

// plausible finds the first of n places in b where a header could be.
func (a *audit) plausible(b []byte, n int) int {
	for i := range n {
		if b[i+16] != 2 {
			continue
		}
		base := int64(binary.BigEndian.Uint64(b[i:]))
		if base >= a.next && base <= a.s.base+math.MaxInt32 && (a.bound == 0 || base < a.bound) {
			return i
		}
	}
	return n
}

// adopt makes what the audit found the segment's. The caller holds idxMu.
func (a *audit) adopt() error {
	s := a.s
	later := s.idx.since(a.size) // of what was written meanwhile
	s.idx.fresh = s.idx.times == nil
	if !s.idx.fresh {
		if err := s.idx.reset(0); err != nil {
			return fmt.Errorf("commitlog: rebuild the index of %s: %w", s.path(logSuffix), err)
		}
	}
	s.idx.written, s.idx.tail = 0, append(a.entries, later...)
	s.bad.Store(&a.bad)
	s.checkedAll()
	s.audited.Store(true)
	s.maxTS.Store(max(s.maxTS.Load(), a.maxTS))
	if s.size.Load() == a.size {
		s.end.Store(a.next)
	}
	s.ready.Store(true)
	return nil
}

// since returns the entries of batches at or behind pos that are in memory.
func (x *index) since(pos int64) []entry {
	i := sort.Search(len(x.tail), func(i int) bool { return x.tail[i].pos >= pos })
	return append([]entry(nil), x.tail[i:]...)
}
