package topic_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

// countingFS counts the writes to segments.
type countingFS struct {
	vfs.FS
	writes *atomic.Int64
}

type countingFile struct {
	vfs.File
	writes *atomic.Int64
}

func (c countingFS) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	if err == nil && strings.HasSuffix(name, ".log") {
		f = countingFile{f, c.writes}
	}
	return f, err
}

func (f countingFile) WriteAt(b []byte, at int64) (int, error) {
	f.writes.Add(1)
	return f.File.WriteAt(b, at)
}

// One round holds small and large batches of two partitions, with segments that
// roll within it. Everything must be where it belongs, in order, in few writes.
func TestBatchesOfARoundAreWrittenTogether(t *testing.T) {
	var writes atomic.Int64
	b := newBox(t)
	b.fs = countingFS{b.fs, &writes}
	b.opts.WAL.FileBytes = 4 << 20
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Partitions: 2, Configs: map[string]string{"segment.bytes": "131072"}}); err != nil {
		t.Fatal(err)
	}
	var group []record.Write
	want := map[int32][]string{}
	add := func(partition int32, n, size int) {
		for range n {
			v := fmt.Sprintf("%d %s", len(group), strings.Repeat("x", size))
			want[partition] = append(want[partition], v)
			group = append(group, record.Write{TopicPartition: record.TopicPartition{Topic: "t", Partition: partition}, Batch: batch(t, 0, v)})
		}
	}
	add(0, 100, 200)   // one write
	add(0, 1, 100_000) // a write of its own: longer than what is gathered
	add(0, 50, 200)    // one, or two where the segment rolls
	add(1, 1, 10)      // one
	add(0, 3, 30_000)  // two: they do not fit together, and the segment may roll
	add(1, 40, 4000)   // three or four
	add(0, 1, 10)      // one
	if err := s.AppendAtomic(context.Background(), group); err != nil {
		t.Fatal(err)
	}
	for partition, all := range want { // once it can be read it is written
		values(t, s, record.TopicPartition{Topic: "t", Partition: partition}, int64(len(all)-1))
	}
	if n := writes.Load(); n < 7 || n > 14 {
		t.Errorf("%d batches took %d writes, want 7 to 14", len(group), n)
	}
	check := func(when string) {
		for partition, all := range want {
			tp := record.TopicPartition{Topic: "t", Partition: partition}
			if got := values(t, s, tp, 0); !slices.Equal(got, all) {
				t.Errorf("%s: partition %d holds %d records, not the %d in order", when, partition, len(got), len(all))
			}
			for offset := range int64(len(all)) { // by way of the index
				if got := values(t, s, tp, offset); got[0] != all[offset] {
					t.Fatalf("%s: partition %d, offset %d is %.20q, want %.20q", when, partition, offset, got[0], all[offset])
				}
			}
		}
	}
	check("at once")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = b.open()
	check("after a restart")
}
