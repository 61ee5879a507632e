package topic

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

// A sync that failed for a segment succeeds the next time although the records are
// not on the disk: no watermark may say that they are.
func TestNoWatermarkAfterAFailedSync(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	send := func(offset int64) {
		if base, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); base != offset || err != nil {
			t.Error(base, err)
		}
		s.wal.CatchUp()
	}
	send(0)
	failed := false
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind != crashfs.Sync || !strings.HasSuffix(op.Name, ".log") || failed {
			return nil
		}
		failed = true
		send(1)
		return syscall.EIO
	}, nil)
	for range 2 {
		if err := s.checkpoint(); err == nil {
			t.Error("a checkpoint came about after a sync that failed")
		}
	}
	disk.OnOp(nil, nil)
	_, p = openOne(t, disk.Clone(crashfs.CloneConfig{}), 2)
	if n := len(records(t, p)); n != 2 || len(p.Lost()) > 0 {
		t.Errorf("%d records, lost %+v; want both", n, p.Lost())
	}
}

// records reads all of a partition.
func records(t *testing.T, p *Partition) (offsets []int64) {
	t.Helper()
	for next := p.LogStartOffset(); next < p.HighWatermark(); {
		bs, err := p.load(p.Read(next, 1<<20))
		if err != nil {
			t.Fatal("read from", next, err)
		}
		for b := range bs.All() {
			if b.Count() > 0 {
				offsets = append(offsets, b.BaseOffset())
			}
			next = b.NextOffset()
		}
	}
	return offsets
}

