package topic

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/wal"
)

// maxLate bounds the batches of all partitions that are late for their segments: the
// memory that their places take. The write-ahead log's ring bounds their bytes.
const maxLate = 128 << 10

// late is the batches of a partition that are committed and not yet in their segment.
//
// A round of small batches for hundreds of partitions would cost as many writes, and
// they take longer than the commit did. So of such a round each partition only notes
// where its batches stand in the write-ahead log, and brings them to its segment, with
// those of later rounds and in one write, when the next of a round that is not crowded
// comes, when somebody reads, or when a checkpoint is about to free their place.
type late struct {
	mu      sync.Mutex
	batches []lateBatch
	// count is len(batches). Only the applier adds; who finds 0 may write to the log as
	// if there was no late at all.
	count atomic.Int32
	bytes atomic.Int64
}

type lateBatch struct {
	place wal.Place
	at    commitlog.Position
	bytes int
}

// putOff notes where a committed batch stands and reports whether that will do: not
// where somebody waits for it. It is the applier's to call.
func (p *Partition) putOff(e entry, place wal.Place) bool {
	if p.watching.Load() > 0 || p.set.late.Load() >= maxLate {
		return false
	}
	l := &p.late
	l.mu.Lock()
	l.batches = append(l.batches, lateBatch{place, e.at, len(e.batch)})
	l.count.Store(int32(len(l.batches)))
	l.mu.Unlock()
	l.bytes.Add(int64(len(e.batch)))
	p.set.late.Add(1)
	p.touch() // a checkpoint that clears the mark from here on finds the batch
	return true
}

// bring writes what is late to the segment. A failure stops the set: like the applier
// it cannot be tried again.
func (p *Partition) bring() error {
	l := &p.late
	if l.count.Load() == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.batches) == 0 {
		return nil
	}
	if err := p.set.wal.Err(); err != nil && err != wal.ErrClosed {
		return storageError(err) // the next start brings it
	}
	if err := p.bringAll(l.batches); err != nil {
		p.set.wal.Fail(err)
		return storageError(err)
	}
	p.set.late.Add(-int64(len(l.batches)))
	if l.batches = l.batches[:0]; cap(l.batches) > keptLate {
		l.batches = nil
	}
	l.count.Store(0)
	l.bytes.Store(0)
	return nil
}

// keptLate is how many places a partition keeps room for.
const keptLate = 8

var lateBufs = sync.Pool{New: func() any { return new([gatherBytes]byte) }}

// bringAll reads batches back and writes those that follow one another together.
func (p *Partition) bringAll(batches []lateBatch) error {
	pooled := lateBufs.Get().(*[gatherBytes]byte)
	defer lateBufs.Put(pooled)
	for len(batches) > 0 {
		n, size := run(batches)
		buf := pooled[:0]
		if size > gatherBytes {
			buf = make([]byte, 0, size) // one batch
		}
		for _, b := range batches[:n] {
			buf = buf[:len(buf)+b.bytes]
			if err := p.readBack(buf[len(buf)-b.bytes:], b); err != nil {
				return err
			}
		}
		if err := p.write(batches[0].at, buf); err != nil {
			return err
		}
		batches = batches[n:]
	}
	return nil
}

// run is how many batches, and bytes, go to the segment in one write.
func run(batches []lateBatch) (n, size int) {
	first := batches[0].at
	for _, b := range batches {
		if n > 0 && (b.at != (commitlog.Position{Segment: first.Segment, Byte: first.Byte + int64(size)}) || size+b.bytes > gatherBytes) {
			break
		}
		n, size = n+1, size+b.bytes
	}
	return n, size
}

// readBack reads a late batch, which must be what was committed.
func (p *Partition) readBack(b record.Batch, from lateBatch) error {
	if err := p.set.wal.ReadAt(b, from.place, entryAppendLen); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return fmt.Errorf("topic: a committed batch of %s reads back damaged from the write-ahead log: %w", p.tp, err)
	}
	return nil
}
