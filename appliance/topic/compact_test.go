package topic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// hands is a clock that a test turns.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) turn(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// newCompactBox is a box whose cleaner works when it is told to only.
func newCompactBox(t *testing.T) (*box, *hands) {
	b, h := newBox(t), &hands{now: time.UnixMilli(1_700_000_000_000)}
	b.fs = crashfs.New() // for speed
	b.opts.Now, b.opts.Cleaner.Disabled = h.Now, true
	return b, h
}

var compacted = map[string]string{"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "60000"}

func with(configs map[string]string, pairs ...string) map[string]string {
	out := maps.Clone(configs)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// oracle is what a topic owes its readers: the last value of each key.
type oracle struct {
	t    *testing.T
	set  *topic.Set
	tp   record.TopicPartition
	rnd  *rand.Rand
	now  func() time.Time
	last map[string]placedValue
}

type placedValue struct {
	offset int64
	value  string // "" for a tombstone
}

func newOracle(t *testing.T, set *topic.Set, name string, now func() time.Time) *oracle {
	return &oracle{t: t, set: set, tp: record.TopicPartition{Topic: name}, rnd: rand.New(rand.NewPCG(7, 7)), now: now, last: map[string]placedValue{}}
}

// append appends batches of random records with keys out of a few.
func (o *oracle) append(batches, keys int) {
	o.t.Helper()
	for range batches {
		var rs []record.Record
		for range 1 + o.rnd.IntN(6) {
			r := record.Record{Timestamp: o.now().UnixMilli(), Key: fmt.Append(nil, "key ", o.rnd.IntN(keys))}
			if o.rnd.IntN(5) > 0 {
				r.Value = []byte(fmt.Sprint(o.rnd.Uint64(), strings.Repeat("x", o.rnd.IntN(200))))
			}
			rs = append(rs, r)
		}
		b, err := record.NewBatch(record.Codec(o.rnd.IntN(5)), rs...)
		if err != nil {
			o.t.Fatal(err)
		}
		base, err := o.set.Append(context.Background(), o.tp, b)
		if err != nil {
			o.t.Fatal(err)
		}
		for i, r := range rs {
			o.last[string(r.Key)] = placedValue{base + int64(i), string(r.Value)}
		}
	}
}

// check reads the topic from its start: the last value of each key is at its offset.
// It returns how many records there are, and how many tombstones.
func (o *oracle) check() (records, tombstones int) {
	o.t.Helper()
	p, err := o.set.Partition(o.tp)
	if err != nil {
		o.t.Fatal(err)
	}
	found, next := map[string]placedValue{}, p.LogStartOffset()
	for next < p.HighWatermark() {
		bs, err := o.set.Fetch(context.Background(), o.tp, next, 10_000)
		if err != nil {
			o.t.Fatal(err)
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil || b.NextOffset() <= next {
				o.t.Fatalf("batch at %d, wanted from %d: %v", b.BaseOffset(), next, err)
			}
			for _, r := range rs {
				if r.Offset < found[string(r.Key)].offset {
					o.t.Errorf("offset %d of key %s comes after %d", r.Offset, r.Key, found[string(r.Key)].offset)
				}
				found[string(r.Key)] = placedValue{r.Offset, string(r.Value)}
				if records++; r.Value == nil {
					tombstones++
				}
			}
			next = b.NextOffset()
		}
	}
	for key, want := range o.last {
		if got, ok := found[key]; got != want && !(want.value == "" && !ok) {
			o.t.Errorf("%s: %q at %d, want %q at %d", key, got.value, got.offset, want.value, want.offset)
		}
	}
	return records, tombstones
}

func createWith(t *testing.T, s *topic.Set, name string, configs map[string]string) {
	t.Helper()
	if _, err := s.Create(name, topic.Spec{Partitions: 1, Configs: configs}); err != nil {
		t.Fatal(err)
	}
}

func TestCompactionLeavesTheLastOfEachKey(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", compacted)
	o := newOracle(t, set, "state", clock.Now)
	for range 4 {
		o.append(300, 40)
		o.set.Compact()
		records, _ := o.check()
		if most := 40 + 500; records > most {
			t.Errorf("%d records are left, %d keys and an active segment should be at most %d", records, 40, most)
		}
		clock.turn(time.Minute)
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		set = b.open()
		o.set = set
		o.check()
	}
	set.Compact()
	if st := set.Cleaner(); st.Runs != 1 || len(st.Uncleanable) > 0 {
		t.Errorf("%+v, want one run for the tombstones whose time has come", st)
	}
	set.Compact()
	if st := set.Cleaner(); st.Runs != 1 {
		t.Errorf("%+v, nothing was there to do", st)
	}
}

// What is known of the progress survives a restart; without it everything is cleaned again.
func TestCompactionGoesOnWhereItWas(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", with(compacted, "delete.retention.ms", "8640000000"))
	o := newOracle(t, set, "state", clock.Now)
	o.append(500, 30)
	set.Compact()
	for _, again := range []bool{false, true} {
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		if again {
			f, err := b.fs.Open("cleaner-offset-checkpoint")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("x"), 30); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		set = b.open()
		o.set = set
		set.Compact()
		if st := set.Cleaner(); (st.Runs > 0) != again {
			t.Errorf("progress lost: %v; %+v", again, st)
		}
		o.check()
	}
}

func TestTombstonesOfATopicGo(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", compacted)
	o := newOracle(t, set, "state", clock.Now)
	o.append(400, 25)
	set.Compact()
	_, before := o.check()
	clock.turn(time.Minute + time.Second)
	set.Compact() // nothing was appended: their time alone is the reason
	_, after := o.check()
	if before == 0 || after >= before {
		t.Errorf("%d tombstones, %d after their time", before, after)
	}
}

func TestDirtyRatioAndLags(t *testing.T) {
	for name, c := range map[string]struct {
		configs []string
		want    []bool // cleaned at once, after an hour, after a day
	}{
		"ratio reached":    {[]string{"min.cleanable.dirty.ratio", "0.5"}, []bool{true, true, true}},
		"ratio of one":     {[]string{"min.cleanable.dirty.ratio", "1"}, []bool{false, false, false}},
		"min lag":          {[]string{"min.compaction.lag.ms", "1800000"}, []bool{false, true, true}},
		"max lag":          {[]string{"min.cleanable.dirty.ratio", "1", "max.compaction.lag.ms", "7200000"}, []bool{false, false, true}},
		"policy is delete": {[]string{"cleanup.policy", "delete"}, []bool{false, false, false}},
		"both policies":    {[]string{"cleanup.policy", "compact,delete"}, []bool{true, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock := newCompactBox(t)
			set := b.open()
			createWith(t, set, "state", with(compacted, c.configs...))
			o := newOracle(t, set, "state", clock.Now)
			o.append(300, 10)
			for i, wait := range []time.Duration{0, time.Hour, 23 * time.Hour} {
				clock.turn(wait)
				set.Compact()
				if st := set.Cleaner(); (st.Runs > 0) != c.want[i] {
					t.Errorf("look %d: %d runs, want some: %v; dirty ratio %v", i, st.Runs, c.want[i], st.MaxDirtyRatio)
				}
			}
			o.check()
		})
	}
}

func TestSecondCompactionWaitsForTheRatio(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", with(compacted, "min.cleanable.dirty.ratio", "0.5", "delete.retention.ms", "8640000000"))
	o := newOracle(t, set, "state", clock.Now)
	o.append(500, 700) // most keys are written once: much stays
	set.Compact()
	o.append(50, 700)
	set.Compact()
	if st := set.Cleaner(); st.Runs != 1 || st.MaxDirtyRatio <= 0 || st.MaxDirtyRatio > 0.5 {
		t.Errorf("%d runs, dirty ratio %v", st.Runs, st.MaxDirtyRatio)
	}
	o.append(1100, 700)
	set.Compact()
	if st := set.Cleaner(); st.Runs != 2 {
		t.Errorf("%d runs, want 2", st.Runs)
	}
	o.check()
}

// max.compaction.lag.ms also ends the active segment, which cannot be compacted.
func TestMaxLagRollsTheActiveSegment(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", with(compacted, "max.compaction.lag.ms", "3600000", "min.cleanable.dirty.ratio", "1"))
	o := newOracle(t, set, "state", clock.Now)
	o.append(10, 2)
	clock.turn(2 * time.Hour)
	o.append(1, 2)
	set.Compact()
	if st := set.Cleaner(); st.Runs != 1 || st.RemovedRecords == 0 {
		t.Errorf("%+v", st)
	}
	o.check()
}

// Both policies: retention takes what is old, compaction what is superseded.
func TestCompactAndDelete(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", with(compacted, "cleanup.policy", "compact,delete", "retention.ms", "3600000"))
	o := newOracle(t, set, "state", clock.Now)
	o.append(300, 10)
	set.Compact()
	before, _ := o.check()
	clock.turn(2 * time.Hour)
	o.append(100, 10)
	set.Compact()
	set.Retain()
	p, err := set.Partition(o.tp)
	if err != nil {
		t.Fatal(err)
	}
	if p.LogStartOffset() == 0 || before == 0 {
		t.Errorf("starts at %d: retention removed nothing", p.LogStartOffset())
	}
	for key, v := range o.last {
		if v.offset < p.LogStartOffset() {
			delete(o.last, key)
		}
	}
	o.check()
}

// Retention does not take what came last with what came first because compaction
// made one segment of both.
func TestRetentionAfterSegmentsWereJoined(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", with(compacted, "cleanup.policy", "compact,delete", "retention.ms", "3600000"))
	o := newOracle(t, set, "state", clock.Now)
	o.append(200, 8)
	set.Compact()
	clock.turn(50 * time.Minute)
	for i := range 6 {
		key := fmt.Sprint("young ", i)
		o.last[key] = placedValue{put(t, set, o.tp, key, "v"), "v"}
		o.append(60, 8)
		set.Compact()
	}
	clock.turn(20 * time.Minute)
	set.Retain()
	if st := set.Cleaner(); st.SegmentsReplaced <= st.SegmentsWritten {
		t.Errorf("%+v: nothing was joined", st)
	}
	o.check()
}

// A resend is recognised after compaction and a restart, also when what was known
// of the producer must be made anew from what compaction left.
func TestProducersSurviveCompaction(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", compacted)
	tp := record.TopicPartition{Topic: "state"}
	var sent []record.Batch
	var bases []int64
	for i := range 5 {
		x, err := record.NewBatch(record.None, record.Record{Key: []byte("same"), Value: fmt.Append(nil, i), Timestamp: clock.Now().UnixMilli()})
		if err != nil {
			t.Fatal(err)
		}
		x.SetProducer(42, 1, int32(i))
		base, err := set.Append(context.Background(), tp, bytes.Clone(x))
		if err != nil {
			t.Fatal(err)
		}
		sent, bases = append(sent, x), append(bases, base)
	}
	o := newOracle(t, set, "state", clock.Now)
	o.last["same"] = placedValue{bases[4], "4"}
	resend := func(when string) {
		t.Helper()
		for i, x := range sent {
			if base, err := set.Append(context.Background(), tp, bytes.Clone(x)); err != nil || base != bases[i] {
				t.Errorf("%s: the resend of offset %d got %d, %v", when, bases[i], base, err)
			}
		}
	}
	o.append(400, 10)
	put(t, set, tp, "same", "superseded by another")
	o.last["same"] = placedValue{-1, ""}
	o.append(300, 10)
	set.Compact()
	delete(o.last, "same")
	resend("compacted")
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	set = b.open()
	resend("restarted")
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := b.fs.Open("topics/state-0/partition.state")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damaged"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	set = b.open()
	resend("made anew from the log")
	o.set = set
	o.check()
}

func put(t *testing.T, set *topic.Set, tp record.TopicPartition, key, value string) int64 {
	t.Helper()
	b, err := record.NewBatch(record.None, record.Record{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	base, err := set.Append(context.Background(), tp, b)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// A log that cannot be cleaned is named, serves on, and holds nobody up.
func TestUncleanableLogIsNamedAndTheOthersGoOn(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "bad", compacted)
	createWith(t, set, "good", compacted)
	bad, good := newOracle(t, set, "bad", clock.Now), newOracle(t, set, "good", clock.Now)
	bad.append(300, 10)
	good.append(300, 10)
	if err := set.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	f, err := b.fs.Open("topics/bad-0/" + commitlog.FileName(0))
	if err != nil {
		t.Fatal(err)
	}
	var was [1]byte
	if _, err := f.ReadAt(was[:], 70); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{was[0] ^ 1}, 70); err != nil {
		t.Fatal(err)
	}
	set.Compact()
	st := set.Cleaner()
	if st.Runs != 1 || len(st.Uncleanable) != 1 || !strings.Contains(st.Uncleanable["bad-0"], commitlog.FileName(0)) || !strings.Contains(st.LastError, "bad-0") {
		t.Errorf("%+v", st)
	}
	good.check()
	if p, err := set.Partition(bad.tp); err != nil || p.Err() != nil {
		t.Error("the partition does not serve", err, p.Err())
	}
	if _, err := f.WriteAt(was[:], 70); err != nil {
		t.Fatal(err)
	}
	f.Close()
	clock.turn(2 * time.Hour)
	set.Compact()
	if st := set.Cleaner(); st.Runs < 2 || len(st.Uncleanable) != 0 {
		t.Errorf("after it was mended: %+v", st)
	}
	bad.check()
}

func TestTopicsThatCompactThemselves(t *testing.T) {
	b, clock := newCompactBox(t)
	b.opts.OwnCompaction = []string{"own"}
	set := b.open()
	createWith(t, set, "own", compacted)
	o := newOracle(t, set, "own", clock.Now)
	o.append(300, 5)
	before, _ := o.check()
	set.Compact()
	if after, _ := o.check(); after != before || set.Cleaner().Runs != 0 {
		t.Errorf("%d records of %d are left", after, before)
	}
}

// Deleting a topic does not wait until it is cleaned; neither does closing.
func TestDeleteAndCloseEndACleaning(t *testing.T) {
	for _, end := range []string{"delete", "close"} {
		b, clock := newCompactBox(t)
		b.opts.Cleaner.IOBytesPerSecond = 1000 // it would take minutes
		set := b.open()
		createWith(t, set, "state", compacted)
		newOracle(t, set, "state", clock.Now).append(500, 10)
		var cleaning sync.WaitGroup
		cleaning.Go(set.Compact)
		for set.Cleaner().Cleaning == "" {
			runtime.Gosched()
		}
		if end == "delete" {
			if err := set.Delete("state"); err != nil {
				t.Error(err)
			}
		} else if err := set.Close(); err != nil {
			t.Error(err)
		}
		cleaning.Wait()
		// A log that was closed before it was read has nothing to clean, which is a run.
		if st := set.Cleaner(); st.SegmentsWritten != 0 || st.LastError != "" {
			t.Errorf("%s: %+v", end, st)
		}
	}
}

// The cleaner and appends, fetches and checkpoints get along.
func TestCompactionBesideEverythingElse(t *testing.T) {
	b, clock := newCompactBox(t)
	set := b.open()
	createWith(t, set, "state", compacted)
	o := newOracle(t, set, "state", clock.Now)
	ctx, cancel := context.WithCancel(context.Background())
	var others sync.WaitGroup
	others.Go(func() {
		for ctx.Err() == nil {
			set.Compact()
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			if err := set.Checkpoint(); err != nil {
				t.Error(err)
			}
		}
	})
	others.Go(func() {
		p, err := set.Partition(o.tp)
		for err == nil && ctx.Err() == nil {
			_, _, err = p.OffsetForTime(clock.Now().UnixMilli())
			for next := p.LogStartOffset(); err == nil && next < p.HighWatermark(); {
				var bs record.Batches
				if bs, err = set.Fetch(ctx, o.tp, next, 5000); errors.Is(err, context.Canceled) {
					return
				}
				for b := range bs.All() {
					next = b.NextOffset()
				}
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		o.append(30, 15)
	}
	cancel()
	others.Wait()
	set.Compact() // whether or not it had a turn before
	o.check()
	if st := set.Cleaner(); st.Runs == 0 || st.LastError != "" {
		t.Errorf("%+v", st)
	}
}

// narrow is a disk with as much room as a test says.
type narrow struct {
	*crashfs.FS
	free int64
}

func (n *narrow) Free() (free, total int64, err error) { return n.free, 1 << 40, nil }

// Where a new segment would take the reserve nothing is compacted, until there is room.
func TestNoRoomToCompact(t *testing.T) {
	b, clock := newCompactBox(t)
	disk := &narrow{crashfs.New(), 1 << 39}
	b.fs = disk
	set := b.open()
	createWith(t, set, "state", compacted)
	o := newOracle(t, set, "state", clock.Now)
	o.append(200, 10)
	for _, room := range []bool{false, true} {
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		if disk.free = topic.DefaultReserveBytes / 2; room {
			disk.free = 1 << 39
		}
		set = b.open()
		o.set = set
		set.Compact()
		st := set.Cleaner()
		if room != (st.Runs > 0) || room == strings.Contains(st.LastError, "compaction needs") {
			t.Errorf("room: %v: %+v", room, st)
		}
		o.check()
	}
}
