package commitlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"sort"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// SegmentID says what a segment is, as its owner remembers it: Kafka's format has
// no header that would, and a file may be an old copy, be cut off, or be another's.
type SegmentID struct {
	Base, End int64 // the offsets it stands for; End is exclusive
	Bytes     int64
	First     int64 // of the first batch: base offset, leader epoch and CRC
	Epoch     int32
	CRC       uint32
	// Cleaned says that records were removed from its middle, so that offsets may be
	// missing without being lost.
	Cleaned bool
	// Growing says that it was the active one: End and Bytes are the least it has.
	Growing bool
}

// Identify makes the identity of a segment from the header of its first batch.
func Identify(info SegmentInfo, first record.Batch, cleaned bool) SegmentID {
	return SegmentID{Base: info.Base, End: info.End, Bytes: info.Bytes, Cleaned: cleaned,
		First: first.BaseOffset(), Epoch: first.LeaderEpoch(), CRC: first.CRC()}
}

// is reports whether the first batch is the one that id knows.
func (id SegmentID) is(first record.Batch) bool {
	return id.First == first.BaseOffset() && id.Epoch == first.LeaderEpoch() && id.CRC == first.CRC()
}

// holds reports whether a file of size bytes can be the segment, whole.
func (id SegmentID) holds(size int64) bool { return id.Bytes == size || id.Growing && id.Bytes < size }

// Identity returns what the segment that starts at base is. ok is false when there
// is none, or its first batch is damaged: base offset and leader epoch are under no
// CRC, and what is remembered of them must not be a flipped bit.
func (l *Log) Identity(base int64) (id SegmentID, ok bool, err error) {
	s, next := l.at(base)
	if s == nil {
		return id, false, nil
	}
	defer s.release()
	if whole, err := l.startsWhole(s); err != nil || !whole {
		return id, false, err
	}
	h, err := s.first()
	if s.removed.Load() {
		return id, false, nil // a closed file is opened by its name, which goes
	}
	if err != nil || h == nil {
		return id, false, err
	}
	end := s.end.Load()
	if next > 0 {
		end = next
	}
	return Identify(SegmentInfo{Base: s.base, End: end, Bytes: s.size.Load()}, h, s.sparse()), true, nil
}

// startsWhole reports whether the first batch of s is whole and makes sense with those
// behind it. It looks once, and not at all at what this process has written.
func (l *Log) startsWhole(s *segment) (bool, error) {
	err := l.load(s)
	if err == nil {
		if err = s.verify(0, 1); err != nil {
			err = l.heal(s, err)
		}
	}
	if err == errRemoved || s.removed.Load() {
		return false, nil
	}
	_, bad := s.badAt(0)
	return !bad, err
}

// at returns the segment that starts at base, acquired, and where the next starts.
func (l *Log) at(base int64) (s *segment, next int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base >= base })
	if i == len(l.segments) || l.segments[i].base != base || !l.segments[i].acquire() {
		return nil, 0
	}
	return l.segments[i], l.segments[i].next
}

// Sealed lists the segments but the active one by base offset, without looking into them.
func (l *Log) Sealed() []int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []int64
	for _, s := range l.segments[:max(0, len(l.segments)-1)] {
		out = append(out, s.base)
	}
	return out
}

// Empty reports whether the log has no segments.
func (l *Log) Empty() bool { return l.active() == nil }

// first is the header of the first batch; nil where there is none.
func (s *segment) first() (record.Batch, error) {
	h := make(record.Batch, record.HeaderLen)
	if _, err := s.f.ReadAt(h, 0); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, s.readError(0, err)
	}
	if batchLen(h) == 0 {
		return nil, nil
	}
	return h, nil
}

// known is what the owner remembers of the segment; more than one while it is
// being replaced.
func (s *segment) known() []SegmentID {
	if s.opts.Known == nil {
		return nil
	}
	return s.opts.Known(s.base)
}

// sparse reports whether offsets may be missing from the segment.
func (s *segment) sparse() bool {
	if !s.opts.Dense {
		return true
	}
	for _, id := range s.known() {
		if id.Cleaned {
			return true
		}
	}
	return false
}

// covers is up to which offset the segment stands for what the log has; as far as
// anybody may ask where the owner does not say.
func (s *segment) covers() int64 {
	end := int64(-1)
	for _, id := range s.known() {
		end = max(end, id.End)
	}
	if end < 0 {
		return math.MaxInt64
	}
	return end
}

// knows reports whether h is the header of the first batch as far as is known.
func (s *segment) knows(h record.Batch) bool {
	ids := s.known()
	for _, id := range ids {
		if id.is(h) {
			return true
		}
	}
	return len(ids) == 0
}

// likely reports whether the file's size is that of a segment that the owner knows.
// It is asked of all segments when the log is opened, and looks into none.
func (s *segment) likely() bool {
	ids := s.known()
	size := s.size.Load()
	for _, id := range ids {
		if id.holds(size) {
			return s.next == 0 || s.covers() >= s.next
		}
	}
	return len(ids) == 0
}

// errForeign is returned for a file that is whole but not the segment it should be.
var errForeign = errors.New("it is not the file that was written here")

// identify compares the file with what the owner knows of it: a *CorruptError says
// that it must be looked through, errForeign that it is another file altogether.
func (s *segment) identify() error {
	ids := s.known()
	if len(ids) == 0 {
		return nil
	}
	h, err := s.first()
	if err != nil {
		return err
	}
	size := s.size.Load()
	for _, id := range ids {
		if h != nil && id.is(h) && id.holds(size) {
			return nil
		}
	}
	for _, id := range ids {
		if h == nil || id.CRC == h.CRC() { // the other two are under no CRC
			return &CorruptError{s.path(logSuffix), min(size, id.Bytes), fmt.Errorf("%w: the file has %d bytes, it had %d", record.ErrCorrupt, size, id.Bytes)}
		}
	}
	r := s.reader()
	defer r.close()
	if ok, err := r.whole(0, size, h); err != nil || !ok {
		return errors.Join(err, &CorruptError{s.path(logSuffix), 0, record.ErrCorrupt})
	}
	return errForeign
}

// setAside moves the segment's file to the quarantine.
func (s *segment) setAside() (string, error) {
	as := path.Base(s.opts.Dir) + "-" + s.name(logSuffix)
	to, err := vfs.SetAside(s.opts.FS, s.opts.Dir, s.name(logSuffix), s.opts.Quarantine, as)
	if err != nil {
		return "", fmt.Errorf("commitlog: set aside %s: %w", s.path(logSuffix), err)
	}
	return to, nil
}

// readError is a failed read: of this file, of now. It says nothing of other files,
// and the next read may succeed.
func (s *segment) readError(pos int64, err error) error {
	return fmt.Errorf("commitlog: read %s at %d: %w: %w", s.path(logSuffix), pos, record.ErrStorage, err)
}
