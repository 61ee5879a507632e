package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// A transaction is ended by its marker in one partition, as kafka-transactions abort
// sends it, and readers of what is committed go on. The coordinator knows it: it is
// aborted whole, and its producer cannot commit the rest.
func TestWriteTxnMarkersAbortsWhatIsOpen(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 1)
	create(t, topics, "other", 1)
	addr := listen(t, s)
	cl := newClient(t, addr, kgo.TransactionalID("id"), kgo.DefaultProduceTopic("t"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(patience(t), kgo.StringRecord("hangs")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	other := kgo.StringRecord("other")
	other.Topic = "other"
	if err := cl.ProduceSync(patience(t), other).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p := topics.Topic("t").Partitions()[0]
	hanging := p.Producers()[0]
	if hanging.TransactionStart != 0 || p.LastStableOffset() != 0 {
		t.Fatalf("producer %+v, last stable offset %d: no transaction hangs", hanging, p.LastStableOffset())
	}
	for _, step := range []struct {
		what      string
		topic     string
		epoch     int16
		want      *kerr.Error
		lso, high int64
	}{
		{"no such topic", "none", hanging.Epoch, kerr.UnknownTopicOrPartition, 0, 1},
		{"an epoch from before", "t", hanging.Epoch - 1, kerr.InvalidProducerEpoch, 0, 1},
		{"the one that hangs", "t", hanging.Epoch, nil, 2, 2},
		{"again", "t", hanging.Epoch, nil, 2, 2},
	} {
		if got := mark(t, newClient(t, addr), step.topic, hanging, step.epoch); got != kerrCode(step.want) {
			t.Errorf("%s: error %d, want %v", step.what, got, step.want)
		}
		if lso, hw := p.LastStableOffset(), p.HighWatermark(); lso != step.lso || hw != step.high {
			t.Errorf("%s: last stable offset %d, high watermark %d; want %d and %d", step.what, lso, hw, step.lso, step.high)
		}
	}
	if _, aborted, _, err := p.ReadCommitted(0, 1<<20); err != nil || len(aborted) != 1 {
		t.Errorf("aborted transactions %v, %v; want the one", aborted, err)
	}
	if q := topics.Topic("other").Partitions()[0]; q.LastStableOffset() != 2 {
		t.Errorf("the other partition's part is still open: last stable offset %d", q.LastStableOffset())
	}
	if err := cl.EndTransaction(patience(t), kgo.TryCommit); err == nil {
		t.Error("the producer committed what was aborted")
	}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	describe.TransactionalIDs = []string{"id"}
	if state := ask[*kmsg.DescribeTransactionsResponse](dial(t, addr), 0, describe).TransactionStates[0]; state.State != "CompleteAbort" {
		t.Errorf("the coordinator has it as %s", state.State)
	}
}

// One that the coordinator does not know of is ended where it hangs.
func TestWriteTxnMarkersEndsWhatHangs(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	p := create(t, topics, "t", 1).Partitions()[0]
	b, done := batchOf(t, record.None, "hangs"), make(completed, 1)
	b.SetTransactional(77, 3, 0)
	if p.AppendTransactional(b, done); <-done != nil {
		t.Fatal("the append failed")
	}
	cl := newClient(t, listen(t, s))
	for range 2 {
		if code := mark(t, cl, "t", p.Producers()[0], 3); code != 0 {
			t.Errorf("error %d", code)
		}
		if lso, hw := p.LastStableOffset(), p.HighWatermark(); lso != 2 || hw != 2 {
			t.Errorf("last stable offset %d, high watermark %d; want 2 and 2", lso, hw)
		}
	}
}

// completed takes how an append has ended.
type completed chan error

func (c completed) Complete(_ int64, err error) { c <- err }

func mark(t *testing.T, cl *kgo.Client, name string, x topic.Producer, epoch int16) int16 {
	t.Helper()
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	m, mt := kmsg.NewWriteTxnMarkersRequestMarker(), kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = name, []int32{0}
	m.ProducerID, m.ProducerEpoch, m.Topics = x.ID, epoch, append(m.Topics, mt)
	req.Markers = append(req.Markers, m)
	resp, err := cl.SeedBrokers()[0].Request(patience(t), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.WriteTxnMarkersResponse).Markers[0].Topics[0].Partitions[0].ErrorCode
}

func kerrCode(e *kerr.Error) int16 {
	if e == nil {
		return 0
	}
	return e.Code
}
