package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// A transaction that hangs is ended by its marker, as kafka-transactions abort sends it,
// and readers of what is committed go on.
func TestWriteTxnMarkersEndsWhatHangs(t *testing.T) {
	s, topics := newCoordinated(t, txn.Limits{})
	create(t, topics, "t", 1)
	addr := listen(t, s)
	cl := newClient(t, addr, kgo.TransactionalID("id"), kgo.DefaultProduceTopic("t"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(patience(t), kgo.StringRecord("hangs")).FirstErr(); err != nil {
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
}

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
