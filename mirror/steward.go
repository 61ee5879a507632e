package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/record"
)

// steward is the state of the flow's one goroutine that talks to the target
// about positions. Nobody else touches it.
type steward struct {
	connected bool
	positions positions
	anchorsAt time.Time // when anchors were last refreshed
	linkTries int
}

// tendForever runs until the flow is closed. It never gives up.
func (f *flow) tendForever() {
	for f.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(f.ctx, 2*operationTimeout)
		err := f.tend(ctx)
		cancel()
		wait, early := discoveryInterval, (<-chan struct{})(f.kick)
		if err != nil {
			f.linkTries++
			wait, early = backoff(f.linkTries, f.opt.RetryMax), nil
			f.linkDown(err)
		} else {
			f.linkTries = 0
		}
		if !pause(f.ctx, wait, early) {
			return
		}
	}
}

func (f *flow) linkDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() == nil && f.linkErr != err.Error() {
		f.linkErr = err.Error()
		f.log.Info("mirror: the target cannot be worked with; will keep trying", "err", err)
	}
}

// tend does what is due: nothing of it asks the target while all streams well.
func (f *flow) tend(ctx context.Context) error {
	f.adjust()
	due, refresh := f.due(time.Now()), f.connected && time.Since(f.anchorsAt) >= anchorInterval
	if !f.connected {
		if err := f.positions.open(ctx, f); err != nil {
			return err
		}
		f.connected = true
	}
	if len(due) > 0 {
		if err := f.mend(ctx, due); err != nil {
			return err
		}
		f.mu.Lock()
		f.linkErr = ""
		f.mu.Unlock()
	}
	if refresh {
		f.anchorsAt = time.Now()
		return f.refreshAnchors(ctx)
	}
	return nil
}

// adjust makes the lanes what the local topics ask for.
func (f *flow) adjust() {
	wanted := map[record.TopicPartition]hexID{}
	topics := f.deps.Topics.Topics()
	inbound := inboundSites(topics)
	for _, t := range topics {
		if !f.choice.takes(t, inbound) {
			continue
		}
		for p := range t.Partitions {
			if len(wanted) < MaxPartitions {
				wanted[record.TopicPartition{Topic: t.Name, Partition: p}] = t.ID
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for tp, l := range f.lanes {
		if id, ok := wanted[tp]; !ok || id != l.sourceID {
			f.shut(l)
			l.courier = nil
			delete(f.lanes, tp)
		}
	}
	codec, _ := record.CodecByName(f.opt.Compression) // validated
	for tp, id := range wanted {
		if f.lanes[tp] == nil {
			f.lanes[tp] = &lane{
				tp: tp, sourceID: id, remote: f.choice.remoteName(tp.Topic), packer: packer{codec: codec},
				wake: make(chan struct{}, 1), win: window{state: Connecting}, progress: time.Now(),
			}
		}
	}
}

// due is the lanes that wait for the steward.
func (f *flow) due(now time.Time) (due []*lane) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if l.win.state == Connecting && l.win.flying == 0 && !now.Before(l.retryAt) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b *lane) int {
		if a.tp.Topic != b.tp.Topic {
			return cmpString(a.tp.Topic, b.tp.Topic)
		}
		return int(a.tp.Partition - b.tp.Partition)
	})
	return due
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// mend brings the lanes to streaming, as far as the target allows now. Its
// error is one that concerns them all.
func (f *flow) mend(ctx context.Context, due []*lane) error {
	remote, err := f.prepareTopics(ctx, due)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(remote))
	for name := range remote {
		names = append(names, name)
	}
	ends, err := f.target.ends(ctx, names...)
	if err != nil {
		return err
	}
	var claims []claim
	for _, l := range due {
		view, leader, err := lookUp(l, remote, ends)
		if err == nil {
			var c *claim
			if c, err = f.mendLane(ctx, l, view, leader); c != nil {
				claims = append(claims, *c)
			}
		}
		if err != nil {
			f.postpone(l, err)
		}
	}
	return f.claim(ctx, claims)
}

