package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

// franz-go reads a compacted topic to its end, over offsets that are gone and
// batches that stay empty, and so it builds the table that was written.
func TestFranzGoReadsACompactedTopic(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	if _, err := topics.Create("state", topic.Spec{Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01"}}); err != nil {
		t.Fatal(err)
	}
	addr := listen(t, s)
	want := map[string]string{}
	write := func(codec kgo.CompressionCodec, keys, records int) {
		// Idempotent, so that each client's last batch stays, empty or not.
		cl := newClient(t, addr, kgo.DefaultProduceTopic("state"), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(2<<10))
		for i := range records {
			r := &kgo.Record{Key: fmt.Append(nil, i%keys)}
			if i%7 != 3 {
				r.Value = fmt.Append(nil, i, strings.Repeat("z", i%50))
			}
			want[string(r.Key)] = string(r.Value)
			cl.Produce(patience(t), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(patience(t)); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	const keys = 40
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		write(codec, keys, 1500)
	}
	topics.Compact()
	st := topics.Cleaner()
	if st.RemovedRecords == 0 || len(st.Uncleanable) > 0 {
		t.Fatalf("%+v", st)
	}
	adm := kadm.NewClient(newClient(t, addr))
	ends, err := adm.ListEndOffsets(patience(t), "state")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("state", 0)
	for name, isolation := range map[string]kgo.IsolationLevel{"uncommitted": kgo.ReadUncommitted(), "committed": kgo.ReadCommitted()} {
		for _, from := range []int64{0, 1, end.Offset / 3, end.Offset - 1} {
			got, last := table(t, addr, from, end.Offset, isolation)
			for key, value := range got {
				if value != want[key] {
					t.Errorf("%s from %d: %s is %q, want %q", name, from, key, value, want[key])
				}
			}
			if from <= 1 && len(got) != len(want) || last != end.Offset-1 {
				t.Errorf("%s from %d: %d keys of %d, up to offset %d of %d", name, from, len(got), len(want), last, end.Offset)
			}
		}
	}
	// The offset for a time is that of a record that is there.
	at, err := adm.ListOffsetsAfterMilli(patience(t), time.Now().Add(-time.Hour).UnixMilli(), "state")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := at.Lookup("state", 0); o.Err != nil || o.Offset < 0 || o.Offset >= end.Offset {
		t.Errorf("offset for a time: %+v", o)
	}
}

// table reads until it has seen the record before end.
func table(t *testing.T, addr string, from, end int64, isolation kgo.IsolationLevel) (got map[string]string, last int64) {
	t.Helper()
	cl := newClient(t, addr, kgo.FetchIsolationLevel(isolation), kgo.FetchMaxBytes(8<<10),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"state": {0: kgo.NewOffset().At(from)}}))
	defer cl.Close()
	got, last = map[string]string{}, -1
	for ctx := context.Context(patience(t)); last < end-1; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("at %d of %d: %v", last, end, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset <= last || r.Offset < from {
				t.Errorf("offset %d after %d", r.Offset, last)
			}
			got[string(r.Key)], last = string(r.Value), r.Offset
		})
	}
	return got, last
}
