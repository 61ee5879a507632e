package topic

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
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
//
// A batch that the disk has no room for, the reserve being used up, is late as well:
// it is acknowledged, and stands in the write-ahead log until there is room.
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
	bytes int // 0: no batch, but the beginning of the segment
}

// errLate is the reason for which a batch is put off behind others.
var errLate = fmt.Errorf("%w: batches before it have no room yet", record.ErrDiskFull)

// noRoom reports whether err, of something that may be tried again, says that the
// disk is full: not where a sync has failed.
func noRoom(err error) bool {
	return (vfs.Full(err) || errors.Is(err, errLate)) && !errors.Is(err, vfs.ErrUnsynced)
}

// mayBeLate reports whether a batch need not be written at once: not where somebody
// waits for it.
func (p *Partition) mayBeLate() bool { return p.watching.Load() == 0 && p.set.late.Load() < maxLate }

// putOff notes where committed batches stand. Where that cannot be it returns why they
// are not written. It is the applier's to call.
func (p *Partition) putOff(why error, batches ...lateBatch) error {
	if why != nil && (p.set.late.Load() >= maxLate || slices.ContainsFunc(batches, func(b lateBatch) bool { return !b.place.Known() })) {
		return why
	}
	l := &p.late
	l.mu.Lock()
	l.batches = append(l.batches, batches...)
	l.count.Store(int32(len(l.batches)))
	l.mu.Unlock()
	for _, b := range batches {
		l.bytes.Add(int64(b.bytes))
	}
	p.set.late.Add(int64(len(batches)))
	p.touch() // a checkpoint that clears the mark from here on finds the batch
	if why != nil {
		p.set.sayNoRoom(why)
	}
	return nil
}

// writeOrPutOff writes batches, or has them be late if the disk has no room for them
// or for those before them.
func (p *Partition) writeOrPutOff(at commitlog.Position, bytes []byte, batches ...lateBatch) error {
	if p.late.count.Load() > 0 {
		return p.putOff(errLate, batches...)
	}
	err := p.write(at, bytes)
	if noRoom(err) {
		err = p.putOff(err, batches...)
	}
	return err
}

// rollOrPutOff begins a segment at base, after what is late.
func (p *Partition) rollOrPutOff(base int64, place wal.Place) error {
	as := lateBatch{place, commitlog.Position{Segment: base}, 0}
	if p.late.count.Load() > 0 {
		return p.putOff(errLate, as)
	}
	err := p.log.Roll(base)
	if noRoom(err) {
		err = p.putOff(err, as)
	}
	return err
}

// bring writes what is late to the segment. If the disk has no room for it that may
// be tried again, any other failure stops the set.
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
	n, err := p.bringAll(l.batches)
	for _, b := range l.batches[:n] {
		l.bytes.Add(-int64(b.bytes))
	}
	p.set.late.Add(-int64(n))
	if l.batches = append(l.batches[:0], l.batches[n:]...); cap(l.batches) > keptLate && len(l.batches) == 0 {
		l.batches = nil
	}
	l.count.Store(int32(len(l.batches)))
	if n > 0 && p.watching.Load() > 0 {
		p.notify() // they were told when it was not to be had yet
	}
	switch {
	case noRoom(err):
		return fmt.Errorf("%w: %w", record.ErrDiskFull, err)
	case err != nil:
		p.set.wal.Fail(err)
		return storageError(err)
	}
	return nil
}

// forsake gives up what is late, of a deleted topic.
func (p *Partition) forsake() {
	l := &p.late
	l.mu.Lock()
	defer l.mu.Unlock()
	p.set.late.Add(-int64(len(l.batches)))
	l.batches = nil
	l.count.Store(0)
	l.bytes.Store(0)
}

// keptLate is how many places a partition keeps room for.
const keptLate = 8

var lateBufs = sync.Pool{New: func() any { return new([gatherBytes]byte) }}

// bringAll reads batches back and writes those that follow one another together. It
// returns how many are in their place.
func (p *Partition) bringAll(batches []lateBatch) (brought int, err error) {
	pooled := lateBufs.Get().(*[gatherBytes]byte)
	defer lateBufs.Put(pooled)
	for len(batches) > 0 {
		n, size := run(batches)
		if size == 0 {
			if err := p.log.Roll(batches[0].at.Segment); err != nil {
				return brought, err
			}
			p.touch()
			batches, brought = batches[n:], brought+n
			continue
		}
		buf := pooled[:0]
		if size > gatherBytes {
			buf = make([]byte, 0, size) // one batch
		}
		for _, b := range batches[:n] {
			buf = buf[:len(buf)+b.bytes]
			if err := p.readBack(buf[len(buf)-b.bytes:], b); err != nil {
				return brought, err
			}
		}
		if err := p.write(batches[0].at, buf); err != nil {
			return brought, err
		}
		batches, brought = batches[n:], brought+n
	}
	return brought, nil
}

// run is how many batches, and bytes, go to the segment in one write; no bytes for
// the beginning of a segment.
func run(batches []lateBatch) (n, size int) {
	first := batches[0].at
	for _, b := range batches {
		if n > 0 && (size == 0 || b.bytes == 0 || b.at != (commitlog.Position{Segment: first.Segment, Byte: first.Byte + int64(size)}) || size+b.bytes > gatherBytes) {
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
