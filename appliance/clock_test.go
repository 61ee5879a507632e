package appliance_test

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/topic"
)

// wrongClock is a machine whose wall clock is off.
type wrongClock struct {
	start  time.Time
	offset atomic.Int64
}

func (w *wrongClock) Read() (time.Time, time.Duration) {
	now := time.Now()
	return now.Round(0).Add(time.Duration(w.offset.Load())), now.Sub(w.start)
}
func (w *wrongClock) Asleep() time.Duration { return 0 }
func (w *wrongClock) Synchronised() bool    { return false }

// A box that boots in 1970 works, stamps records with the best time known, deletes
// nothing when it learns the time, and says how it stands.
func TestBootIn1970(t *testing.T) {
	w := &wrongClock{start: time.Now()}
	w.offset.Store(-time.Now().UnixNano())
	b, err := appliance.Open(appliance.Options{Data: t.TempDir(), Kafka: "127.0.0.1:0", Clock: clock.Options{Source: w}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	made, err := b.Topics().Create("t", topic.Spec{Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "retention.ms": "3600000"}})
	if err != nil {
		t.Fatal(err)
	}
	cl := client(t, b, kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.DisableAutoCommit())
	produce := func(want time.Time) {
		t.Helper()
		if err := cl.ProduceSync(patience(t), &kgo.Record{Topic: "t", Value: []byte("v"), Timestamp: time.UnixMilli(5)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		r := cl.PollRecords(patience(t), 1).Records()[0]
		if r.Timestamp.Sub(want).Abs() > time.Minute {
			t.Errorf("stamped %v, want about %v", r.Timestamp.UTC(), want)
		}
		if err := cl.CommitRecords(patience(t), r); err != nil {
			t.Fatal(err)
		}
	}
	st := b.Status().Clock
	if st.Trusted || st.Synchronised || st.JumpSeconds > -365*24*3600 || st.Floor.Year() < 2026 {
		t.Errorf("in 1970: %+v", st)
	}
	produce(st.Floor)
	var m metric.Writer
	b.Metrics(&m)
	if !bytes.Contains(m.Bytes(), []byte("\nweir_clock_trusted 0\n")) {
		t.Error("the metric trusts it")
	}

	w.offset.Store(int64(365 * 24 * time.Hour)) // a year from now, so that much has been leapt
	if err := b.Clock().Confirm(); err != nil {
		t.Fatal(err)
	}
	produce(time.Now().Add(365 * 24 * time.Hour))
	w.offset.Store(int64(5 * 365 * 24 * time.Hour))
	produce(time.Now().Add(365 * 24 * time.Hour)) // a jump is not followed
	b.Topics().Retain()
	if p := made.Partitions()[0]; p.LogStartOffset() != 0 || p.HighWatermark() != 3 {
		t.Errorf("records from %d to %d are left, want all 3", p.LogStartOffset(), p.HighWatermark())
	}
	offsets, err := kadm.NewClient(cl).FetchOffsets(patience(t), "g")
	if at, ok := offsets.Lookup("t", 0); err != nil || !ok || at.At != 3 {
		t.Errorf("the group's offset is %+v, %v", at, err)
	}
	if st := b.Status().Clock; st.Trusted || st.JumpSeconds < 3*365*24*3600 {
		t.Errorf("after the jump: %+v", st)
	}
}
