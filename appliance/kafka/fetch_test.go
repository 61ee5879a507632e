package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

func appendTo(t testing.TB, s *topic.Set, name string, partition int32, batches ...record.Batch) {
	t.Helper()
	for _, b := range batches {
		if _, err := s.Append(context.Background(), record.TopicPartition{Topic: name, Partition: partition}, b); err != nil {
			t.Fatal(err)
		}
	}
}

func fetched(resp *kmsg.FetchResponse) kmsg.FetchResponseTopicPartition {
	return resp.Topics[0].Partitions[0]
}

// A consumer whose limits are below one batch must get that batch all the same.
func TestFetchGivesAWholeBatchOverTheLimits(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 2)
	for p := range int32(2) {
		appendTo(t, topics, "t", p, batchOf(t, record.None, strings.Repeat("x", 50_000)), batchOf(t, record.None, "second"))
	}
	for _, w := range []*wire{pipe(t, s), dial(t, listen(t, s))} {
		req := fetchOf("t", 0, 0, 1)
		req.MaxBytes = 1
		resp := ask[*kmsg.FetchResponse](w, 11, req)
		got := 0
		for _, p := range resp.Topics[0].Partitions {
			got += len(values(t, p.RecordBatches))
		}
		if got != 1 {
			t.Errorf("max_bytes=1 gave %d records, want the first batch of one partition", got)
		}
		req = fetchOf("t", 0, 0)
		req.Topics[0].Partitions[0].PartitionMaxBytes = 1
		if got := len(values(t, fetched(ask[*kmsg.FetchResponse](w, 11, req)).RecordBatches)); got != 1 {
			t.Errorf("partition_max_bytes=1 gave %d records, want the first batch", got)
		}
	}
}

// With room for one partition's data, each fetch begins at another partition.
func TestFetchIsFair(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 4)
	for p := range int32(4) {
		appendTo(t, topics, "t", p, batchOf(t, record.None, strings.Repeat("x", 10_000)))
	}
	w := pipe(t, s)
	seen := map[int32]int{}
	for range 8 {
		req := fetchOf("t", 0, 0, 1, 2, 3)
		req.MaxBytes = 1
		for _, p := range ask[*kmsg.FetchResponse](w, 11, req).Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				seen[p.Partition]++
			}
		}
	}
	for p := range int32(4) {
		if seen[p] != 2 {
			t.Errorf("in 8 fetches partition %d was served %d times, want 2", p, seen[p])
		}
	}
}

func TestFetchWaitsForData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, topics := newBroker(t, kafka.Options{})
		create(t, topics, "t", 2)
		w := pipe(t, s)
		req := fetchOf("t", 0, 0, 1)
		req.SetVersion(12)
		req.MaxWaitMillis, req.MinBytes = 25_000, 1
		corr, start := w.send(req), time.Now()
		synctest.Wait() // until it waits
		appendTo(t, topics, "t", 1, batchOf(t, record.None, "late"))
		resp := w.receive(req, corr).(*kmsg.FetchResponse)
		if got := values(t, resp.Topics[0].Partitions[1].RecordBatches); fmt.Sprint(got) != "[late]" || time.Since(start) != 0 {
			t.Errorf("the waiting fetch got %v after %v, want the record at once", got, time.Since(start))
		}
		req.Topics[0].Partitions[1].FetchOffset = 1
		corr, start = w.send(req), time.Now()
		w.receive(req, corr)
		if took := time.Since(start); took != 25*time.Second {
			t.Errorf("a fetch for which nothing comes was answered after %v, want max_wait, 25s", took)
		}
	})
}

