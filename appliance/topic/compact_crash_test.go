package topic_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// keyed is a compacted topic on a crashing disk and what its writers were told.
type keyed struct {
	t       *testing.T
	fs      *crashfs.FS
	rnd     *rand.Rand
	catalog *catalog
	clock   *hands
	set     *topic.Set
	epoch   int32

	mu        sync.Mutex
	acked     map[string]placedValue
	attempted map[string]bool // key and value
	values    int
}

var keyedTopic = record.TopicPartition{Topic: "state"}

func newKeyed(t *testing.T, seed uint64) *keyed {
	return &keyed{t: t, fs: crashfs.New(), rnd: rand.New(rand.NewPCG(seed, 0)), catalog: newCatalog(),
		clock: &hands{now: time.UnixMilli(1_700_000_000_000)}, acked: map[string]placedValue{}, attempted: map[string]bool{}}
}

func (k *keyed) openOn(disk *crashfs.FS) (*topic.Set, error) {
	k.epoch++
	return topic.Open(topic.Options{FS: disk, Catalog: k.catalog, LeaderEpoch: k.epoch, OpenFiles: 3, Now: k.clock.Now,
		WAL:                wal.Options{FileBytes: 64 << 10, MaxFiles: 3, CrowdedRuns: crowded(k.epoch)},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour, Cleaner: topic.CleanerOptions{Disabled: true, MapBytes: 1 << 10}})
}

// append appends batches one after another; some of an idempotent producer.
func (k *keyed) append(n int) {
	for range n {
		var rs []record.Record
		k.mu.Lock()
		for range 1 + k.rnd.IntN(3) {
			k.values++
			r := record.Record{Timestamp: k.clock.Now().UnixMilli(), Key: fmt.Append(nil, "k", k.rnd.IntN(12))}
			if k.rnd.IntN(5) > 0 {
				r.Value = []byte(fmt.Sprint(k.values, strings.Repeat("x", 200+k.rnd.IntN(1500))))
			}
			rs = append(rs, r)
			k.attempted[string(r.Key)+"="+string(r.Value)] = true
		}
		k.mu.Unlock()
		b, err := record.NewBatch(record.None, rs...)
		if err != nil {
			k.t.Fatal(err)
		}
		done := &keyedAck{k: k, rs: rs, done: make(chan error, 1)}
		k.set.AppendAsync(keyedTopic, b, done)
		if err := <-done.done; err != nil {
			k.t.Fatal(err)
		}
	}
}

type keyedAck struct {
	k    *keyed
	rs   []record.Record
	done chan error
}

func (a *keyedAck) Complete(base int64, err error) {
	a.k.mu.Lock()
	for i, r := range a.rs {
		if err == nil {
			a.k.acked[string(r.Key)] = placedValue{base + int64(i), string(r.Value)}
		}
	}
	a.k.mu.Unlock()
	a.done <- err
}

// cut takes a copy of the disk and of what was acknowledged, in one moment.
func (k *keyed) cut(keep int, rnd *rand.Rand) (*crashfs.FS, map[string]placedValue) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if keep < 0 {
		return k.fs.Killed(), maps.Clone(k.acked)
	}
	return k.fs.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd}), maps.Clone(k.acked)
}

// check opens what is left: the last acknowledged value of every key is there, or a
// later one, and what a tombstone deleted is not. Then it cleans, and checks again.
func (k *keyed) check(disk *crashfs.FS, acked map[string]placedValue, clean bool) error {
	set, err := k.openOn(disk)
	if err != nil {
		return err
	}
	err = k.read(set, acked)
	if err == nil && clean {
		set.Compact()
		if st := set.Cleaner(); st.LastError != "" {
			err = errors.New(st.LastError)
		} else {
			err = k.read(set, acked)
		}
	}
	return errors.Join(err, set.Close())
}

func (k *keyed) read(set *topic.Set, acked map[string]placedValue) error {
	p, err := set.Partition(keyedTopic)
	if err == nil {
		err = p.Err()
	}
	if err != nil {
		return err
	}
	found := map[string]placedValue{}
	for next := int64(0); next < p.HighWatermark(); {
		bs, err := set.Fetch(context.Background(), keyedTopic, next, 1<<20)
		if err != nil {
			return err
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				return err
			}
			for _, r := range rs {
				k.mu.Lock()
				known := k.attempted[string(r.Key)+"="+string(r.Value)]
				k.mu.Unlock()
				if !known || r.Offset < next {
					return fmt.Errorf("offset %d, read from %d, holds %s with %.20q, which nobody wrote", r.Offset, next, r.Key, r.Value)
				}
				found[string(r.Key)] = placedValue{r.Offset, string(r.Value)}
			}
			next = b.NextOffset()
		}
	}
	for key, want := range acked {
		got, ok := found[key]
		switch {
		case !ok && want.value == "":
		case !ok || got.offset < want.offset || got.offset == want.offset && got.value != want.value:
			return fmt.Errorf("%s is %.20q at %d (%v), acknowledged was %.20q at %d", key, got.value, got.offset, ok, want.value, want.offset)
		}
	}
	return nil
}

