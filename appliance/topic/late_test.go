package topic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// newLateBox is a box that takes every round for crowded, and counts the writes to segments.
func newLateBox(t *testing.T) (b *box, writes *atomic.Int64) {
	b, writes = newBox(t), new(atomic.Int64)
	b.fs = countingFS{b.fs, writes}
	b.opts.WAL.CrowdedRuns, b.opts.WAL.FileBytes = 1, 4<<20 // no checkpoint for want of room
	b.opts.CheckpointInterval, b.opts.RetentionInterval = time.Hour, time.Hour
	return b, writes
}

func appendValues(t *testing.T, s *topic.Set, tp record.TopicPartition, values ...string) {
	t.Helper()
	for _, v := range values {
		if _, err := s.Append(context.Background(), tp, batch(t, record.None, v)); err != nil {
			t.Fatal(err)
		}
	}
}

// Batches of crowded rounds cost their segment one write, with the checkpoint, and
// are all there at their offsets, before it, after it and after a restart.
func TestCrowdedRoundsAreWrittenLate(t *testing.T) {
	const partitions, each = 20, 30
	b, writes := newLateBox(t)
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	want := make([][]string, partitions)
	for i := range each {
		for p := range int32(partitions) {
			v := fmt.Sprintf("%d of %d", i, p)
			want[p] = append(want[p], v)
			appendValues(t, s, record.TopicPartition{Topic: "t", Partition: p}, v)
		}
	}
	check := func(when string, partitions []*topic.Partition) {
		for _, p := range partitions {
			if got := values(t, s, p.TopicPartition(), 0); !slices.Equal(got, want[p.TopicPartition().Partition]) {
				t.Errorf("%s: %s holds %q", when, p.TopicPartition(), got)
			}
		}
	}
	all := s.Topic("t").Partitions()
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes to segments before anybody reads", n)
	}
	check("of the last", all[partitions-1:]) // everything is applied then, and on its way there may be two writes
	writes.Store(1)
	check("before the checkpoint", all[partitions-5:])
	late := all[0].Size()
	if n := writes.Load(); n != 5 {
		t.Errorf("reading 5 partitions took %d writes to segments, want one each", n)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if n := writes.Load(); n != partitions {
		t.Errorf("%d writes to segments, want one for each of %d partitions", n, partitions)
	}
	if n := all[0].Size(); late == 0 || late != n {
		t.Errorf("a partition has %d bytes while they are late, %d afterwards", late, n)
	}
	check("after the checkpoint", all)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = b.open()
	check("after a restart", s.Topic("t").Partitions())
}

// The end, times and Watch do not tell that batches are late, and a segment that
// rolls between them is no obstacle.
func TestLateBatchesAreFound(t *testing.T) {
	b, _ := newLateBox(t)
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Configs: map[string]string{"segment.bytes": "16384"}}); err != nil {
		t.Fatal(err)
	}
	p := s.Topic("t").Partitions()[0]
	large := strings.Repeat("x", 6000)
	appendValues(t, s, p.TopicPartition(), "first", large, large, large, large, "last")
	if offset, _, err := p.OffsetForTime(0); offset != 0 || err != nil {
		t.Errorf("the first record by time is at %d, %v", offset, err)
	}
	appendValues(t, s, p.TopicPartition(), "behind")
	if offset, _, err := p.MaxTimestamp(); offset < 0 || err != nil {
		t.Errorf("the greatest timestamp is at %d, %v", offset, err)
	}
	if got := values(t, s, p.TopicPartition(), 0); len(got) != 7 || got[0] != "first" || got[6] != "behind" {
		t.Errorf("%d records", len(got))
	}
	// Who waits is told of a batch that is in its segment.
	ch := make(chan struct{}, 1)
	p.Watch(ch)
	defer p.Unwatch(ch)
	appendValues(t, s, p.TopicPartition(), "watched")
	<-ch
	if got := values(t, s, p.TopicPartition(), 7); !slices.Equal(got, []string{"watched"}) {
		t.Errorf("after a watched append: %q", got)
	}
}

// A deleted topic's late batches go to the trash with it, and nothing is written to a
// log that is closed. The write-ahead log's files are used again meanwhile.
func TestLateBatchesOfADeletedTopic(t *testing.T) {
	b, _ := newLateBox(t)
	b.opts.WAL.FileBytes, b.opts.WAL.MaxFiles = 64<<10, 2
	s := b.open()
	for _, name := range []string{"gone", "stays"} {
		if _, err := s.Create(name, topic.Spec{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := record.TopicPartition{Topic: "gone"}
	p := s.Topic("gone").Partitions()[0]
	appendValues(t, s, gone, "one", "two", "three")
	size := int64(0)
	for _, v := range []string{"one", "two", "three"} {
		size += int64(len(batch(t, record.None, v)))
	}
	if err := s.Delete("gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(0, 1000); !errors.Is(err, record.ErrUnknownTopicOrPartition) {
		t.Errorf("reading a deleted topic: %v", err)
	}
	for range 40 {
		appendValues(t, s, record.TopicPartition{Topic: "stays"}, strings.Repeat("y", 10_000))
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	dirs, err := b.fs.List("trash")
	if err != nil || len(dirs) != 1 {
		t.Fatalf("the trash holds %q, %v", dirs, err)
	}
	f, err := b.fs.Open("trash/" + dirs[0] + "/gone-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Size(); n != size || err != nil {
		t.Errorf("%d bytes are in the trash, %v, want %d", n, err, size)
	}
}

// What reads back from the write-ahead log other than it was committed does not get
// into a segment: the set stops, and says why.
func TestLateBatchThatReadsBackDamaged(t *testing.T) {
	b, writes := newLateBox(t)
	s := b.open()
	if _, err := s.Create("t", topic.Spec{}); err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("damage me", 20)
	appendValues(t, s, record.TopicPartition{Topic: "t"}, value)
	if !damage(t, b, value) {
		t.Fatal("the value is in no file of the write-ahead log")
	}
	p := s.Topic("t").Partitions()[0]
	if _, err := p.Read(0, 1000); !errors.Is(err, record.ErrStorage) || !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("reading it: %v", err)
	}
	if err := s.Err(); !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), "t-0") {
		t.Errorf("the set goes on with %v", err)
	}
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes to the segment", n)
	}
}

// damage flips a byte of the value where it stands in the write-ahead log.
func damage(t *testing.T, b *box, value string) bool {
	names, err := b.fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := b.fs.Open("wal/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		all := make([]byte, size)
		if _, err := f.ReadAt(all, 0); err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(all, []byte(value)); at >= 0 {
			if _, err := f.WriteAt([]byte{all[at] ^ 1}, int64(at)); err != nil {
				t.Fatal(err)
			}
			return true
		}
	}
	return false
}
