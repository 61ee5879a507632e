package topic_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

const testBudget = 1 << 20

// dropping is the configs of a topic that lets go of its oldest, in small segments.
func dropping(policy string, priority int) map[string]string {
	return map[string]string{"segment.bytes": "16384", "weir.disk.policy": policy, "weir.disk.priority": fmt.Sprint(priority)}
}

// gapsOf reads the gap records, by partition.
func gapsOf(t testing.TB, s *topic.Set) map[record.TopicPartition][]record.Gap {
	t.Helper()
	out := map[record.TopicPartition][]record.Gap{}
	p, err := s.Partition(record.TopicPartition{Topic: record.GapTopic})
	if err != nil {
		return out // none was ever made
	}
	for next := p.LogStartOffset(); next < p.HighWatermark(); {
		bs, err := s.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				var g record.Gap
				if err := json.Unmarshal(r.Value, &g); err != nil {
					t.Fatal(err)
				}
				tp := record.TopicPartition{Topic: g.Topic, Partition: g.Partition}
				out[tp] = append(out[tp], g)
			}
			next = b.NextOffset()
		}
	}
	return out
}

// checkGaps makes sure that the gap records say exactly what is gone: they tile the
// offsets from 0 to the log start, none twice, none without a drop.
func checkGaps(s *topic.Set, gaps map[record.TopicPartition][]record.Gap) error {
	for _, t := range s.Topics() {
		for _, p := range t.Partitions() {
			next := int64(0)
			for _, g := range gaps[p.TopicPartition()] {
				if g.FirstOffset != next || g.LastOffset < g.FirstOffset || g.Count != g.LastOffset-g.FirstOffset+1 ||
					g.Bytes <= 0 || g.Reason != record.GapDisk || g.Time.IsZero() {
					return fmt.Errorf("%s: gap %+v, want one that begins at %d", p.TopicPartition(), g, next)
				}
				next = g.LastOffset + 1
			}
			if start := p.LogStartOffset(); t.Name() != record.GapTopic && next != start {
				return fmt.Errorf("%s starts at %d, gap records end at %d", p.TopicPartition(), start, next)
			}
		}
	}
	return nil
}

// push appends until there is room, as producers do that try again.
func push(t testing.TB, s *topic.Set, tp record.TopicPartition, b record.Batch) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := s.Append(context.Background(), tp, b)
		if err == nil {
			return
		}
		if !errors.Is(err, record.ErrDiskFull) || time.Now().After(deadline) {
			t.Fatalf("append to %s: %v", tp, err)
		}
		s.Reclaim()
	}
}

