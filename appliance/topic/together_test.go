package topic_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// A checkpoint of many partitions at once gives no state file its name before its bytes
// are on the disk: a power cut that keeps the name must not take what it names.
func TestStatesAreOnTheDiskBeforeTheirNames(t *testing.T) {
	disk := crashfs.New()
	b := newBox(t)
	b.fs = disk
	b.opts.CheckpointInterval, b.opts.RetentionInterval = time.Hour, time.Hour
	s := b.open()
	const partitions = 5
	if _, err := s.Create("t", topic.Spec{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		appendValues(t, s, record.TopicPartition{Topic: "t", Partition: p}, "a", "b")
	}
	var mu sync.Mutex
	var left []*crashfs.FS
	disk.OnOp(nil, func(op crashfs.Op) {
		if op.Kind == crashfs.Rename && strings.Contains(op.Name, "partition.state") {
			mu.Lock()
			defer mu.Unlock()
			for seed := range uint64(8) {
				left = append(left, disk.Clone(crashfs.CloneConfig{Keep: 50, Rand: rand.New(rand.NewPCG(seed, uint64(len(left))))}))
			}
		}
	})
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil, nil)
	if len(left) < partitions {
		t.Fatalf("%d disks: the checkpoint renamed no states", len(left))
	}
	for i, disk := range left {
		after := &box{t: t, fs: disk, catalog: b.catalog, epoch: 1, opts: b.opts}
		s := after.open()
		for p := range int32(partitions) {
			if got := values(t, s, record.TopicPartition{Topic: "t", Partition: p}, 0); len(got) != 2 {
				t.Errorf("disk %d: partition %d holds %q", i, p, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if kept, err := disk.List("quarantine"); err == nil && len(kept) > 0 {
			t.Fatalf("disk %d: a state was taken for damaged: %q", i, kept)
		}
	}
}
