package compat_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/compat"
)

// topics is a catalog in memory.
type topics struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *topics) Topics() ([]topic.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.entries)), nil
}

func (c *topics) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *topics) DeleteTopic(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	return nil
}

var dumpedRecord = regexp.MustCompile(`(?m)^\| offset: (\d+) `)

// dump has Kafka's own tool read segments and their indexes. Whatever it finds
// fault with fails the test, but for offsets that are missing: who calls knows of those.
func dump(t *testing.T, dir string, suffix string, args ...string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "topics", "t-*", "*"+suffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s: %v", suffix, dir, err)
	}
	slices.Sort(files)
	out, err := compat.Tool("kafka.tools.DumpLogSegments", append([]string{"--files", strings.Join(files, ",")}, args...)...)
	if err != nil {
		if compat.ToolMissing(err) {
			t.Skipf("skipped: %s", out)
		}
		t.Fatalf("DumpLogSegments of %s: %v\n%s", dir, err, out)
	}
	for _, fault := range []string{"isvalid: false", "Mismatch", "mismatch", "Found timestamp", "Exception", "Indexed offset:", "Misindexed", "out of order"} {
		if at := strings.Index(out, fault); at >= 0 {
			t.Errorf("DumpLogSegments of %s%s: %s", dir, suffix, out[max(0, at-200):min(len(out), at+300)])
		}
	}
	return out
}