// sized is a batch of one record of about n bytes, with a timestamp of its own.
func sized(t testing.TB, n int, timestamp int64) record.Batch {
	t.Helper()
	b, err := record.NewBatch(record.None, record.Record{Value: []byte(strings.Repeat("x", n)), Timestamp: timestamp})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whoever has the lowest priority loses first, among equals the oldest segment goes,
// a topic that refuses loses nothing, and gap records say exactly what went.
func TestDropsByPriorityAndAge(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	b := newBox(t)
	b.fs = crashfs.New() // in memory
	b.opts.BudgetBytes = testBudget
	s := b.open()
	names := map[string]map[string]string{
		"low": dropping(topic.DiskDropOldest, -5), "a": dropping(topic.DiskDropOldest, 0), "b": dropping(topic.DiskDropOldest, 0),
		"high": dropping(topic.DiskDropOldest, 7), "keep": dropping(topic.DiskReject, -100),
	}
	for name, configs := range names {
		if _, err := s.Create(name, topic.Spec{Partitions: 2, Configs: configs}); err != nil {
			t.Fatal(err)
		}
	}
	all := slices.Sorted(maps.Keys(names))
	starts := func(name string) (sum int64) {
		for _, p := range s.Topic(name).Partitions() {
			sum += p.LogStartOffset()
		}
		return sum
	}
	const sealed = 2 * (64<<10 + 16<<10) // what two partitions may hold in active segments that are not worth ending, and one segment
	for n := range 1200 {
		name := all[rnd.IntN(len(all))]
		if name == "keep" && s.Topic("keep").Partitions()[0].HighWatermark() > 30 {
			continue
		}
		before := map[string]int64{"a": starts("a"), "b": starts("b"), "high": starts("high")}
		push(t, s, record.TopicPartition{Topic: name, Partition: int32(rnd.IntN(2))}, sized(t, 1000+rnd.IntN(3000), int64(n)))
		s.Reclaim()
		low, middle := size(s, "low"), size(s, "a")+size(s, "b")
		if (starts("a") > before["a"] || starts("b") > before["b"]) && low > sealed {
			t.Fatalf("append %d: a or b lost records while low has %d bytes", n, low)
		}
		if starts("high") > before["high"] && (low > sealed || middle > 2*sealed) {
			t.Fatalf("append %d: high lost records while low has %d bytes, a and b %d", n, low, middle)
		}
		if used := s.DiskStatus().LogBytes; used > testBudget {
			t.Fatalf("append %d: %d bytes, the budget is %d", n, used, testBudget)
		}
	}
	if starts("keep") != 0 || starts("low") == 0 || starts("a") == 0 || starts("b") == 0 {
		t.Fatalf("starts: keep %d, low %d, a %d, b %d", starts("keep"), starts("low"), starts("a"), starts("b"))
	}
	if err := checkGaps(s, gapsOf(t, s)); err != nil {
		t.Fatal(err)
	}
	// Among equals age decides: no record of a or b that is there is much older than one that went.
	oldest := map[string]int64{}
	for _, name := range []string{"a", "b"} {
		for _, p := range s.Topic(name).Partitions() {
			bs, err := s.Fetch(context.Background(), p.TopicPartition(), p.LogStartOffset(), 1)
			if err != nil {
				t.Fatal(err)
			}
			for b := range bs.All() {
				oldest[p.TopicPartition().String()] = b.MaxTimestamp()
				break
			}
		}
	}
	var ages []int64
	for _, age := range oldest {
		ages = append(ages, age)
	}
	if d := slices.Max(ages) - slices.Min(ages); d > 400 { // a segment of each is about 30 appends of one partition
		t.Errorf("the oldest records of a and b are %d appends apart: %v", d, oldest)
	}
	st := s.DiskStatus()
	for _, row := range st.Topics {
		if want := starts(row.Topic); row.Topic != record.GapTopic && row.DroppedRecords != want {
			t.Errorf("%s: dropped %d records, the log starts say %d", row.Topic, row.DroppedRecords, want)
		}
	}
	if st.LosesFirst != "low" {
		t.Errorf("%q loses first, want low", st.LosesFirst)
	}
}

func size(s *topic.Set, name string) (n int64) {
	for _, p := range s.Topic(name).Partitions() {
		n += p.Size()
	}
	return n
}

// A topic of one active segment, which is never full, lives within the budget for
// ever: the segment is ended so that it can go. What is there is always the newest.
func TestActiveSegmentIsEndedWhenNothingElseIsLeft(t *testing.T) {
	b := newBox(t)
	b.fs = crashfs.New() // in memory
	b.opts.BudgetBytes = testBudget
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Configs: map[string]string{"weir.disk.policy": topic.DiskDropOldest}}); err != nil {
		t.Fatal(err)
	}
	const n = 500
	for i := range n {
		push(t, s, tp, sized(t, 10_000, int64(i)))
	}
	p, _ := s.Partition(tp)
	if p.HighWatermark() != n || p.LogStartOffset() == 0 || p.Size() > testBudget {
		t.Fatalf("offsets %d to %d in %d bytes", p.LogStartOffset(), p.HighWatermark(), p.Size())
	}
	if err := checkGaps(s, gapsOf(t, s)); err != nil {
		t.Fatal(err)
	}
	start := p.LogStartOffset()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = b.open()
	p, _ = s.Partition(tp)
	if p.HighWatermark() != n || p.LogStartOffset() != start {
		t.Fatalf("after a restart offsets %d to %d, want %d to %d", p.LogStartOffset(), p.HighWatermark(), start, n)
	}
	if base, err := s.Append(context.Background(), tp, sized(t, 10, n)); err != nil || base != n {
		t.Fatalf("append at %d: %v", base, err)
	}
}

