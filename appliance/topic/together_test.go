package topic_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// filledTogether is a topic of so many partitions with two records each, and no
// checkpoint yet.
func filledTogether(t *testing.T, partitions int32) (*box, *crashfs.FS, *topic.Set) {
	t.Helper()
	b, disk := newBox(t), crashfs.New()
	b.fs = disk
	b.opts.CheckpointInterval, b.opts.RetentionInterval = time.Hour, time.Hour
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		appendValues(t, s, record.TopicPartition{Topic: "t", Partition: p}, "a", "b")
	}
	return b, disk, s
}

// A checkpoint of many partitions at once gives no state file its name before its bytes
// are on the disk: a power cut that keeps the name must not take what it names.
func TestStatesAreOnTheDiskBeforeTheirNames(t *testing.T) {
	const partitions = 5
	b, disk, s := filledTogether(t, partitions)
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

// The names of the states are on the disk before a watermark says so: it would take the
// old ones for copies of another day.
func TestNamesOfStatesAreOnTheDiskBeforeTheWatermarks(t *testing.T) {
	const partitions = 5
	_, disk, s := filledTogether(t, partitions)
	looked := false
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind != crashfs.Write || !strings.Contains(op.Name, "watermarks") || looked {
			return nil
		}
		looked = true
		left := disk.Clone(crashfs.CloneConfig{})
		for p := range partitions {
			if names, err := left.List(fmt.Sprintf("topics/t-%d", p)); err != nil || !slices.Contains(names, "partition.state") {
				t.Errorf("partition %d has %q, %v", p, names, err)
			}
		}
		return nil
	}, nil)
	if err := s.Checkpoint(); err != nil || !looked {
		t.Fatal(err, looked)
	}
	disk.OnOp(nil, nil)
}

// watchful is a catalog that looks at the disk whenever it is told of a topic.
type watchful struct {
	*catalog
	told func(e topic.Entry)
}

func (w watchful) PutTopic(e topic.Entry) error {
	w.told(e)
	return w.catalog.PutTopic(e)
}

// The catalog is told of a topic, and of more partitions, once their folders and the
// topic's identity are on the disk: what it names is there, whenever the power goes.
func TestCatalogNamesWhatIsOnTheDisk(t *testing.T) {
	disk := crashfs.New()
	told := 0
	c := watchful{newCatalog(), func(e topic.Entry) {
		told++
		names, err := disk.Clone(crashfs.CloneConfig{}).List("topics")
		if err != nil {
			t.Fatal(err)
		}
		for p := range e.Partitions {
			if folder := fmt.Sprint(e.Name, "-", p); !slices.Contains(names, folder) {
				t.Errorf("the catalog is told of %d partitions, and of %s a power cut leaves %q", e.Partitions, folder, names)
			}
		}
		if !slices.Contains(names, e.Name+".topic") {
			t.Errorf("the catalog is told of %s, whose identity a power cut takes: %q is left", e.Name, names)
		}
	}}
	s, err := topic.Open(topic.Options{FS: disk, Catalog: c, LeaderEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Create("t", topic.Spec{Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddPartitions("t", 5); err != nil {
		t.Fatal(err)
	}
	if told != 2 {
		t.Errorf("the catalog was told %d times", told)
	}
}
