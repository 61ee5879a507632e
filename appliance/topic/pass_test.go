package topic_test

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// Who reads up to the high watermark gets there, though the records before it are
// lost, and then has what comes after.
func TestReadersPassALostEnd(t *testing.T) {
	disk, catalog := crashfs.New(), &fixedCatalog{entries: map[string]topic.Entry{}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tp := record.TopicPartition{Topic: "a"}
	set, err := openOn(disk, catalog, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Create("a", topic.Spec{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	var size int64
	for i := range 6 {
		b := batch(t, record.None, "value")
		if i < 4 {
			size += int64(len(b))
		}
		if _, err := set.Append(ctx, tp, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Open("topics/a-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if set, err = openOn(disk, catalog, 2, time.Now); err != nil {
		t.Fatal(err)
	}
	p, err := set.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	if p.HighWatermark() != 6 {
		t.Fatalf("high watermark %d, want 6", p.HighWatermark())
	}
	next, records := int64(0), int32(0)
	for next < 6 {
		bs, err := set.Fetch(ctx, tp, next, 1<<20)
		if err != nil {
			t.Fatal("from", next, err)
		}
		for b := range bs.All() {
			next, records = b.NextOffset(), records+b.Count()
		}
	}
	if next != 6 || records != 4 {
		t.Errorf("%d records up to offset %d, want 4 up to 6", records, next)
	}
	if _, err := set.Append(ctx, tp, batch(t, record.None, "after")); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{4, 6} {
		bs, err := set.Fetch(ctx, tp, from, 1<<20)
		if err != nil {
			t.Fatal("from", from, err)
		}
		for b := range bs.All() {
			if b.BaseOffset() != 6 || b.Count() != 1 {
				t.Errorf("from %d: %d records at %d, want the one at 6", from, b.Count(), b.BaseOffset())
			}
		}
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	// A set that is closed has nothing to say about what is lost.
	if c, err := p.Read(0, 1<<20); err == nil && c.Len() > 0 {
		t.Errorf("%d bytes from a log that is closed", c.Len())
	}
}
