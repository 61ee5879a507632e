package mirror_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/mirror"
)

const testTimeout = 30 * time.Second

func startFake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func options(to []string, change ...func(*mirror.FlowOptions)) mirror.Options {
	f := mirror.FlowOptions{Name: "up", To: to, Topics: []string{"*"}, RetryMax: 500 * time.Millisecond}
	for _, c := range change {
		c(&f)
	}
	return mirror.Options{Site: "edge", Flows: []mirror.FlowOptions{f}}
}

func start(t *testing.T, o mirror.Options, log *memlog) *mirror.Mirror {
	t.Helper()
	d := mirror.Deps{Log: log, Topics: log, Gaps: log}
	if testing.Verbose() {
		d.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m, err := mirror.Start(o, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fill appends records "v<n>" one batch each, n from first up.
func fill(t testing.TB, log *memlog, tp record.TopicPartition, first, count, perBatch, size int) {
	t.Helper()
	pad := string(make([]byte, size))
	for n := first; n < first+count; {
		var w record.Builder
		for ; w.Len() < perBatch && n < first+count; n++ {
			w.Add(&record.Record{Timestamp: int64(n), Key: fmt.Appendf(nil, "k%d", n), Value: fmt.Appendf(nil, "v%d%s", n, pad),
				Headers: []record.Header{{Key: "n", Value: fmt.Append(nil, n)}}})
		}
		b, err := w.Build(record.None)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), tp, b); err != nil {
			t.Fatal(err)
		}
	}
}

// consume reads count records of a topic from its beginning.
func consume(t testing.TB, addrs []string, topic string, count int) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var out []*kgo.Record
	for len(out) < count {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("topic %s: %d records in time, want %d", topic, len(out), count)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

// sameRecords checks that partition p holds v0, v1, ... in order and none twice.
func sameRecords(t testing.TB, got []*kgo.Record, p int32, count int) {
	t.Helper()
	n := 0
	for _, r := range got {
		if r.Partition != p {
			continue
		}
		if want := fmt.Sprintf("k%d", n); string(r.Key) != want {
			t.Fatalf("partition %d: record %d at offset %d has key %s, want %s", p, n, r.Offset, r.Key, want)
		}
		if r.Offset != int64(n) || r.Timestamp.UnixMilli() != int64(n) || len(r.Headers) != 1 || string(r.Headers[0].Value) != fmt.Sprint(n) {
			t.Fatalf("partition %d: record %d changed: %+v", p, n, r)
		}
		n++
	}
	if n != count {
		t.Fatalf("partition %d: %d records, want %d", p, n, count)
	}
}

func TestMirrorsAllPartitionsInOrder(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 3)
	for p := range int32(3) {
		fill(t, log, record.TopicPartition{Topic: "mqtt", Partition: p}, 0, 500, 1, 10)
	}
	start(t, options(target.ListenAddrs()), log)
	got := consume(t, target.ListenAddrs(), "edge.mqtt", 1500)
	for p := range int32(3) {
		sameRecords(t, got, p, 500)
	}
}

func TestRestartGoesOnWhereTheTargetEnds(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 1)
	tp := record.TopicPartition{Topic: "mqtt"}
	total := 0
	for range 5 {
		fill(t, log, tp, total, 700, 100, 300)
		total += 700
		m := start(t, options(target.ListenAddrs()), log)
		consume(t, target.ListenAddrs(), "edge.mqtt", total)
		m.Close()
	}
	sameRecords(t, consume(t, target.ListenAddrs(), "edge.mqtt", total), 0, total)
}
