package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The ceiling is broker enough for a client: what is produced is consumed, in order.
func TestCeilingServesAClient(t *testing.T) {
	c, err := newCeiling(true, t.TempDir(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.ln.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addr()), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const n = 1000
	got := map[int32]int{}
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: fmt.Append(nil, i/2)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	for got[0]+got[1] < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprint(got[r.Partition]); string(r.Value) != want || r.Offset != int64(got[r.Partition]) {
				t.Fatalf("partition %d: %q at %d, want %s", r.Partition, r.Value, r.Offset, want)
			}
			got[r.Partition]++
		})
	}
}
