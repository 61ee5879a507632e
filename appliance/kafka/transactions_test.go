package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// newCoordinated is a server with all coordinators over a real log.
func newCoordinated(t testing.TB, limits txn.Limits) (*kafka.Server, *topic.Set) {
	t.Helper()
	topics := openTopics(t)
	offsets, err := group.EnsureTopic(topics)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := group.Open(group.Options{Log: topic.ReadUncommitted{Set: topics}, Partition: offsets,
		Limits: group.Limits{InitialRebalanceDelay: -1, MinSessionTimeout: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { groups.Close() })
	state, err := txn.EnsureTopic(topics)
	if err != nil {
		t.Fatal(err)
	}
	next := int64(999)
	txns, err := txn.Open(txn.Options{Topics: topics, Partition: state, Epoch: testEpoch, Limits: limits, CheckInterval: 10 * time.Millisecond,
		NextProducerID: func() (int64, error) { next++; return next, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { txns.Close() })
	s, _ := newBroker(t, kafka.Options{Topics: topics, Groups: groups, Transactions: txns})
	return s, topics
}

// generations are how clients speak: before and since KIP-890.
var generations = map[string][]kgo.Opt{
	"before KIP-890": {kgo.MaxVersions(kversion.V3_9_0())},
	"since KIP-890":  nil,
}

func committed(t testing.TB, addr, name string, n int) (values []string) {
	t.Helper()
	cl := newClient(t, addr, kgo.ConsumeTopics(name), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for _, r := range read(t, cl, n) {
		values = append(values, string(r.Value))
	}
	return values
}

// franz-go commits and aborts in turn; who reads what is committed sees that alone.
func TestFranzGoTransactions(t *testing.T) {
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			s, topics := newCoordinated(t, txn.Limits{})
			create(t, topics, "t", 1)
			addr := listen(t, s)
			cl := newClient(t, addr, append(opts, kgo.TransactionalID("id"), kgo.DefaultProduceTopic("t"))...)
			var want []string
			for i := range 10 {
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				for j := range 3 {
					value := fmt.Sprint(i, " ", j)
					if err := cl.ProduceSync(patience(t), kgo.StringRecord(value)).FirstErr(); err != nil {
						t.Fatal(err)
					}
					if i%3 != 1 {
						want = append(want, value)
					}
				}
				if err := cl.EndTransaction(patience(t), i%3 != 1); err != nil {
					t.Fatal(err)
				}
			}
			if got := committed(t, addr, "t", len(want)); !slices.Equal(got, want) {
				t.Errorf("read %q, want %q", got, want)
			}
			p := topics.Topic("t").Partitions()[0]
			if lso, hw := p.LastStableOffset(), p.HighWatermark(); lso != hw || hw != 40 {
				t.Errorf("last stable offset %d, high watermark %d; want 30 records and 10 markers", lso, hw)
			}
			// The bridge, plugins and mirrors read through this.
			var seen []string
			for next := int64(0); next < 40; {
				bs, err := topics.Fetch(patience(t), p.TopicPartition(), next, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				for b := range bs.All() {
					rs, err := b.Records()
					if err != nil || b.Control() {
						t.Fatal("batch", b.BaseOffset(), b.Control(), err)
					}
					for _, r := range rs {
						seen = append(seen, string(r.Value))
					}
					next = b.NextOffset()
				}
			}
			if !slices.Equal(seen, want) {
				t.Errorf("through the Fetcher %q, want %q", seen, want)
			}
		})
	}
}

// Nobody who reads what is committed sees what is not decided, and the offsets are those
// of before; both come with the commit.
func TestFranzGoConsumesTransformsProduces(t *testing.T) {
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			s, topics := newCoordinated(t, txn.Limits{})
			create(t, topics, "in", 2)
			create(t, topics, "out", 2)
			addr := listen(t, s)
			plain := newClient(t, addr)
			const records = 300
			for i := range records {
				if err := plain.ProduceSync(patience(t), &kgo.Record{Topic: "in", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			sess, err := kgo.NewGroupTransactSession(append(opts, kgo.SeedBrokers(addr), kgo.TransactionalID("copy"), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(1000))...)
			if err != nil {
				t.Fatal(err)
			}
			defer sess.Close()
			for rounds, done := 0, 0; done < records; rounds++ {
				fs := sess.PollRecords(patience(t), 40)
				if err := fs.Err(); err != nil {
					t.Fatal(err)
				}
				if err := sess.Begin(); err != nil {
					t.Fatal(err)
				}
				fs.EachRecord(func(r *kgo.Record) {
					sess.Produce(patience(t), &kgo.Record{Topic: "out", Key: r.Key, Value: r.Value}, nil)
				})
				try := kgo.TransactionEndTry(rounds%3 != 1) // every third is given up, and comes again
				ok, err := sess.End(patience(t), try)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					done += fs.NumRecords()
				}
			}
			seen := map[string]int{}
			for _, v := range committed(t, addr, "out", records) {
				seen[v]++
			}
			if len(seen) != records {
				t.Errorf("%d different records came out, want %d once each", len(seen), records)
			}
			lag, err := kadm.NewClient(plain).FetchOffsets(patience(t), "g")
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			lag.Each(func(o kadm.OffsetResponse) { sum += o.At })
			if sum != records {
				t.Errorf("the group has committed %d records, want %d", sum, records)
			}
		})
	}
}

// A second producer with the id fences the first, and aborts what it had open.
func TestTransactionalProducerIsFenced(t *testing.T) {
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			s, topics := newCoordinated(t, txn.Limits{})
			create(t, topics, "t", 1)
			addr := listen(t, s)
			one := newClient(t, addr, append(opts, kgo.TransactionalID("id"), kgo.DefaultProduceTopic("t"))...)
			two := newClient(t, addr, append(opts, kgo.TransactionalID("id"), kgo.DefaultProduceTopic("t"))...)
			for _, cl := range []*kgo.Client{one, two} {
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				if err := cl.ProduceSync(patience(t), kgo.StringRecord("x")).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := one.ProduceSync(patience(t), kgo.StringRecord("y")).FirstErr(); err == nil {
				t.Error("the first producer was not fenced")
			}
			if err := one.EndTransaction(patience(t), kgo.TryCommit); err == nil {
				t.Error("the first producer could commit")
			}
			if err := two.EndTransaction(patience(t), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
			if got := committed(t, addr, "t", 1); len(got) != 1 {
				t.Errorf("read %q", got)
			}
			if p := topics.Topic("t").Partitions()[0]; p.HighWatermark() != 4 || p.LastStableOffset() != 4 {
				t.Errorf("high watermark %d, last stable offset %d; want two records and two markers", p.HighWatermark(), p.LastStableOffset())
			}
		})
	}
}

// What admin clients are shown of an open transaction.
func TestTransactionsAreDescribed(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 2)
	addr := listen(t, s)
	cl := newClient(t, addr, kgo.TransactionalID("id"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(patience(t), &kgo.Record{Topic: "t", Partition: 1, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(newClient(t, addr))
	listed, err := adm.ListTransactions(patience(t), nil, []string{"Ongoing"})
	if err != nil || len(listed) != 1 || listed["id"].ProducerID != 1000 {
		t.Errorf("listed %+v, %v", listed, err)
	}
	if listed, err = adm.ListTransactions(patience(t), nil, []string{"Empty"}); err != nil || len(listed) != 0 {
		t.Errorf("listed as empty %+v, %v", listed, err)
	}
	described, err := adm.DescribeTransactions(patience(t), "id")
	if d := described["id"]; err != nil || d.State != "Ongoing" || d.ProducerEpoch != 0 || !d.Topics.Lookup("t", 1) || d.TimeoutMillis == 0 || d.StartTimestamp <= 0 {
		t.Errorf("described %+v, %v", described, err)
	}
	producers, err := adm.DescribeProducers(patience(t), kadm.TopicsSet{"t": {1: {}}})
	if err != nil {
		t.Fatal(err)
	}
	if ps := producers.SortedProducers(); len(ps) != 1 || ps[0].CurrentTxnStartOffset != 0 || ps[0].ProducerID != 1000 || ps[0].LastTimestamp <= 0 {
		t.Errorf("producers %+v", ps)
	}
	ends, err := adm.ListCommittedOffsets(patience(t), "t")
	if o, _ := ends.Lookup("t", 1); err != nil || o.Offset != 0 {
		t.Errorf("what is committed ends at %+v, %v; want 0", o, err)
	}
	if err := cl.EndTransaction(patience(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if ends, err = adm.ListCommittedOffsets(patience(t), "t"); err != nil {
		t.Fatal(err)
	}
	if o, _ := ends.Lookup("t", 1); o.Offset != 2 {
		t.Errorf("what is committed ends at %+v after the commit, want 2", o)
	}
}

// A producer that goes away in a transaction holds nobody up for longer than its timeout.
func TestTransactionTimesOut(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	start := kmsg.NewPtrInitProducerIDRequest()
	start.TransactionalID, start.TransactionTimeoutMillis = kmsg.StringPtr("id"), 1
	id := ask[*kmsg.InitProducerIDResponse](w, 4, start)
	b := batchOf(t, record.None, "x")
	b.SetTransactional(id.ProducerID, id.ProducerEpoch, 0)
	req := produceOf(-1, b)
	req.TransactionID = kmsg.StringPtr("id")
	if got := part(ask[*kmsg.ProduceResponse](w, 12, req)); got.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(got.ErrorCode))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// The batch without records is what takes a reader over the aborted one and its marker.
	bs, err := topics.Fetch(ctx, record.TopicPartition{Topic: "t"}, 0, 1<<20)
	if err != nil || record.Batch(bs).Count() != 0 || record.Batch(bs).NextOffset() != 2 {
		t.Errorf("read %x, %v; want offsets 0 and 1 passed over", bs, err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "id", id.ProducerID, id.ProducerEpoch, true
	for version, want := range map[int16]*kerr.Error{1: kerr.InvalidProducerEpoch, 2: kerr.ProducerFenced} {
		if got := ask[*kmsg.EndTxnResponse](w, version, end); got.ErrorCode != want.Code {
			t.Errorf("EndTxn v%d after the timeout: %v, want %v", version, kerr.ErrorForCode(got.ErrorCode), want)
		}
	}
	if got := part(ask[*kmsg.ProduceResponse](w, 12, req)); got.ErrorCode != kerr.InvalidProducerEpoch.Code {
		t.Errorf("Produce after the timeout: %v", kerr.ErrorForCode(got.ErrorCode))
	}
}

// What a transactional batch is refused for.
func TestTransactionalProduceErrors(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	start := kmsg.NewPtrInitProducerIDRequest()
	start.TransactionalID, start.TransactionTimeoutMillis = kmsg.StringPtr("id"), 60_000
	id := ask[*kmsg.InitProducerIDResponse](w, 4, start)
	send := func(version int16, name *string, transactional bool, producer int64, epoch int16, sequence int32) int16 {
		b := batchOf(t, record.None, "x")
		if transactional {
			b.SetTransactional(producer, epoch, sequence)
		} else {
			b.SetProducer(producer, epoch, sequence)
		}
		req := produceOf(-1, b)
		req.TransactionID = name
		return part(ask[*kmsg.ProduceResponse](w, version, req)).ErrorCode
	}
	txnID, other := kmsg.StringPtr("id"), kmsg.StringPtr("other")
	wantCode(t, "not part of a transaction", send(11, txnID, true, id.ProducerID, 0, 0), kerr.InvalidTxnState)
	wantCode(t, "no transactional id", send(12, nil, true, id.ProducerID, 0, 0), kerr.InvalidTxnState)
	wantCode(t, "unknown transactional id", send(12, other, true, id.ProducerID, 0, 0), kerr.InvalidProducerIDMapping)
	wantCode(t, "another's producer id", send(12, txnID, true, id.ProducerID+1, 0, 0), kerr.InvalidProducerIDMapping)
	wantCode(t, "an old epoch", send(12, txnID, true, id.ProducerID, -1, 0), kerr.InvalidProducerEpoch)
	wantCode(t, "the first of a transaction", send(12, txnID, true, id.ProducerID, 0, 0), nil)
	wantCode(t, "the same again", send(12, txnID, true, id.ProducerID, 0, 0), nil)
	wantCode(t, "out of sequence", send(12, txnID, true, id.ProducerID, 0, 7), kerr.OutOfOrderSequenceNumber)
	wantCode(t, "outside of the open transaction", send(12, txnID, false, id.ProducerID, 0, 1), kerr.InvalidTxnState)
	if hw := topics.Topic("t").Partitions()[0].HighWatermark(); hw != 1 {
		t.Errorf("%d records were appended, want 1", hw)
	}
}

// Aborted transactions come sorted by first offset, to who reads what is committed alone.
func TestFetchListsAbortedTransactions(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	ids := map[string]int64{}
	send := func(name string) {
		if _, ok := ids[name]; !ok {
			start := kmsg.NewPtrInitProducerIDRequest()
			start.TransactionalID, start.TransactionTimeoutMillis = &name, 60_000
			ids[name] = ask[*kmsg.InitProducerIDResponse](w, 4, start).ProducerID
		}
		b := batchOf(t, record.None, name)
		b.SetTransactional(ids[name], 0, 0)
		req := produceOf(-1, b)
		req.TransactionID = &name
		wantCode(t, "produce", part(ask[*kmsg.ProduceResponse](w, 12, req)).ErrorCode, nil)
	}
	end := func(name string, commit bool) {
		e := kmsg.NewPtrEndTxnRequest()
		e.TransactionalID, e.ProducerID, e.Commit = name, ids[name], commit
		wantCode(t, "end", ask[*kmsg.EndTxnResponse](w, 4, e).ErrorCode, nil)
	}
	send("a") // 0
	send("b") // 1
	send("c") // 2
	end("b", false)
	end("a", false)
	send("d")                                   // 5
	if err := topics.Checkpoint(); err != nil { // all of it is in its segment
		t.Fatal(err)
	}
	fetch := func(version int16, level int8) kmsg.FetchResponseTopicPartition {
		req := fetchOf("t", 0, 0)
		req.IsolationLevel = level
		return ask[*kmsg.FetchResponse](w, version, req).Topics[0].Partitions[0]
	}
	for _, version := range []int16{4, 11, 12} {
		p := fetch(version, 1)
		if p.LastStableOffset != 2 || p.HighWatermark != 6 {
			t.Errorf("v%d: last stable offset %d of %d, want 2 of 6", version, p.LastStableOffset, p.HighWatermark)
		}
		if last := lastOffset(p.RecordBatches); last != 1 {
			t.Errorf("v%d: records up to %d, the last stable offset is 2", version, last)
		}
		var got [][2]int64
		for _, a := range p.AbortedTransactions {
			got = append(got, [2]int64{a.ProducerID, a.FirstOffset})
		}
		if want := [][2]int64{{ids["a"], 0}, {ids["b"], 1}}; !slices.Equal(got, want) {
			t.Errorf("v%d: aborted %v, want %v", version, got, want)
		}
		p = fetch(version, 0)
		if len(p.AbortedTransactions) != 0 || lastOffset(p.RecordBatches) != 5 || p.LastStableOffset != 2 {
			t.Errorf("v%d: read uncommitted: aborted %v, up to %d, stable %d", version, p.AbortedTransactions, lastOffset(p.RecordBatches), p.LastStableOffset)
		}
	}
	// One batch is returned: what begins behind it is no concern of its reader.
	for offset, want := range [][]int64{{0}, {0, 1}} {
		req := fetchOf("t", int64(offset), 0)
		req.IsolationLevel, req.Topics[0].Partitions[0].PartitionMaxBytes = 1, 1
		p := ask[*kmsg.FetchResponse](w, 12, req).Topics[0].Partitions[0]
		var got []int64
		for _, a := range p.AbortedTransactions {
			got = append(got, a.FirstOffset)
		}
		if lastOffset(p.RecordBatches) != int64(offset) || !slices.Equal(got, want) {
			t.Errorf("from %d: read up to %d, aborted begin at %v, want %v", offset, lastOffset(p.RecordBatches), got, want)
		}
	}
	end("c", true)
	if err := topics.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if p := fetch(12, 1); p.LastStableOffset != 5 || lastOffset(p.RecordBatches) != 4 {
		t.Errorf("last stable offset %d, read up to %d; want 5 and 4", p.LastStableOffset, lastOffset(p.RecordBatches))
	}
}

func lastOffset(raw []byte) int64 {
	last := int64(-1)
	for b := range record.Batches(raw).All() {
		last = b.LastOffset()
	}
	return last
}