// Only what all mirror flows have carried away goes; what is not known is kept; when
// nothing else is left appends are refused, and resume once a mirror has gone on.
func TestKeepUnmirrored(t *testing.T) {
	b := newBox(t)
	b.fs = crashfs.New() // in memory
	var carried atomic.Int64
	carried.Store(-1) // not known
	b.opts.BudgetBytes = testBudget
	b.opts.Mirrored = func(record.TopicPartition) (int64, bool) { return carried.Load(), carried.Load() >= 0 }
	now := time.UnixMilli(1_700_000_000_000)
	b.opts.Now = func() time.Time { return now }
	s := b.open()
	configs := dropping(topic.DiskKeepUnmirrored, 0)
	if _, err := s.Create("t", topic.Spec{Configs: configs}); err != nil {
		t.Fatal(err)
	}
	p, _ := s.Partition(tp)
	fill := func() (err error) {
		for range 1000 {
			s.Reclaim()
			if _, err = s.Append(context.Background(), tp, sized(t, 4000, 1)); err != nil {
				return err
			}
			if start := p.LogStartOffset(); start > max(carried.Load(), 0) {
				t.Fatalf("starts at %d, carried away up to %d", start, carried.Load())
			}
		}
		return nil
	}
	if err := fill(); !errors.Is(err, record.ErrDiskFull) || p.LogStartOffset() != 0 {
		t.Fatalf("nothing is known to be mirrored: %v, the log starts at %d", err, p.LogStartOffset())
	}
	carried.Store(100)
	if err := fill(); !errors.Is(err, record.ErrDiskFull) || p.LogStartOffset() == 0 {
		t.Fatalf("100 are mirrored: %v, the log starts at %d", err, p.LogStartOffset())
	}
	// Retention waits for the mirror as well, and goes no further than it.
	before := p.LogStartOffset()
	if err := s.AlterConfigs("t", func(c map[string]string) (map[string]string, error) { c["retention.ms"] = "1"; return c, nil }); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	carried.Store(-1)
	s.Retain()
	if p.LogStartOffset() != before {
		t.Fatalf("retention removed up to %d, nothing is known to be mirrored", p.LogStartOffset())
	}
	carried.Store(before + 50)
	s.Retain()
	if start := p.LogStartOffset(); start > before+50 || start <= before {
		t.Fatalf("retention removed from %d up to %d, mirrored up to %d", before, start, before+50)
	}
	// Going on, nothing of the active segment that is not mirrored goes with it.
	for range 4 {
		carried.Store(p.HighWatermark() - 1)
		if err := fill(); err == nil {
			t.Fatal("appends were not refused although nothing more is mirrored")
		}
	}
	if st := s.DiskStatus(); !st.Refusing || st.Topics[1].RefusedAppends == 0 {
		t.Errorf("%+v", st)
	}
}

// lateCatalog does something while the topic of gap records is made: between the
// choice of what goes and the moment it goes.
type lateCatalog struct {
	*catalog
	late func()
}

func (c lateCatalog) PutTopic(e topic.Entry) error {
	if e.Name == record.GapTopic {
		c.late()
	}
	return c.catalog.PutTopic(e)
}