func lookUp(l *lane, remote map[string]remoteTopic, ends kadm.ListedOffsets) (targetView, int32, error) {
	rt, ok := remote[l.remote]
	if !ok || int(l.tp.Partition) >= len(rt.leaders) || rt.leaders[l.tp.Partition] < 0 {
		return targetView{}, -1, fmt.Errorf("target partition %v has no leader yet", l.remotePartition())
	}
	end, ok := ends.Lookup(l.remote, l.tp.Partition)
	if !ok {
		return targetView{}, -1, fmt.Errorf("target does not tell the end of %v", l.remotePartition())
	}
	if end.Err != nil {
		return targetView{}, -1, fmt.Errorf("end offset of %v: %w", l.remotePartition(), end.Err)
	}
	return targetView{id: rt.id, end: end.Offset}, rt.leaders[l.tp.Partition], nil
}

func (f *flow) postpone(l *lane, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.win.reason = err.Error()
	l.attempts++
	l.retryAt = time.Now().Add(backoff(l.attempts, f.opt.RetryMax))
}

// prepareTopics makes sure that the lanes' target topics exist with partitions
// enough, and describes them.
func (f *flow) prepareTopics(ctx context.Context, due []*lane) (map[string]remoteTopic, error) {
	need := map[string]int{}
	f.mu.Lock()
	for _, l := range due {
		need[l.remote] = 0
	}
	for _, l := range f.lanes {
		if n, ok := need[l.remote]; ok {
			need[l.remote] = max(n, int(l.tp.Partition)+1)
		}
	}
	f.mu.Unlock()
	names := make([]string, 0, len(need))
	for name := range need {
		names = append(names, name)
	}
	remote, err := f.target.describe(ctx, names...)
	if err != nil {
		return nil, err
	}
	changed := false
	for name, n := range need {
		switch rt, ok := remote[name]; {
		case !ok:
			err, changed = f.target.create(ctx, name, int32(n), f.opt.ReplicationFactor, f.topicConfigs()), true
		case len(rt.leaders) < n:
			err, changed = f.target.grow(ctx, name, n), true
		}
		if err != nil {
			return nil, err
		}
	}
	if changed {
		return f.target.describe(ctx, names...)
	}
	return remote, nil
}

// topicConfigs of topics created at the target: a site's clock may be wrong by
// years, which is no reason to refuse its records (KIP-937).
func (f *flow) topicConfigs() map[string]*string {
	most := strconv.FormatInt(math.MaxInt64, 10)
	return map[string]*string{"message.timestamp.before.max.ms": &most, "message.timestamp.after.max.ms": &most}
}

