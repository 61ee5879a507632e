package topic

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
)

// Section is a range of a segment file, ready for a socket: WriteTo to a
// *net.TCPConn is a sendfile.
type Section = commitlog.Section

// Read returns committed bytes from the batch that holds offset on: whole batches,
// about maxBytes, at least one batch unless offset is the high watermark, or one
// that a batch not committed yet was given, when the section is empty. Where the end of
// the log was lost that batch has no records. The error is record.ErrOffsetOutOfRange
// or a wrapped disk error.
// The caller must Close the section.
func (p *Partition) Read(offset int64, maxBytes int) (Section, error) {
	return p.readBelow(offset, maxBytes, math.MaxInt64)
}

// readBelow is Read of batches below limit.
func (p *Partition) readBelow(offset int64, maxBytes int, limit int64) (Section, error) {
	if err := p.Err(); err != nil {
		return Section{}, err
	}
	start, hw := p.start.Load(), p.hw.Load()
	if offset < start || offset > hw && offset > p.ahead.Load() {
		return Section{}, fmt.Errorf("%w: %s holds offsets %d to %d, not %d", record.ErrOffsetOutOfRange, p.tp, start, hw, offset)
	}
	end := min(hw, limit)
	if offset >= end {
		return Section{}, nil
	}
	late := p.bring()
	if late != nil && !noRoom(late) {
		return Section{}, late
	}
	c, err := p.log.ReadBelow(offset, maxBytes, limit)
	if err != nil || c.Len() > 0 {
		return c, err
	}
	if late != nil {
		return Section{}, late
	}
	// It is committed, and about to be written to its segment.
	if err := p.catchUp(); err != nil {
		return Section{}, err
	}
	if c, err = p.log.ReadBelow(offset, maxBytes, limit); err != nil || c.Len() > 0 {
		return c, err
	}
	return p.pass(offset, end)
}

// pass is what a reader gets where nothing is left between offset and end, the high
// watermark or where it may read to, because that was lost: a batch without records, which takes
// it there. Who reads up to the watermark would never arrive otherwise.
func (p *Partition) pass(offset, end int64) (Section, error) {
	if p.Err() != nil || p.set.Err() != nil {
		return Section{}, p.Err() // it is not lost: the next start brings it to its segment
	}
	select {
	case <-p.set.closing:
		return Section{}, nil // the log may be closed
	default:
	}
	if start := p.start.Load(); offset < start {
		return Section{}, fmt.Errorf("%w: %s holds offsets %d to %d, not %d", record.ErrOffsetOutOfRange, p.tp, start, end, offset)
	}
	return commitlog.Made(record.Skip(offset, end, p.LeaderEpoch())), nil
}

// catchUp has what is committed be in its segment.
func (p *Partition) catchUp() error {
	if end, _ := p.log.End(); end < p.hw.Load() {
		p.set.wal.CatchUp()
	}
	return p.bring()
}

// OffsetForTime is the first record with a timestamp of ts (ms) or later: its
// offset and timestamp, or -1, -1 when there is none.
func (p *Partition) OffsetForTime(ts int64) (offset, timestamp int64, err error) {
	if err := p.catchUp(); err != nil {
		return -1, -1, err
	}
	return found(p.log.OffsetForTime(p.start.Load(), ts))
}

// MaxTimestamp is the record with the greatest timestamp: its offset and
// timestamp, or -1, -1 when the partition is empty.
func (p *Partition) MaxTimestamp() (offset, timestamp int64, err error) {
	if err := p.catchUp(); err != nil {
		return -1, -1, err
	}
	return found(p.log.MaxTimestamp(p.start.Load()))
}

func found(offset, timestamp int64, ok bool, err error) (int64, int64, error) {
	if err != nil || !ok {
		return -1, -1, err
	}
	return offset, timestamp, nil
}

// Watch has ch signalled at each advance of the high watermark, until Unwatch.
// The signal is a send that never blocks: give ch a buffer of one.
func (p *Partition) Watch(ch chan<- struct{}) {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	if p.watchers == nil {
		p.watchers = make(map[chan<- struct{}]struct{})
	}
	p.watchers[ch] = struct{}{}
	p.watching.Store(int32(len(p.watchers)))
}

// Unwatch ends Watch.
func (p *Partition) Unwatch(ch chan<- struct{}) {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	delete(p.watchers, ch)
	p.watching.Store(int32(len(p.watchers)))
}

func (p *Partition) notify() {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	for ch := range p.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
