package topic_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// nth makes the nth operation fail for which match is true.
func nth(disk *crashfs.FS, n int, match func(op crashfs.Op) bool) {
	disk.OnOp(func(op crashfs.Op) error {
		if !match(op) {
			return nil
		}
		if n--; n == 0 {
			return syscall.EIO
		}
		return nil
	}, nil)
}

// A partition that cannot be opened is passed over by checkpoints. What was replayed
// into it must not be forgotten by the write-ahead log before it is on the disk.
func TestWhatAnOfflinePartitionReplayedIsKept(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		create(t, s, name, topic.Spec{Partitions: 1})
	}
	tp := record.TopicPartition{Topic: "a"}
	sent := batch(t, record.None, "one", "two", "three")
	sent.SetProducer(producerID, 0, 0)
	if _, err := s.Append(context.Background(), tp, slices.Clone(sent)); err != nil {
		t.Fatal(err)
	}
	p, _ := s.Partition(tp)
	if _, err := p.DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	left := disk.Clone(crashfs.CloneConfig{}) // the write-ahead log alone has it
	s.Close()

	nth(left, 3, func(op crashfs.Op) bool { return op.Kind == crashfs.List && op.Name == "topics/a-0" })
	if s, err = openOn(left, names, 2, time.Now); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.Partition(tp); !errors.Is(p.Err(), syscall.EIO) {
		t.Fatalf("the partition is to be offline: %v", p.Err())
	}
	appendTo(t, s, "b", "and a checkpoint")
	left = left.Clone(crashfs.CloneConfig{})
	s.Close()

	if s, err = openOn(left, names, 3, time.Now); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := values(t, s, tp, 1); !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("%q", got)
	}
	if p, _ := s.Partition(tp); p.LogStartOffset() != 1 || p.HighWatermark() != 3 {
		t.Errorf("from %d to %d", p.LogStartOffset(), p.HighWatermark())
	}
	if base, err := s.Append(context.Background(), tp, slices.Clone(sent)); base != 0 || err != nil {
		t.Errorf("a resend: offset %d, %v", base, err)
	}
}

// If that cannot be made durable either, the set does not open.
func TestNoStartWhereWhatIsReplayedCannotBeKept(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", topic.Spec{Partitions: 1})
	if _, err := s.Append(context.Background(), record.TopicPartition{Topic: "a"}, batch(t, record.None, "one")); err != nil {
		t.Fatal(err)
	}
	left := disk.Clone(crashfs.CloneConfig{})
	s.Close()
	lists := 0
	left.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.List && op.Name == "topics/a-0" {
			lists++
		}
		if lists > 2 && strings.HasPrefix(op.Name, "topics/a-0") {
			return syscall.EIO
		}
		return nil
	}, nil)
	if s, err = openOn(left, names, 2, time.Now); err == nil {
		s.Close()
	}
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "a-0") {
		t.Errorf("Open: %v", err)
	}
	if n := left.OpenFiles(); n != 0 {
		t.Errorf("%d files open", n)
	}
}

// A Delete that fails half way leaves the identity where the trash is. It must not be
// shredded there: whether the topic is deleted is decided by the next start.
func TestTheTrashOfADeleteInDoubtStays(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	made := create(t, s, "a", topic.Spec{Partitions: 1, Configs: smallSegments})
	appendTo(t, s, "a", "one")
	nth(disk, 1, func(op crashfs.Op) bool {
		return op.Kind == crashfs.SyncDir && strings.HasPrefix(op.Name, "trash/")
	})
	if err := s.Delete("a"); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Delete: %v", err)
	}
	if n, err := s.EmptyTrash(0); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("EmptyTrash: %d, %v", n, err)
	}
	s.Close()
	disk.OnOp(nil, nil)
	if s, err = openOn(disk.Clone(crashfs.CloneConfig{Keep: 100}), newCatalog(), 2, time.Now); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.ByID(made.ID()) != nil {
		t.Error("its identity was in the trash, and it is back")
	}
}

// What a checkpoint said is known after a power cut: a segment that was cut off since,
// at the end of a batch, is not taken for a log that ends there.
func TestWatermarksAreDurable(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", topic.Spec{Partitions: 1})
	tp := record.TopicPartition{Topic: "a"}
	const file = "topics/a-0/00000000000000000000.log"
	var ends []int64
	for _, v := range []string{"one", "two", "three"} { // the first checkpoint makes the file, others write to it
		appendTo(t, s, "a", v)
		f, err := disk.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		ends = append(ends, size)
		f.Close()
	}
	left := disk.Clone(crashfs.CloneConfig{})
	s.Close()
	f, err := left.Open(file)
	if err == nil {
		err = errors.Join(f.Truncate(ends[1]), f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if s, err = openOn(left, names, 2, time.Now); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if lost := s.Lost(); len(lost) != 1 || lost[0].First != 2 || lost[0].Last != 2 {
		t.Errorf("lost: %+v", lost)
	}
	if base, err := s.Append(context.Background(), tp, batch(t, record.None, "four")); base != 3 || err != nil {
		t.Errorf("the next offset is %d, %v", base, err)
	}
}

func onDisk(t *testing.T, disk *crashfs.FS, name string) (content string, there bool) {
	t.Helper()
	f, err := disk.Open(name)
	if err != nil {
		return "", false
	}
	defer f.Close()
	size, _ := f.Size()
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, 0); int64(n) < size {
		t.Fatalf("read %d of %d bytes of %s", n, size, name)
	}
	return string(b), true
}

// The power goes in a checkpoint, when it has noted how far the segments are and the
// write-ahead log still begins with the end of one of them: the next, which has all
// of its batches, is not begun again.
func TestASegmentBelowTheWatermarkIsNotBegunAgain(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "d", topic.Spec{Partitions: 1, Configs: map[string]string{"weir.disk.policy": topic.DiskDropOldest}})
	tp := record.TopicPartition{Topic: "d"}
	for range 10 {
		appendTo(t, s, "d", strings.Repeat("x", 10_000))
	}
	s.Close()
	if s, err = openWithin(disk, names, 2, time.Now, 128<<10); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Reclaim()
	p, _ := s.Partition(tp)
	if p.LogStartOffset() != 10 {
		t.Fatalf("the log starts at %d", p.LogStartOffset())
	}
	if _, err := s.Append(context.Background(), tp, batch(t, record.None, "kept")); err != nil {
		t.Fatal(err)
	}
	var left *crashfs.FS
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write && op.Name == "wal/checkpoint" {
			left = disk.Clone(crashfs.CloneConfig{})
		}
		return nil
	}, nil)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil, nil)
	again, err := openOn(left, names, 3, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := values(t, again, tp, 10); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("%q, lost: %+v", got, again.Lost())
	}
}

// A watermark with a wrong byte is not believed.
func TestDamagedWatermarkIsNotBelieved(t *testing.T) {
	disk, names := crashfs.New(), newCatalog()
	s, err := openOn(disk, names, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", topic.Spec{Partitions: 1})
	appendTo(t, s, "a", "one")
	appendTo(t, s, "a", "two")
	s.Close()
	f, err := disk.Open("wal/watermarks")
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	if _, err := f.WriteAt([]byte{1}, size-72+35); err != nil { // the end offset, by 2^32
		t.Fatal(err)
	}
	f.Close()
	if s, err = openOn(disk, names, 2, time.Now); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, _ := s.Partition(record.TopicPartition{Topic: "a"})
	if lost := s.Lost(); p.HighWatermark() != 2 || len(lost) != 0 {
		t.Errorf("the log ends at %d, lost: %+v", p.HighWatermark(), lost)
	}
}