// A power cut after every operation of the cleaner, the write-ahead log and its
// checkpoints working beside it.
func TestPowerCutAfterEveryOperationOfCompaction(t *testing.T) {
	for seed := range *crashSeeds {
		k := newKeyed(t, seed)
		var err error
		if k.set, err = k.openOn(k.fs); err != nil {
			t.Fatal(err)
		}
		createWith(t, k.set, "state", compacted)
		rnd := rand.New(rand.NewPCG(seed, 1))
		var hook sync.Mutex
		cuts, cleaning := 0, false
		k.fs.OnOp(nil, func(op crashfs.Op) {
			if !op.Changes() {
				return
			}
			hook.Lock()
			defer hook.Unlock()
			if t.Failed() || !cleaning && rnd.IntN(10) > 0 && !*crashFull {
				return
			}
			keeps := []int{0, 25, 50, 75, 100, -1}
			if !*crashFull {
				one := rnd.IntN(len(keeps))
				keeps = keeps[one : one+1]
			}
			for _, keep := range keeps {
				cuts++
				disk, acked := k.cut(keep, rnd)
				if err := k.check(disk, acked, rnd.IntN(4) == 0); err != nil {
					t.Errorf("seed %d, cut after %s, keep %d: %v", seed, op, keep, err)
				}
				if n := disk.OpenFiles(); n != 0 && !t.Failed() {
					t.Errorf("seed %d, cut after %s: %d files open", seed, op, n)
				}
			}
		})
		during := func(on bool) {
			hook.Lock()
			defer hook.Unlock()
			cleaning = on
		}
		for round := range 3 {
			k.append(30)
			k.clock.turn(2 * time.Minute) // tombstones of the round before go
			during(true)
			var beside sync.WaitGroup
			if round == 1 {
				beside.Go(func() { k.append(8) })
			}
			k.set.Compact()
			beside.Wait()
			during(false)
		}
		if st := k.set.Cleaner(); st.RemovedRecords == 0 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
		if err := errors.Join(k.read(k.set, k.acked), k.set.Close()); err != nil {
			t.Error(err)
		}
		k.fs.OnOp(nil, nil)
		t.Logf("seed %d: %d power cuts", seed, cuts)
	}
}

// A round may end one segment and begin the next. While it is being applied, the
// segment that it ended must not be cleaned: after a crash it is written again.
func TestASegmentOfARoundUnderWayIsNotCleaned(t *testing.T) {
	k := newKeyed(t, 1)
	var err error
	if k.set, err = k.openOn(k.fs); err != nil {
		t.Fatal(err)
	}
	createWith(t, k.set, "state", compacted)
	k.append(8) // most of a segment
	if err := k.set.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	k.fs.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write && strings.HasSuffix(op.Name, ".log") && op.Name != "topics/state-0/00000000000000000000.log" {
			once.Do(func() { close(reached); <-release })
		}
		return nil
	}, nil)
	var writes []record.Write
	for i := range 20 {
		r := record.Record{Key: []byte("same"), Value: []byte(fmt.Sprint(i, strings.Repeat("y", 1000)))}
		k.attempted["same="+string(r.Value)] = true
		b, err := record.NewBatch(record.None, r)
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, record.Write{TopicPartition: keyedTopic, Batch: b})
	}
	if err := k.set.AppendAtomic(context.Background(), writes); err != nil {
		t.Fatal(err)
	}
	<-reached // it is acknowledged, and applied in part
	cleaned := make(chan struct{})
	go func() { k.set.Compact(); close(cleaned) }()
	select {
	case <-cleaned:
	case <-time.After(100 * time.Millisecond): // it waits for the round, as it should
	}
	disk, acked := k.cut(-1, k.rnd)
	close(release)
	<-cleaned
	k.fs.OnOp(nil, nil)
	if err := k.check(disk, acked, true); err != nil {
		t.Error(err)
	}
	if st := k.set.Cleaner(); st.Runs == 0 {
		t.Errorf("%+v", st)
	}
	if err := k.set.Close(); err != nil {
		t.Error(err)
	}
}

// With its checkpoint lost the write-ahead log replays all that its files hold, also
// what came into segments that were cleaned since. They must stay as they are.
func TestCleanedSegmentsAreNotWrittenAgain(t *testing.T) {
	k := newKeyed(t, 1)
	var err error
	if k.set, err = k.openOn(k.fs); err != nil {
		t.Fatal(err)
	}
	createWith(t, k.set, "state", with(compacted, "max.compaction.lag.ms", "60000"))
	k.append(90)  // more than the write-ahead log holds
	for range 2 { // segments begin where a batch found no room, and where the lag ended one
		k.clock.turn(2 * time.Minute)
		k.set.Compact()
		k.append(6)
		k.set.Compact()
	}
	if st := k.set.Cleaner(); st.RemovedRecords == 0 {
		t.Fatalf("%+v", st)
	}
	k.append(1)
	disk, acked := k.cut(0, nil)
	if err := k.set.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Open("wal/checkpoint")
	if err == nil {
		_, err = f.WriteAt(make([]byte, 8192), 0)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := disk.List("topics/state-0")
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			before[name], _ = onDisk(t, disk, "topics/state-0/"+name)
		}
	}
	if err := k.check(disk, acked, false); err != nil {
		t.Error(err)
	}
	for name, content := range before {
		if after, _ := onDisk(t, disk, "topics/state-0/"+name); !strings.HasPrefix(after, content) { // the last one is brought to where it was
			t.Errorf("%s had %d bytes and has %d", name, len(content), len(after))
		}
	}
	if k.set, err = k.openOn(disk); err != nil {
		t.Fatal(err)
	}
	if lost := k.set.Lost(); len(lost) != 0 {
		t.Errorf("%+v", lost)
	}
	if err := k.set.Close(); err != nil {
		t.Error(err)
	}
}