// min_bytes is honoured: less than that waits, until max_wait, and is then given.
func TestFetchMinBytes(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	appendTo(t, topics, "t", 0, batchOf(t, record.None, "small"))
	w := pipe(t, s)
	req := fetchOf("t", 0, 0)
	req.MinBytes, req.MaxWaitMillis = 10_000, 50
	start := time.Now()
	if got := values(t, fetched(ask[*kmsg.FetchResponse](w, 12, req)).RecordBatches); len(got) != 1 {
		t.Errorf("after max_wait the fetch got %v, want what there is", got)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("answered after %v, before max_wait, with less than min_bytes", took)
	}
	req.MaxWaitMillis = 60_000
	corr := w.send(req)
	appendTo(t, topics, "t", 0, batchOf(t, record.None, strings.Repeat("x", 10_000)))
	if got := values(t, fetched(w.receive(req, corr).(*kmsg.FetchResponse)).RecordBatches); len(got) != 2 {
		t.Errorf("got %d records, want 2", len(got))
	}
}

func TestFetchErrors(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	appendTo(t, topics, "t", 0, batchOf(t, record.None, "a", "b"))
	epoch := func(e int32) *kmsg.FetchRequest {
		req := fetchOf("t", 0, 0)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = e
		return req
	}
	for _, tt := range []struct {
		name string
		req  *kmsg.FetchRequest
		want *kerr.Error
	}{
		{"beyond the high watermark", fetchOf("t", 3, 0), kerr.OffsetOutOfRange},
		{"negative", fetchOf("t", -1, 0), kerr.OffsetOutOfRange},
		{"unknown topic", fetchOf("nobody", 0, 0), kerr.UnknownTopicOrPartition},
		{"unknown partition", fetchOf("t", 0, 7), kerr.UnknownTopicOrPartition},
		{"epoch of a boot before", epoch(testEpoch - 1), kerr.FencedLeaderEpoch},
		{"epoch nobody has had", epoch(testEpoch + 1), kerr.UnknownLeaderEpoch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.MaxWaitMillis, tt.req.MinBytes = 60_000, 1 // an error does not wait
			p := fetched(ask[*kmsg.FetchResponse](pipe(t, s), 12, tt.req))
			if p.ErrorCode != tt.want.Code || p.HighWatermark != -1 || len(p.RecordBatches) != 0 || p.RecordBatches == nil {
				t.Errorf("error %v, high watermark %d, records %v; want %v, -1 and empty", kerr.ErrorForCode(p.ErrorCode), p.HighWatermark, p.RecordBatches, tt.want)
			}
		})
	}
	if p := fetched(ask[*kmsg.FetchResponse](pipe(t, s), 12, epoch(testEpoch))); p.ErrorCode != 0 {
		t.Errorf("the true epoch: error %d", p.ErrorCode)
	}
}

// The aborted transactions are null unless the client reads committed records only.
func TestFetchIsolation(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	appendTo(t, topics, "t", 0, batchOf(t, record.None, "a"))
	w := pipe(t, s)
	for isolation, null := range map[int8]bool{0: true, 1: false} {
		req := fetchOf("t", 0, 0)
		req.IsolationLevel = isolation
		p := fetched(ask[*kmsg.FetchResponse](w, 11, req))
		if (p.AbortedTransactions == nil) != null || len(p.AbortedTransactions) != 0 || p.LastStableOffset != 1 {
			t.Errorf("isolation %d: aborted transactions %v, last stable offset %d", isolation, p.AbortedTransactions, p.LastStableOffset)
		}
	}
}

// zstd is unknown to clients that fetch with versions before 10.
func TestFetchBeforeVersion10DoesNotSeeZstd(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 2)
	appendTo(t, topics, "t", 0, batchOf(t, record.Zstd, "a"))
	appendTo(t, topics, "t", 1, batchOf(t, record.LZ4, "b"))
	w := pipe(t, s)
	for v := int16(4); v <= 12; v++ {
		ps := ask[*kmsg.FetchResponse](w, v, fetchOf("t", 0, 0, 1)).Topics[0].Partitions
		want := int16(0)
		if v < 10 {
			want = kerr.UnsupportedCompressionType.Code
		}
		if ps[0].ErrorCode != want || ps[1].ErrorCode != 0 || fmt.Sprint(values(t, ps[1].RecordBatches)) != "[b]" {
			t.Errorf("v%d: errors %d and %d, want %d and 0", v, ps[0].ErrorCode, ps[1].ErrorCode, want)
		}
	}
}