// A record that comes while the active segment is about to go, and that no mirror has
// seen, does not go with it.
func TestLateRecordDoesNotGoUnmirrored(t *testing.T) {
	var s *topic.Set
	var carried atomic.Int64
	carried.Store(-1)
	late := 0
	names := lateCatalog{newCatalog(), func() {
		late++
		if _, err := s.Append(context.Background(), tp, sized(t, 100, 1)); err != nil {
			t.Error(err)
		}
	}}
	var err error
	s, err = topic.Open(topic.Options{FS: vfs.OS(t.TempDir()), Catalog: names, BudgetBytes: testBudget,
		Mirrored: func(record.TopicPartition) (int64, bool) { return carried.Load(), carried.Load() >= 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Create("t", topic.Spec{Configs: map[string]string{"weir.disk.policy": topic.DiskKeepUnmirrored}}); err != nil {
		t.Fatal(err)
	}
	for s.DiskStatus().RoomBytes > 48<<10 {
		if _, err := s.Append(context.Background(), tp, sized(t, 4000, 1)); err != nil {
			t.Fatal(err)
		}
	}
	p, _ := s.Partition(tp)
	all := p.HighWatermark()
	carried.Store(all)
	s.Reclaim()
	if late != 1 || p.HighWatermark() != all+1 || p.LogStartOffset() > all {
		t.Fatalf("%d came late; offsets %d to %d, carried away %d", late, p.LogStartOffset(), p.HighWatermark(), all)
	}
	carried.Store(all + 1)
	if !s.Reclaim() || p.LogStartOffset() != all+1 {
		t.Fatalf("the log starts at %d once all %d are carried away", p.LogStartOffset(), all+1)
	}
}

// openBudget has every group in a round of its own: what is to commit together must
// be one group.
func openBudget(disk *crashfs.FS, c topic.Catalog, epoch int32, budget int64) (*topic.Set, error) {
	return topic.Open(topic.Options{FS: disk, Catalog: c, LeaderEpoch: epoch, BudgetBytes: budget,
		WAL: wal.Options{FileBytes: 64 << 10, MaxFiles: 3, RoundBytes: 1}, CheckpointInterval: time.Hour, RetentionInterval: time.Hour})
}

// A power cut at any operation around a drop leaves the log start and the gap record
// that says so, or neither; and nothing that was acknowledged behind it is missing.
func TestPowerCutAroundDrops(t *testing.T) {
	for seed := range *crashSeeds {
		rnd, load := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4))
		fs, names := crashfs.New(), newCatalog()
		const budget = 256 << 10
		s, err := openBudget(fs, names, 1, budget)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"sealed", "active"} {
			configs := dropping(topic.DiskDropOldest, 0)
			if name == "active" {
				configs["segment.bytes"] = "67108864" // it has to be ended to go
				configs["weir.disk.priority"] = "-1"
			}
			if _, err := s.Create(name, topic.Spec{Configs: configs}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Ensure(record.GapTopic, topic.GapSpec()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		acked := map[string]int64{}
		cuts, failed := 0, 0
		fs.OnOp(nil, func(op crashfs.Op) {
			if !op.Changes() || !*crashFull && strings.Contains(op.Name, ".wal") && rndSkip(&mu, rnd) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if failed > 3 {
				return
			}
			keep := []int{0, 0, 30, 70, 100}[rnd.IntN(5)]
			owed := maps.Clone(acked)
			disk := fs.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd})
			cuts++
			if err := checkBudgetClone(t, disk, names, owed); err != nil {
				failed++
				t.Errorf("seed %d, cut after %s, keep %d: %v", seed, op, keep, err)
			}
		})
		for i := range 220 {
			name := []string{"sealed", "active"}[load.IntN(2)]
			tp := record.TopicPartition{Topic: name}
			push(t, s, tp, sized(t, 2000+load.IntN(2000), int64(i)))
			p, _ := s.Partition(tp)
			mu.Lock()
			acked[name] = p.HighWatermark()
			mu.Unlock()
			if i%50 == 49 {
				if err := s.Checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
		}
		fs.OnOp(nil, nil)
		gaps := gapsOf(t, s)
		for _, name := range []string{"sealed", "active"} {
			if len(gaps[record.TopicPartition{Topic: name}]) == 0 {
				t.Errorf("seed %d: topic %s let go of nothing", seed, name)
			}
		}
		if err := errors.Join(checkGaps(s, gaps), s.Close()); err != nil {
			t.Error(err)
		}
		t.Logf("seed %d: %d power cuts, %d gap records", seed, cuts, len(gaps[record.TopicPartition{Topic: "sealed"}])+len(gaps[record.TopicPartition{Topic: "active"}]))
	}
}

func rndSkip(mu *sync.Mutex, rnd *rand.Rand) bool {
	mu.Lock()
	defer mu.Unlock()
	return rnd.IntN(8) != 0
}

func checkBudgetClone(t *testing.T, disk *crashfs.FS, names *catalog, owed map[string]int64) error {
	s, err := openBudget(disk, names, 100, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := checkGaps(s, gapsOf(t, s)); err != nil {
		return err
	}
	for name, end := range owed {
		p, err := s.Partition(record.TopicPartition{Topic: name})
		if err == nil {
			err = p.Err()
		}
		if err != nil {
			return err
		}
		if p.HighWatermark() < end {
			return fmt.Errorf("%s ends at %d, %d was acknowledged", name, p.HighWatermark(), end)
		}
		if _, err := readAll(s, p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		hw := p.HighWatermark()
		if base, err := s.Append(context.Background(), p.TopicPartition(), sized(t, 10, 1)); err != nil || base != hw {
			return fmt.Errorf("%s: append at %d got %d: %w", name, hw, base, err)
		}
	}
	return nil
}
