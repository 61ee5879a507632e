package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

var errOtherTopic = errors.New("the topic was deleted and made anew")

// read fetches and packs one partition until ctx ends or the lane has another reader.
func (f *flow) read(ctx context.Context, l *lane, reading int, next int64) {
	codec, _ := record.CodecByName(f.opt.Compression) // validated
	p := packer{codec: codec}
	for attempts := 0; f.awaitWant(ctx, l, reading); {
		raw, credit, err := f.fetch(ctx, l, next)
		var wires []wire
		if err == nil {
			wires, next, err = p.pack(nil, raw, next)
		}
		if err != nil {
			var gap *wire
			if gap, err = f.sourceGap(ctx, l, next, err); gap != nil {
				wires, next = append(wires, *gap), gap.next
			}
		}
		f.deliver(l, reading, wires, credit, err)
		if err == nil {
			attempts = 0
			continue
		}
		if errors.Is(err, errOtherTopic) || ctx.Err() != nil {
			return // the steward sees to it
		}
		attempts++
		f.log.Warn("mirror: cannot read the source", "topic", l.tp.Topic, "partition", l.tp.Partition, "offset", next, "err", err)
		if !pause(ctx, backoff(attempts, f.opt.RetryMax), nil) {
			return
		}
	}
}

// awaitWant waits until the lane wants more.
func (f *flow) awaitWant(ctx context.Context, l *lane, reading int) bool {
	for {
		f.mu.Lock()
		mine, wants := l.reading == reading, l.win.wants()
		f.mu.Unlock()
		if !mine || ctx.Err() != nil {
			return false
		}
		if wants {
			return true
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// fetch reads at next, waiting for records if there are none, and takes from
// the budget what it read. A partition that is behind takes the budget first;
// one that waits takes it for the first batch only when that has come.
func (f *flow) fetch(ctx context.Context, l *lane, next int64) (raw record.Batches, credit int64, err error) {
	want := min(fetchBytes, f.opt.MaxInFlightBytes/2)
	part, err := f.deps.Topics.Partition(l.tp)
	if err != nil {
		return nil, 0, err
	}
	if part.HighWatermark > next {
		if err := f.budget.Acquire(ctx, want); err != nil {
			return nil, 0, err
		}
		credit = want
	}
	raw, err = f.deps.Log.Fetch(ctx, l.tp, next, int(max(credit, 1)))
	if errors.Is(err, record.ErrCorrupt) && credit > 1 {
		raw, err = f.deps.Log.Fetch(ctx, l.tp, next, 1) // what lies before the bad batch is good
	}
	if err != nil {
		f.release(credit)
		return nil, 0, err
	}
	// Asked after the fetch: the bytes are this topic's only if it is still the same.
	if part, err = f.deps.Topics.Partition(l.tp); err == nil && hexID(part.TopicID) != l.sourceID {
		err = errOtherTopic
	}
	if err != nil {
		f.release(credit)
		return nil, 0, err
	}
	need := min(int64(len(raw)), want)
	if credit >= need {
		f.release(credit - need)
		return raw, need, nil
	}
	if err := f.budget.Acquire(ctx, need-credit); err != nil {
		f.release(credit)
		return nil, 0, err
	}
	return raw, need, nil
}

// sourceGap turns an error that time will not mend into a gap to be bridged;
// other errors come back.
func (f *flow) sourceGap(ctx context.Context, l *lane, next int64, err error) (*wire, error) {
	var bad *errPack
	if errors.As(err, &bad) {
		gap := f.gap(l, SourceCorrupt, bad.first, bad.next, bad.err.Error())
		gap.Bytes = bad.bytes
		return &wire{gap: gap, first: bad.first, next: bad.next}, nil
	}
	corrupt := errors.Is(err, record.ErrCorrupt)
	if !corrupt && !errors.Is(err, record.ErrOffsetOutOfRange) {
		return nil, err
	}
	part, perr := f.deps.Topics.Partition(l.tp)
	switch {
	case perr != nil:
		return nil, perr
	case hexID(part.TopicID) != l.sourceID:
		return nil, errOtherTopic
	case corrupt:
		good := f.readableFrom(ctx, l, next, part.HighWatermark)
		return &wire{gap: f.gap(l, SourceCorrupt, next, good, err.Error()), first: next, next: good}, ctx.Err()
	case part.LogStartOffset > next:
		detail := fmt.Sprintf("the source now starts at %d, the mirror was at %d", part.LogStartOffset, next)
		return &wire{gap: f.gap(l, SourcePurged, next, part.LogStartOffset, detail), first: next, next: part.LogStartOffset}, nil
	case part.HighWatermark < next:
		detail := fmt.Sprintf("the source now ends at %d, up to %d was read", part.HighWatermark, next)
		return &wire{gap: f.gap(l, SourceTruncated, part.HighWatermark, part.HighWatermark, detail), first: next, next: part.HighWatermark}, nil
	}
	return nil, err
}

// readableFrom finds the end of a bad batch at offset bad: the least offset
// before end that reads well, or end.
func (f *flow) readableFrom(ctx context.Context, l *lane, bad, end int64) int64 {
	n := sort.Search(int(min(end-bad, math.MaxInt32)), func(i int) bool {
		if i == 0 {
			return false
		}
		_, err := f.deps.Log.Fetch(ctx, l.tp, bad+int64(i), 1)
		return err == nil
	})
	return bad + int64(n)
}

func (f *flow) gap(l *lane, reason Kind, first, next int64, detail string) *record.Gap {
	return &record.Gap{
		Flow: f.opt.Name, Topic: l.tp.Topic, Partition: l.tp.Partition,
		FirstOffset: first, LastOffset: next - 1, Count: next - first,
		Reason: string(reason), Detail: detail, Time: time.Now().UTC(),
	}
}

// deliver hands wires to the lane, or drops them when it has another reader by now.
func (f *flow) deliver(l *lane, reading int, wires []wire, credit int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.reading == reading {
		if l.sourceErr = ""; err != nil {
			l.sourceErr = "cannot read the source: " + err.Error()
		}
	}
	if l.reading != reading || len(wires) == 0 {
		f.release(credit)
		return
	}
	wires[len(wires)-1].credit = credit
	now := time.Now()
	for i := range wires {
		wires[i].readAt = now
		l.win.offer(wires[i])
	}
	if l.win.state == Connecting {
		f.troubled(l)
	}
	f.ready(l)
	if l.courier != nil {
		f.pump(l.courier)
	}
}

// pause waits; false when ctx ended first. early, when signalled, cuts it short.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-early:
	}
	return ctx.Err() == nil
}
