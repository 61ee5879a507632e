//go:build !race

package kafka_test

import (
	"io"
	"testing"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
)

// hotAllocs is the ceiling of allocations for one request, all goroutines counted.
// The race detector makes pools forget, so it does not hold there.
const hotAllocs = 0

func TestHotPathsDoNotAllocate(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 8)
	hot := kafka.NewHot(s)
	var batches [][]byte
	for range 8 {
		batches = append(batches, batchOf(t, record.None, "some", "records", "in", "a", "batch"))
	}
	produce := produceOf(-1, batches...)
	produce.SetVersion(9)
	body := produce.AppendTo(nil)
	run := func(key, version int16, body []byte) func() {
		return func() {
			if err := hot.Handle(key, version, body, io.Discard); err != nil {
				t.Error(err)
			}
		}
	}
	if n := testing.AllocsPerRun(200, run(0, 9, body)); n > hotAllocs {
		t.Errorf("a Produce of 8 batches allocates %v times, at most %d", n, hotAllocs)
	}
	fetch := fetchOf("t", 0, 0, 1, 2, 3, 4, 5, 6, 7)
	fetch.SetVersion(12)
	for i := range fetch.Topics[0].Partitions {
		fetch.Topics[0].Partitions[i].PartitionMaxBytes = 4 << 10
	}
	if n := testing.AllocsPerRun(200, run(1, 12, fetch.AppendTo(nil))); n > hotAllocs {
		t.Errorf("a Fetch of 8 partitions allocates %v times, at most %d", n, hotAllocs)
	}
}

func BenchmarkProduce(b *testing.B) {
	s, topics := newBroker(b, kafka.Options{})
	create(b, topics, "t", 1)
	hot := kafka.NewHot(s)
	req := produceOf(-1, batchOf(b, record.None, string(make([]byte, 1000))))
	req.SetVersion(9)
	body := req.AppendTo(nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := hot.Handle(0, 9, body, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
