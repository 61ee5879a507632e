//go:build !race

package kafka_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
)

// hotAllocs is the ceiling of allocations for one request, all goroutines counted.
// The race detector makes pools forget, so it does not hold there.
const hotAllocs = 0

func TestHotPathsDoNotAllocate(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	id := create(t, topics, "t", 8).ID()
	hot := kafka.NewHot(s)
	var batches [][]byte
	for range 8 {
		batches = append(batches, batchOf(t, record.None, "some", "records", "in", "a", "batch"))
	}
	run := func(key, version int16, body []byte) func() {
		return func() {
			if err := hot.Handle(key, version, body, io.Discard); err != nil {
				t.Error(err)
			}
		}
	}
	for _, v := range []int16{9, 13} {
		produce := produceByID(id, -1, batches...)
		produce.SetVersion(v)
		if n := testing.AllocsPerRun(200, run(0, v, produce.AppendTo(nil))); n > hotAllocs {
			t.Errorf("a Produce v%d of 8 batches allocates %v times, at most %d", v, n, hotAllocs)
		}
	}
	for _, v := range []int16{12, 18} {
		fetch := fetchByID(id, 0, 0, 1, 2, 3, 4, 5, 6, 7)
		fetch.SetVersion(v)
		for i := range fetch.Topics[0].Partitions {
			fetch.Topics[0].Partitions[i].PartitionMaxBytes = 4 << 10
		}
		if n := testing.AllocsPerRun(200, run(1, v, fetch.AppendTo(nil))); n > hotAllocs {
			t.Errorf("a Fetch v%d of 8 partitions allocates %v times, at most %d", v, n, hotAllocs)
		}
		if n := testing.AllocsPerRun(200, session(t, hot, fetch)); n > hotAllocs {
			t.Errorf("a Fetch v%d in a session of 8 partitions allocates %v times, at most %d", v, n, hotAllocs)
		}
	}
}

// session opens a fetch session and returns its next request, again and again: one
// partition has moved and is read, the others are known.
func session(t testing.TB, hot *kafka.Hot, fetch *kmsg.FetchRequest) func() {
	var out bytes.Buffer
	fetch.SessionEpoch = 0
	if err := hot.Handle(1, fetch.Version, fetch.AppendTo(nil), &out); err != nil {
		t.Fatal(err)
	}
	at := 8 + 4 + 2 // size and correlation id, throttle, error
	if fetch.Version >= 12 {
		at++
	}
	fetch.SessionID = int32(binary.BigEndian.Uint32(out.Bytes()[at:]))
	fetch.Topics[0].Partitions = fetch.Topics[0].Partitions[:1]
	body, epochAt := fetch.AppendTo(nil), 4+4+4+1+4 // after wait, sizes, isolation and session
	if fetch.Version < 15 {
		epochAt += 4 // and the replica id
	}
	epoch := uint32(0)
	return func() {
		epoch++
		binary.BigEndian.PutUint32(body[epochAt:], epoch)
		if err := hot.Handle(1, fetch.Version, body, io.Discard); err != nil {
			t.Error(err)
		}
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
