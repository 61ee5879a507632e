package commitlog

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"

	"github.com/weirmq/weir/appliance/record"
)

// What this process has not written itself it does not vouch for: bytes that were
// there when the segment was opened are checked against their CRCs once, before
// they are served for the first time, a chunk at a time. A reader that does not
// check (check.crcs=false) is safe from a flipped bit too, and what was written
// since costs one comparison.

const (
	// minChunk and maxChunks: a chunk is a 64th of the segment, but a MiB at least.
	minChunk  = 1 << 20
	maxChunks = 64

	// readerBytes is what a reader of batches holds in memory.
	readerBytes = 256 << 10

	crcStart = 21 // of a batch: what its CRC covers begins there
)

func (s *segment) chunk() int64 {
	return max(minChunk, (s.foreign.Load()+maxChunks-1)/maxChunks)
}

// verify checks what was not yet of the n bytes at pos. A *CorruptError says that
// the segment must be audited.
func (s *segment) verify(pos, n int64) error {
	foreign := s.foreign.Load()
	if pos >= foreign || n == 0 {
		return nil
	}
	size := s.chunk()
	last := (min(pos+n, foreign) - 1) / size
	for k := pos / size; k <= last; k++ {
		if s.checked.Load()&(1<<k) != 0 {
			continue
		}
		if err := s.verifyChunk(k*size, min((k+1)*size, foreign)); err != nil {
			return err
		}
		s.checked.Or(1 << k)
	}
	return nil
}

// verifyChunk checks the batches that start between from and to.
func (s *segment) verifyChunk(from, to int64) error {
	s.verifying.Lock()
	defer s.verifying.Unlock()
	if s.checked.Load()&(1<<(from/s.chunk())) != 0 {
		return nil // somebody else has, meanwhile
	}
	pos, err := s.entryBefore(from)
	if err != nil {
		return err
	}
	r := s.reader()
	defer r.close()
	next, epoch, sparse := s.base, int32(math.MinInt32), s.sparse() || pos > 0
	for pos < to {
		if st, ok := s.badAt(pos); ok {
			pos, next = st.to, st.next
			continue
		}
		h, err := r.header(pos)
		if err != nil {
			return err
		}
		if h == nil || h.BaseOffset() < next || !sparse && h.BaseOffset() > next || h.LeaderEpoch() < epoch {
			return &CorruptError{s.path(logSuffix), pos, record.ErrCorrupt}
		}
		at, length := pos, h.Len()
		next, epoch, sparse = h.NextOffset(), h.LeaderEpoch(), s.sparse()
		if !s.ofEpoch(h) {
			return &CorruptError{s.path(logSuffix), at, fmt.Errorf("%w: leader epoch %d", record.ErrCorrupt, h.LeaderEpoch())}
		}
		if pos += length; at < from {
			continue
		}
		if ok, err := r.whole(at, s.size.Load(), h); err != nil || !ok {
			return cmp.Or(err, error(&CorruptError{s.path(logSuffix), at, fmt.Errorf("%w: the CRC is wrong", record.ErrCorrupt)}))
		}
	}
	return nil
}

// ofEpoch reports whether the batch's leader epoch, which is under no CRC, is what
// the owner knows.
func (s *segment) ofEpoch(h record.Batch) bool {
	if s.opts.Epochs == nil {
		return true
	}
	least, greatest := s.opts.Epochs(h.BaseOffset())
	return least <= h.LeaderEpoch() && h.LeaderEpoch() <= greatest
}

// entryBefore is where the last batch starts that the index knows at or before pos.
func (s *segment) entryBefore(pos int64) (int64, error) {
	s.idxMu.Lock()
	defer s.idxMu.Unlock()
	e, ok, err := s.idx.lastWhere(func(e entry) bool { return e.pos <= pos })
	if err != nil || !ok {
		return 0, err
	}
	return e.pos, nil
}

// checkedAll says that an audit has looked at everything.
func (s *segment) checkedAll() { s.checked.Store(^uint64(0)) }

// reader reads batches of a segment through a buffer that others use after it.
type reader struct {
	s          *segment
	buf        *[readerBytes]byte
	start, end int64 // of the file's bytes that buf holds
}

var readerBufs = sync.Pool{New: func() any { return new([readerBytes]byte) }}

func (s *segment) reader() *reader {
	return &reader{s: s, buf: readerBufs.Get().(*[readerBytes]byte)}
}

func (r *reader) close() { readerBufs.Put(r.buf) }

// at returns up to n bytes from pos on, valid until the next call; n is at most readerBytes.
func (r *reader) at(pos int64, n int) ([]byte, error) {
	if pos < r.start || pos+int64(n) > r.end {
		k, err := r.s.f.ReadAt(r.buf[:], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			r.start, r.end = 0, 0
			return nil, r.s.readError(pos, err)
		}
		r.start, r.end = pos, pos+int64(k)
	}
	b := r.buf[pos-r.start : r.end-r.start]
	return b[:min(n, len(b))], nil
}

// header returns the header of the batch at pos, valid until the next read; nil
// where there is no header.
func (r *reader) header(pos int64) (record.Batch, error) {
	b, err := r.at(pos, record.HeaderLen)
	if err != nil || batchLen(b) == 0 {
		return nil, err
	}
	return record.Batch(b), nil
}

// whole reports whether the batch at pos, with the header h, ends within size bytes
// and its CRC is right.
func (r *reader) whole(pos, size int64, h record.Batch) (bool, error) {
	length, want := h.Len(), h.CRC()
	if length > size-pos || h.Count() < 0 || int64(h.LastOffsetDelta())+1 < int64(h.Count()) {
		return false, nil
	}
	var sum uint32
	for at, end := pos+crcStart, pos+length; at < end; {
		b, err := r.at(at, int(min(end-at, readerBytes)))
		if err != nil {
			return false, err
		}
		if len(b) == 0 {
			return false, nil
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += int64(len(b))
	}
	return sum == want, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