// Kafka's own DumpLogSegments reads our segments, with every codec, and finds
// nothing wrong with them or with their indexes: as they were written, after a
// restart, and after records were removed.
func TestKafkaReadsOurSegments(t *testing.T) {
	compat.Require(t)
	dir := t.TempDir()
	catalog := &topics{entries: map[string]topic.Entry{}}
	now := time.UnixMilli(1_700_000_000_000)
	open := func(epoch int32) *topic.Set {
		s, err := topic.Open(topic.Options{FS: vfs.OS(dir), Catalog: catalog, LeaderEpoch: epoch, Now: func() time.Time { return now },
			WAL: wal.Options{FileBytes: 1 << 20}, CheckpointInterval: time.Hour, RetentionInterval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(1)
	if _, err := s.Create("t", topic.Spec{Partitions: 5, Configs: map[string]string{"segment.bytes": "60000", "retention.bytes": "100000"}}); err != nil {
		t.Fatal(err)
	}
	ends := map[int32]int64{}
	fill := func() {
		for i := range 120 {
			now = now.Add(time.Second)
			for codec := range int32(5) {
				ends[codec] = appendSome(t, s, codec, i, now)
			}
		}
	}
	fill()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	starts := map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0, 4: 0}
	checkDumps(t, dir, starts, ends)

	s = open(2)
	fill()
	s.Retain()
	for codec := range int32(5) {
		p, err := s.Partition(record.TopicPartition{Topic: "t", Partition: codec})
		if err != nil {
			t.Fatal(err)
		}
		segments, err := filepath.Glob(filepath.Join(dir, "topics", fmt.Sprint("t-", codec), "*.log"))
		if err != nil || len(segments) == 0 {
			t.Fatal(err)
		}
		slices.Sort(segments)
		starts[codec], _ = strconv.ParseInt(strings.TrimSuffix(filepath.Base(segments[0]), ".log"), 10, 64)
		if p.LogStartOffset() < starts[codec] {
			t.Errorf("partition %d starts at %d, its first segment at %d", codec, p.LogStartOffset(), starts[codec])
		}
	}
	if starts[0] == 0 {
		t.Error("retention removed nothing: the test is too small")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkDumps(t, dir, starts, ends)
}

// The same of compacted segments: the tool reads the very records that are left.
func TestKafkaReadsCompactedSegments(t *testing.T) {
	compat.Require(t)
	dir := t.TempDir()
	now := time.UnixMilli(1_700_000_000_000)
	s, err := topic.Open(topic.Options{FS: vfs.OS(dir), Catalog: &topics{entries: map[string]topic.Entry{}}, LeaderEpoch: 1, Now: func() time.Time { return now },
		WAL: wal.Options{FileBytes: 1 << 20}, CheckpointInterval: time.Hour, RetentionInterval: time.Hour, Cleaner: topic.CleanerOptions{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("t", topic.Spec{Partitions: 5, Configs: map[string]string{"segment.ms": "20000", "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 120 {
		now = now.Add(time.Second)
		for codec := range int32(5) {
			appendSome(t, s, codec, i, now)
		}
	}
	s.Compact()
	want := map[int32][]int64{}
	for codec := range int32(5) {
		p, err := s.Partition(record.TopicPartition{Topic: "t", Partition: codec})
		if err != nil {
			t.Fatal(err)
		}
		for next := int64(0); next < p.HighWatermark(); {
			batches, err := s.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for b := range batches.All() {
				rs, err := b.Records()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rs {
					want[codec] = append(want[codec], r.Offset)
				}
				next = b.NextOffset()
			}
		}
		if n := int64(len(want[codec])); n == 0 || n > p.HighWatermark()/2 {
			t.Errorf("partition %d holds %d of %d records: compaction did too little for this test", codec, n, p.HighWatermark())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := dumped(t, dir)
	for codec := range int32(5) {
		if !slices.Equal(got[codec], want[codec]) {
			t.Errorf("partition %d: the tool reads offsets %v, Weir reads %v", codec, got[codec], want[codec])
		}
	}
	checkIndexes(t, dir)
}

// appendSome appends a batch of the partition's codec, and returns the end of the log.
func appendSome(t *testing.T, s *topic.Set, codec int32, i int, now time.Time) int64 {
	t.Helper()
	rs := make([]record.Record, 1+i%7)
	for j := range rs {
		rs[j] = record.Record{Timestamp: now.UnixMilli() + int64(j), Key: fmt.Append(nil, "key ", j),
			Value:   []byte(strings.Repeat(fmt.Sprint("value ", i, " "), 20+i%30)),
			Headers: []record.Header{{Key: "h", Value: []byte{byte(i)}}}}
	}
	b, err := record.NewBatch(record.Codec(codec), rs...)
	if err != nil {
		t.Fatal(err)
	}
	base, err := s.Append(context.Background(), record.TopicPartition{Topic: "t", Partition: codec}, b)
	if err != nil {
		t.Fatal(err)
	}
	return base + int64(len(rs))
}

// checkDumps makes sure that the tool reads every record, from the first of the
// first segment to the last, and compares the indexes with the segments.
func checkDumps(t *testing.T, dir string, starts, ends map[int32]int64) {
	t.Helper()
	next := maps.Clone(starts)
	for codec, offsets := range dumped(t, dir) {
		for _, offset := range offsets {
			if offset != next[codec] {
				t.Fatalf("partition %d: offset %d follows %d", codec, offset, next[codec]-1)
			}
			next[codec]++
		}
	}
	if !maps.Equal(next, ends) {
		t.Errorf("the tool reads records up to %v, want them up to %v", next, ends)
	}
	checkIndexes(t, dir)
}

// dumped is the offsets of the records that the tool reads, by partition.
func dumped(t *testing.T, dir string) map[int32][]int64 {
	t.Helper()
	offsets := map[int32][]int64{}
	out := dump(t, dir, ".log", "--deep-iteration", "--print-data-log")
	for section := range strings.SplitSeq(out, "Dumping ") {
		var codec int32
		if _, folder, ok := strings.Cut(section, "/topics/t-"); !ok {
			continue // what comes before the first
		} else if _, err := fmt.Sscanf(folder, "%d/", &codec); err != nil {
			t.Fatal(err)
		}
		for _, found := range dumpedRecord.FindAllStringSubmatch(section, -1) {
			offset, err := strconv.ParseInt(found[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			offsets[codec] = append(offsets[codec], offset)
		}
	}
	return offsets
}

func checkIndexes(t *testing.T, dir string) {
	t.Helper()
	for _, suffix := range []string{".index", ".timeindex"} {
		dump(t, dir, suffix)
		dump(t, dir, suffix, "--index-sanity-check")
	}
}