// mendLane looks at one lane whose target is now known. It returns a claim when
// a new position must be written first.
func (f *flow) mendLane(ctx context.Context, l *lane, dst targetView, leader int32) (*claim, error) {
	if !l.started {
		return f.startLane(ctx, l, dst, leader)
	}
	f.mu.Lock()
	a, target := l.win.anchor, l.win.target
	f.mu.Unlock()
	zero := hexID{}
	switch {
	case dst.id != a.TargetID && dst.id != zero && a.TargetID != zero, dst.end < target:
		return f.startLane(ctx, l, dst, leader)
	case dst.end > target:
		ours, err := f.tailIsOurs(ctx, l, leader, &a, dst.end)
		if err != nil {
			return nil, err
		}
		if !ours {
			return f.breach(l, dst, leader, plan{claim: true, event: TargetDiverged, from: l.win.source, detail: divergedDetail(dst.end, target)})
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	done, ok := l.win.resolved(dst.end)
	if !ok {
		// Another process of this flow appended, with our identity: count on from
		// where we stand, as after a restart.
		f.mu.Unlock()
		c, err := f.startLane(ctx, l, dst, leader)
		f.mu.Lock()
		return c, err
	}
	f.finish(done)
	f.assign(l, leader)
	return f.relieve(l, dst, leader)
}

func divergedDetail(end, target int64) string {
	return fmt.Sprintf("the target ends at %d, we had appended up to %d, and what lies between is not ours", end, target)
}

// relieve ends the trouble of a lane whose target end is settled. Under mu.
func (f *flow) relieve(l *lane, dst targetView, leader int32) (*claim, error) {
	w := &l.win
	switch trouble := w.trouble; {
	case trouble == diverged:
		return f.breachLocked(l, dst, leader, plan{claim: true, event: TargetDiverged, from: w.source, detail: w.reason})
	case trouble == expelled:
		return &claim{lane: l, leader: leader, from: w.source, dst: dst, renew: true}, nil
	case (trouble == tooLarge || trouble == rejected) && len(w.pending) > 0 && w.pending[0].gap == nil:
		if err := f.divide(l); err != nil {
			return nil, err
		}
	}
	if len(w.pending) > 0 && w.pending[0].gap != nil {
		return f.bridge(l, dst, leader)
	}
	f.stream(l)
	return nil, nil
}

// stream lets the lane go on. Under mu.
func (f *flow) stream(l *lane) {
	l.win.resume()
	f.ready(l)
	if l.courier != nil {
		f.pump(l.courier)
	}
	signal(l.wake)
}

// divide halves the batch that the target refuses, until one record is left,
// which becomes a gap. Under mu.
func (f *flow) divide(l *lane) error {
	w := &l.win
	x := w.pending[0]
	if x.count > 1 {
		halves, err := l.packer.split(x)
		if err != nil {
			return err
		}
		at := x.first
		for i := range halves {
			// Exact where the source is dense; a restart in between counts records anyway.
			halves[i].first, at = at, at+halves[i].count
			halves[i].next = at
		}
		halves[len(halves)-1].next = x.next
		w.replace(halves...)
		return nil
	}
	kind := Rejected
	if w.trouble == tooLarge {
		kind = TooLarge
	}
	gap := f.gap(l, kind, x.first, x.next, w.reason)
	gap.Bytes = int64(len(x.batch))
	w.replace(wire{gap: gap, first: x.first, next: x.next})
	return nil
}

// bridge sees to the gap at the front: halt, or record it and claim the place
// behind it. Under mu.
func (f *flow) bridge(l *lane, dst targetView, leader int32) (*claim, error) {
	x := l.win.pending[0]
	reason := Kind(x.gap.Reason)
	if reason != TooLarge && f.opt.OnGap != GapAndContinue {
		f.haltLane(l, reason, x.gap.Detail)
		return nil, nil
	}
	f.mu.Unlock()
	err := f.recordGap(*x.gap)
	f.mu.Lock()
	if err != nil {
		return nil, err
	}
	f.note(l, reason, x.gap.Detail, false)
	return &claim{lane: l, leader: leader, from: x.next, dst: dst, bridge: true}, nil
}

// recordGap makes a gap a record of the local log.
func (f *flow) recordGap(g record.Gap) error {
	f.mu.Lock()
	f.counts.gaps++
	f.mu.Unlock()
	if f.deps.Gaps == nil {
		return nil
	}
	b, err := g.Batch()
	if err != nil {
		return err
	}
	if _, err = f.deps.Gaps.Append(f.ctx, record.TopicPartition{Topic: record.GapTopic}, b); err != nil {
		return fmt.Errorf("gap record: %w", err)
	}
	return nil
}

// startLane finds the position of a lane that has none, or whose target is not
// what it was.
func (f *flow) startLane(ctx context.Context, l *lane, dst targetView, leader int32) (*claim, error) {
	part, err := f.deps.Topics.Partition(l.tp)
	if err != nil {
		return nil, err
	}
	src := sourceView{id: part.TopicID, start: part.LogStartOffset, end: part.HighWatermark}
	a, known := f.positions.book[l.tp]
	if l.started {
		f.mu.Lock()
		a, known = l.win.anchor, true
		a.SourceOffset, a.TargetOffset = l.win.source, l.win.target
		f.mu.Unlock()
	}
	p := planStart(a, known, src, dst)
	if p.event != "" {
		return f.breach(l, dst, leader, p)
	}
	if p.claim {
		return &claim{lane: l, leader: leader, from: p.from, dst: dst}, nil
	}
	if p.skip > 0 {
		ours, err := f.tailIsOurs(ctx, l, leader, &a, dst.end)
		if err != nil {
			return nil, err
		}
		w := walk{offset: p.from, left: p.skip}
		if err := f.walk(ctx, l.tp, &w, src.end); err != nil {
			return nil, err
		}
		if ours && w.holes {
			return f.sendAgain(l, leader, p.from, dst), nil
		}
		if !ours || w.left > 0 {
			return f.breach(l, dst, leader, plan{claim: true, event: TargetDiverged, from: w.offset, detail: divergedDetail(dst.end, a.TargetOffset)})
		}
		p.from = w.offset
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.assign(l, leader)
	a.TargetID = dst.id
	f.open(l, a, p.from, dst.end)
	signal(l.wake)
	return nil, nil
}

// breach applies the policy to what contradicts the position.
func (f *flow) breach(l *lane, dst targetView, leader int32, p plan) (*claim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.breachLocked(l, dst, leader, p)
}

func (f *flow) breachLocked(l *lane, dst targetView, leader int32, p plan) (*claim, error) {
	if f.opt.OnGap != GapAndContinue {
		f.haltLane(l, p.event, p.detail)
		return nil, nil
	}
	f.mu.Unlock()
	gap := f.gap(l, p.event, p.lost[0], p.lost[1], p.detail)
	err := f.recordGap(*gap)
	f.mu.Lock()
	if err != nil {
		return nil, err
	}
	f.note(l, p.event, p.detail, false)
	return &claim{lane: l, leader: leader, from: p.from, dst: dst, renew: true}, nil
}

// sendAgain claims the position that is known for certain, since the source no longer
// has all that was sent since.
func (f *flow) sendAgain(l *lane, leader int32, from int64, dst targetView) *claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(l, SourceCompacted, fmt.Sprintf("compaction removed records after offset %d, the last known position; what follows is sent again", from), false)
	return &claim{lane: l, leader: leader, from: from, dst: dst, renew: true}
}

// walk counts records of the source.
type walk struct {
	offset int64 // of the next record
	left   int64 // records still to be counted
	holes  bool  // offsets are missing: there may have been records, which were counted once
}

// walk goes on until all are counted, or the source has no more before end.
func (f *flow) walk(ctx context.Context, tp record.TopicPartition, w *walk, end int64) error {
	for w.left > 0 && w.offset < end {
		raw, err := f.deps.Log.Fetch(ctx, tp, w.offset, fetchBytes)
		if err != nil {
			return fmt.Errorf("count mirrored records of %v from %d: %w", tp, w.offset, err)
		}
		before := w.offset
		for b := range raw.All() {
			if err = w.batch(b); err != nil || w.left == 0 {
				break
			}
		}
		if err != nil {
			return err
		}
		if w.offset == before {
			return fmt.Errorf("count mirrored records of %v: nothing to read at %d", tp, w.offset)
		}
	}
	return nil
}

func (w *walk) batch(b record.Batch) error {
	if b.NextOffset() <= w.offset {
		return nil
	}
	w.holes = w.holes || b.BaseOffset() > w.offset || b.Count() != b.LastOffsetDelta()+1
	if b.Control() {
		w.offset = b.NextOffset()
		return nil
	}
	if b.BaseOffset() >= w.offset && int64(b.Count()) <= w.left {
		w.offset, w.left = b.NextOffset(), w.left-int64(b.Count())
		return nil
	}
	if err := b.Validate(); err != nil {
		return err
	}
	d := record.Decoder{RawHeaders: true}
	if err := d.Reset(b); err != nil {
		return err
	}
	var r record.Record
	for w.left > 0 {
		ok, err := d.Next(&r)
		if err != nil {
			return err
		}
		if !ok {
			w.offset = b.NextOffset()
			return nil
		}
		if r.Offset >= w.offset {
			w.offset, w.left = r.Offset+1, w.left-1
		}
	}
	return nil
}

// tailIsOurs reads the last batch of the target partition: it must carry our
// identity and the sequence that belongs at its offset. One foreign record
// anywhere behind the anchor would have shifted it.
func (f *flow) tailIsOurs(ctx context.Context, l *lane, leader int32, a *anchor, end int64) (bool, error) {
	raw, err := f.target.fetch(ctx, leader, l.remotePartition(), end-1)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return true, nil // the target's retention took it all: nothing speaks against us
	}
	if err != nil {
		return false, err
	}
	for b := range raw.All() {
		if b.LastOffset() != end-1 {
			continue
		}
		return b.ProducerID() == a.ProducerID && b.ProducerEpoch() == a.ProducerEpoch &&
			b.BaseSequence() == a.sequence(b.BaseOffset()), nil
	}
	return false, fmt.Errorf("target %v ends at %d, but its last batch cannot be read", l.remotePartition(), end)
}