// What could not be saved of a state is saved at the next checkpoint: its watermark
// would say otherwise that the file is an old one.
func TestStateThatWasNotSavedIsSavedLater(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	send := func() {
		if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	send()
	p.stateMu.Lock()
	p.state.dirty = true
	p.stateMu.Unlock()
	disk.OnOp(func(op crashfs.Op) error {
		if strings.Contains(op.Name, stateFile) {
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	if err := p.saveState(); err == nil {
		t.Fatal("saved on a full disk")
	}
	disk.OnOp(nil, nil)
	send()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, p = openOne(t, disk, 2); p.state.guessed {
		t.Error("the state was taken for an old one")
	}
}

// Whoever restores a deleted topic from the trash finds all of it, though a checkpoint
// came between the deletion and the funeral.
func TestCheckpointLeavesTheDeletedToBury(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	p.retire()
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if !p.dirty.Load() {
		t.Error("nobody syncs what was written last")
	}
}

// Offsets of records that the write-ahead log has lost are never given again, however
// many checkpoints and starts come before the next append.
func TestLostOffsetsAreNeverGivenAgain(t *testing.T) {
	disk := crashfs.New()
	open := func(disk *crashfs.FS, epoch int32) *Set {
		s, err := Open(Options{FS: disk, Catalog: noTopics{}, LeaderEpoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s := open(disk, 1)
	if _, err := s.Create("t", Spec{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	a, b := record.TopicPartition{Topic: "t"}, record.TopicPartition{Topic: "t", Partition: 1}
	for _, w := range []struct {
		tp    record.TopicPartition
		value string
	}{{a, "first"}, {a, "damaged"}, {b, "other"}} {
		batch, err := record.NewBatch(record.None, record.Record{Value: []byte(w.value)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(context.Background(), w.tp, batch); err != nil {
			t.Fatal(err)
		}
	}
	disk = disk.Clone(crashfs.CloneConfig{})
	names, err := disk.List(walDir)
	if err != nil {
		t.Fatal(err)
	}
	damaged := false
	for _, name := range names {
		f, err := disk.Open(walDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		raw := make([]byte, size)
		f.ReadAt(raw, 0)
		if i := bytes.Index(raw, []byte("damaged")); i > 0 {
			f.WriteAt([]byte("D"), int64(i))
			f.Sync()
			damaged = true
		}
		f.Close()
	}
	if !damaged {
		t.Fatal("nothing to damage")
	}
	for epoch := int32(2); epoch < 5; epoch++ {
		s := open(disk, epoch)
		p, err := s.Partition(a)
		if err != nil {
			t.Fatal(err)
		}
		if p.HighWatermark() != 2 || len(p.Lost()) != 1 {
			t.Errorf("start %d: high watermark %d, lost %+v; want 2 and one record", epoch, p.HighWatermark(), p.Lost())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// compactedBox is a set with a compacted topic, and how to overwrite n keys of it.
func compactedBox(t *testing.T, disk *crashfs.FS, epoch int32) (s *Set, p *Partition, fill func(n int)) {
	t.Helper()
	s, err := Open(Options{FS: disk, Catalog: noTopics{}, LeaderEpoch: epoch, Cleaner: CleanerOptions{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	to, err := s.Ensure("t", Spec{Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01"}})
	if err != nil {
		t.Fatal(err)
	}
	p = to.Partitions()[0]
	return s, p, func(n int) {
		for i := range n {
			b, err := record.NewBatch(record.None, record.Record{Key: []byte{byte(i % 3)}, Value: make([]byte, 500)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(context.Background(), p.tp, b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is remembered of segments does not grow with each cleaning.
func TestCleaningsDoNotGrowTheState(t *testing.T) {
	disk := crashfs.New()
	s, p, fill := compactedBox(t, disk, 1)
	for range 10 {
		fill(80)
		s.Compact()
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	if n, segments := len(p.state.segments), len(p.log.Sealed()); n > segments {
		t.Errorf("%d identities for %d segments", n, segments)
	}
	want := records(t, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, p, _ = compactedBox(t, disk, 2)
	if err := p.log.Audit(0); err != nil || len(p.Lost()) > 0 || len(records(t, p)) != len(want) {
		t.Errorf("%v, lost %+v, %d records; want %d", err, p.Lost(), len(records(t, p)), len(want))
	}
}

// A compacted log whose state was lost has not lost what compaction removed, at any
// start after that either.
func TestRebuiltStateOfACompactedLog(t *testing.T) {
	disk := crashfs.New()
	s, _, fill := compactedBox(t, disk, 1)
	fill(150)
	s.Compact()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove("topics/t-0/" + stateFile); err != nil {
		t.Fatal(err)
	}
	for epoch := int32(2); epoch < 5; epoch++ {
		s, p, fill := compactedBox(t, disk, epoch)
		if err := p.log.Audit(0); err != nil || len(p.Lost()) > 0 {
			t.Fatalf("start %d: %v, lost %+v", epoch, err, p.Lost())
		}
		fill(1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Retention looks at what is to go and not into every segment of the box.
func TestRetentionLooksIntoNoSegment(t *testing.T) {
	disk := crashfs.New()
	s, _, fill := compactedBox(t, disk, 1)
	fill(150)
	if err := s.AlterConfigs("t", func(map[string]string) (map[string]string, error) {
		return map[string]string{"cleanup.policy": "delete", "segment.bytes": "16384", "retention.bytes": "40000"}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, p, _ := compactedBox(t, disk, 2)
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Read && strings.Contains(op.Name, "/t-0/0") {
			t.Error(op)
		}
		return nil
	}, nil)
	s.Retain()
	disk.OnOp(nil, nil)
	if p.LogStartOffset() == 0 {
		t.Error("nothing was removed")
	}
	if n := int64(len(records(t, p))); n != p.HighWatermark()-p.LogStartOffset() {
		t.Errorf("%d records from %d to %d", n, p.LogStartOffset(), p.HighWatermark())
	}
}

// A partition that cannot be opened after its rounds were replayed keeps them, though
// the write-ahead log forgets them while it is offline.
func TestOfflinePartitionKeepsWhatWasReplayed(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	for range 3 {
		if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); err != nil {
			t.Fatal(err)
		}
	}
	disk = disk.Clone(crashfs.CloneConfig{})
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Read && strings.HasSuffix(op.Name, ".log") {
			return syscall.EIO
		}
		return nil
	}, nil)
	s, p = openOne(t, disk, 2)
	disk.OnOp(nil, nil)
	if p.Err() == nil {
		t.Fatal("the partition is not offline")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, p = openOne(t, disk.Clone(crashfs.CloneConfig{}), 3); len(records(t, p)) != 3 {
		t.Errorf("%d records, lost %+v", len(records(t, p)), p.Lost())
	}
}

// shortCatalog has forgotten partitions of a topic.
type shortCatalog struct {
	noTopics
	entry Entry
}

func (c shortCatalog) Topics() ([]Entry, error) { return []Entry{c.entry}, nil }

// A Catalog of before AddPartitions does not take the new partitions away.
func TestOldCatalogDoesNotTakePartitionsAway(t *testing.T) {
	disk := crashfs.New()
	open := func(c Catalog, epoch int32) *Set {
		s, err := Open(Options{FS: disk, Catalog: c, LeaderEpoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s := open(noTopics{}, 1)
	to, err := s.Create("t", Spec{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	old := to.entry()
	if err := s.AddPartitions("t", 2); err != nil {
		t.Fatal(err)
	}
	tp := record.TopicPartition{Topic: "t", Partition: 1}
	if _, err := s.Append(context.Background(), tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	disk = disk.Clone(crashfs.CloneConfig{})
	s = open(shortCatalog{entry: old}, 2)
	p, err := s.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, p)); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}

// A sync that failed in a Delete succeeds the next time, although the records are not on
// the disk: the set stops, also where the reason is a disk without room.
func TestFailedSyncInADeleteStopsTheSet(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	s.wal.CatchUp()
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && strings.HasSuffix(op.Name, ".log") {
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	if err := s.Delete("t"); err == nil || s.Err() == nil {
		t.Errorf("%v, and the set goes on: %v", err, s.Err())
	}
}