// A fetch that waits on a topic that is deleted is told, not left waiting.
func TestFetchOfATopicDeletedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, topics := newBroker(t, kafka.Options{})
		create(t, topics, "t", 1)
		w := pipe(t, s)
		req := fetchOf("t", 0, 0)
		req.SetVersion(12)
		req.MaxWaitMillis, req.MinBytes = 25_000, 1
		corr, start := w.send(req), time.Now()
		synctest.Wait() // until it waits
		if err := topics.Delete("t"); err != nil {
			t.Fatal(err)
		}
		p := fetched(w.receive(req, corr).(*kmsg.FetchResponse))
		if p.ErrorCode != kerr.UnknownTopicOrPartition.Code || time.Since(start) != 0 {
			t.Errorf("error %d after %v, want UNKNOWN_TOPIC_OR_PARTITION at once", p.ErrorCode, time.Since(start))
		}
	})
}

// Close does not wait for the clients that wait for data.
func TestCloseEndsWaitingFetches(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := dial(t, listen(t, s))
	req := fetchOf("t", 0, 0)
	req.SetVersion(12)
	req.MaxWaitMillis, req.MinBytes = 30_000, 1
	w.send(req)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantClosed()
}

func TestListOffsets(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	for _, ts := range []int64{1000, 3000, 2000} {
		b, err := record.NewBatch(record.None, record.Record{Value: []byte("v"), Timestamp: ts})
		if err != nil {
			t.Fatal(err)
		}
		appendTo(t, topics, "t", 0, b)
	}
	w := pipe(t, s)
	at := func(version int16, ts int64) kmsg.ListOffsetsResponseTopicPartition {
		req := kmsg.NewPtrListOffsetsRequest()
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp, rp.CurrentLeaderEpoch = ts, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		return ask[*kmsg.ListOffsetsResponse](w, version, req).Topics[0].Partitions[0]
	}
	for v := int16(1); v <= 11; v++ {
		for ts, want := range map[int64][2]int64{-1: {3, -1}, -2: {0, -1}, 0: {0, 1000}, 1500: {1, 3000}, 3000: {1, 3000}, 3001: {-1, -1}} {
			got := at(v, ts)
			if got.ErrorCode != 0 || got.Offset != want[0] || got.Timestamp != want[1] {
				t.Errorf("v%d, timestamp %d: error %d, offset %d, timestamp %d; want %v", v, ts, got.ErrorCode, got.Offset, got.Timestamp, want)
			}
			if v >= 4 && got.LeaderEpoch != testEpoch {
				t.Errorf("v%d: leader epoch %d, want %d", v, got.LeaderEpoch, testEpoch)
			}
		}
	}
	if got := at(7, -3); got.Offset != 1 || got.Timestamp != 3000 {
		t.Errorf("greatest timestamp: offset %d, timestamp %d; want 1, 3000", got.Offset, got.Timestamp)
	}
	if got := at(8, -4); got.Offset != 0 {
		t.Errorf("earliest local: offset %d, want 0", got.Offset)
	}
	for v, ts := range map[int16]int64{9: -5, 11: -6} { // nothing is tiered
		if got := at(v, ts); got.ErrorCode != 0 || got.Offset != -1 || got.Timestamp != -1 {
			t.Errorf("v%d, timestamp %d: error %d, offset %d; want 0, -1", v, ts, got.ErrorCode, got.Offset)
		}
	}
	for v, ts := range map[int16]int64{6: -3, 7: -4, 8: -5, 10: -6, 11: -9} {
		if got := at(v, ts); got.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d, timestamp %d: error %d, want UNSUPPORTED_VERSION", v, ts, got.ErrorCode)
		}
	}
}
