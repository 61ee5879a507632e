package commitlog

import (
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sort"
	"syscall"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Section is a range of a segment that holds whole batches. It keeps the file
// open until Close, even if retention removes the segment meanwhile. The zero
// Section is empty.
type Section struct {
	s   *segment
	f   vfs.File // of s, pinned
	pos int64
	n   int

	made []byte // of no segment
}

// Made is a section of batches that stand in no segment.
func Made(batches []byte) Section { return Section{n: len(batches), made: batches} }

// Len is the section's length in bytes.
func (c Section) Len() int { return c.n }

// Close lets go of the file. A Section must be closed once.
func (c Section) Close() error {
	if c.s != nil {
		c.s.unpin()
		c.s.release()
	}
	return nil
}

// AppendTo appends the section's bytes to dst.
func (c Section) AppendTo(dst []byte) ([]byte, error) {
	if c.n == 0 {
		return dst, nil
	}
	if c.made != nil {
		return append(dst, c.made...), nil
	}
	at := len(dst)
	dst = append(dst, make([]byte, c.n)...)
	if n, err := c.f.ReadAt(dst[at:], c.pos); n < c.n {
		return dst[:at], fmt.Errorf("commitlog: read %s at %d: %w", c.s.path(logSuffix), c.pos, err)
	}
	return dst, nil
}

// WriteTo sends the section. To a TCP connection it goes by sendfile: the bytes
// do not pass through this process.
func (c Section) WriteTo(w io.Writer) (int64, error) {
	if c.n == 0 {
		return 0, nil
	}
	if c.made != nil {
		n, err := w.Write(c.made)
		return int64(n), err
	}
	if d, ok := c.f.(vfs.Descriptor); ok {
		if tcp, ok := w.(*net.TCPConn); ok {
			return sendfile(tcp, int(d.Fd()), c.pos, c.n)
		}
	}
	n, err := io.Copy(w, io.NewSectionReader(c.f, c.pos, int64(c.n)))
	if err == nil && n < int64(c.n) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// sendfile copies n bytes from the file to the connection with an offset of its
// own, so that any number of readers share one descriptor.
func sendfile(conn *net.TCPConn, fd int, pos int64, n int) (sent int64, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := raw.Write(func(sock uintptr) bool {
		for sent < int64(n) {
			k, serr := syscall.Sendfile(int(sock), fd, &pos, n-int(sent))
			if k > 0 {
				sent += int64(k)
			}
			switch {
			case serr == syscall.EAGAIN:
				return false // wait until the socket takes more
			case serr == syscall.EINTR:
			case serr != nil:
				err = fmt.Errorf("commitlog: sendfile: %w", serr)
				return true
			case k == 0:
				err = io.ErrUnexpectedEOF
				return true
			}
		}
		return true
	})
	if err == nil {
		err = werr
	}
	return sent, err
}

// Read returns about maxBytes of whole batches, from the one that holds offset
// (or the first after it, where records were removed) on, and at least one batch.
// The section is empty when the log has nothing at or after offset.
//
// A segment of which cleaning left only batches without records is passed over as long
// as something follows: librdkafka takes ten answers without a record for a message
// that is too large, and gives up.
func (l *Log) Read(offset int64, maxBytes int) (Section, error) {
	return l.ReadBelow(offset, maxBytes, math.MaxInt64)
}

// ReadBelow is Read of batches that begin below the offset limit, with which a batch
// begins: the section is empty when there is none.
func (l *Log) ReadBelow(offset int64, maxBytes int, limit int64) (Section, error) {
	var vacant Section // passed over, for when nothing follows
	for {
		s, err := l.find(offset)
		if err != nil {
			_ = vacant.Close()
			return Section{}, err
		}
		if s == nil {
			return vacant, nil
		}
		c, err := s.read(offset, maxBytes, limit)
		if err == nil {
			next := l.following(s)
			if next >= limit {
				next = 0
			}
			switch {
			case next > offset && c.n == 0: // all of it that was behind offset is lost
				_ = c.Close()
			case next > offset && c.vacant():
				_ = vacant.Close()
				vacant = c
			case c.n == 0:
				_ = c.Close()
				return vacant, nil
			default:
				_ = vacant.Close()
				return c, nil
			}
			offset = next
			continue
		}
		err = l.heal(s, err)
		s.release()
		if err != nil && !s.removed.Load() {
			_ = vacant.Close()
			return Section{}, err
		}
	}
}

// maxVacant bounds what is looked at for records: 64 headers.
const maxVacant = 64 * record.HeaderLen

// vacant reports whether the section is the rest of its segment and has no records: a
// batch that lost them all is a header. One that cannot be read counts as having some.
func (c Section) vacant() bool {
	if c.n%record.HeaderLen != 0 || c.n > maxVacant || c.pos+int64(c.n) != c.s.size.Load() {
		return false
	}
	b, err := c.AppendTo(nil)
	for err == nil && len(b) > 0 && record.Batch(b).Count() == 0 && batchLen(b) == record.HeaderLen {
		b = b[record.HeaderLen:]
	}
	return err == nil && len(b) == 0
}

// following is where the segment behind s starts; 0 for the active one.
func (l *Log) following(s *segment) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.next
}

// read makes a section of an acquired segment; on success it is the section's.
func (s *segment) read(offset int64, maxBytes int, limit int64) (Section, error) {
	f, err := s.pin()
	if err != nil {
		return Section{}, s.readError(0, err)
	}
	pos, n, err := s.section(offset, maxBytes)
	if err == nil && s.end.Load() > limit { // it ends after the size that section went by
		n, err = s.below(pos, n, limit)
	}
	if err == nil {
		err = s.verify(pos, int64(n))
	}
	if err != nil {
		s.unpin()
		return Section{}, err
	}
	return Section{s: s, f: f, pos: pos, n: n}, nil
}

// section is where a read of offset begins, and its length.
func (s *segment) section(offset int64, maxBytes int) (pos int64, n int, err error) {
	size := s.size.Load()
	pos, length, err := s.position(offset, size)
	if size = s.goodUntil(pos, size); err != nil || size-pos <= int64(maxBytes) {
		return pos, int(size - pos), err
	}
	end, err := s.boundary(pos, length, maxBytes)
	return pos, int(end - pos), err
}

// below is how much of n bytes at pos is before the batch that begins at limit.
func (s *segment) below(pos int64, n int, limit int64) (int, error) {
	if limit <= s.base {
		return 0, nil
	}
	end, _, err := s.position(limit, s.size.Load())
	return int(max(0, min(int64(n), end-pos))), err
}

// position finds the batch that holds offset, or the first after it.
func (s *segment) position(offset, size int64) (pos, length int64, err error) {
	s.idxMu.Lock()
	e, ok, err := s.idx.lastWhere(func(e entry) bool { return e.offset <= offset })
	s.idxMu.Unlock()
	if err != nil {
		return 0, 0, fmt.Errorf("commitlog: read the index of %s: %w", s.path(logSuffix), err)
	}
	if ok {
		pos = e.pos
	}
	err = s.headers(pos, size, func(at int64, h record.Batch) error {
		if h.LastOffset() < offset {
			return nil
		}
		pos, length = at, h.Len()
		return errFound
	})
	if err == errFound {
		return pos, length, nil
	}
	if err == nil && s.audited.Load() {
		return size, 0, nil // it was at the end, and is lost
	}
	if err == nil {
		err = &CorruptError{s.path(logSuffix), pos, fmt.Errorf("%w: offset %d is not where the index says", record.ErrCorrupt, offset)}
	}
	return 0, 0, err
}

// boundary returns the end of the last batch that the index knows to end within
// maxBytes of pos; the end of the batch at pos if there is none.
func (s *segment) boundary(pos, length int64, maxBytes int) (int64, error) {
	limit := pos + int64(maxBytes)
	s.idxMu.Lock()
	e, ok, err := s.idx.lastWhere(func(e entry) bool { return e.pos <= limit })
	s.idxMu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("commitlog: read the index of %s: %w", s.path(logSuffix), err)
	}
	if !ok || e.pos < pos+length {
		return pos + length, nil
	}
	return s.goodUntil(pos, e.pos), nil
}

// Headers calls fn with the header of every batch from the start of the log, to
// rebuild what is derived from them; of a transaction's marker with all of it. The
// header is valid until fn returns.
func (l *Log) Headers(fn func(h record.Batch) error) error {
	return l.each(func(s *segment) (bool, error) {
		if err := l.load(s); err != nil {
			return false, err
		}
		size := s.size.Load()
		if err := s.verify(0, size); err != nil {
			if err = l.heal(s, err); err != nil {
				return false, err
			}
		}
		return true, s.headers(0, size, func(pos int64, h record.Batch) error {
			h, err := withMarker(s.f, pos, h)
			if err != nil {
				return s.readError(pos, err)
			}
			return fn(h)
		})
	})
}

// each calls fn with the segments in order, pinned, until it returns false.
func (l *Log) each(fn func(s *segment) (bool, error)) error {
	l.mu.RLock()
	segments := slices.Clone(l.segments)
	l.mu.RUnlock()
	done := int64(-1)
	for _, s := range segments {
		if s.base < done {
			continue // it is part of one that was made of several meanwhile
		}
		if !s.acquire() {
			if s = l.successor(s.base); s == nil {
				continue // removed by retention meanwhile
			}
		}
		done = max(done, s.base+1, s.end.Load())
		more, err := s.pinned(fn)
		s.release()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// successor is the segment that cleaning has put in the place of the one at base,
// acquired; nil when there is none.
func (l *Log) successor(base int64) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > base }) - 1
	if i < 0 || l.segments[i].end.Load() <= base || !l.segments[i].acquire() {
		return nil
	}
	return l.segments[i]
}

func (s *segment) pinned(fn func(s *segment) (bool, error)) (bool, error) {
	if _, err := s.pin(); err != nil {
		if s.removed.Load() {
			return true, nil
		}
		return false, fmt.Errorf("commitlog: open %s: %w", s.path(logSuffix), err)
	}
	defer s.unpin()
	more, err := fn(s)
	if err == errRemoved {
		return true, nil
	}
	return more, err
}

type foundError struct{}

func (foundError) Error() string { return "found" }

var errFound error = foundError{}
