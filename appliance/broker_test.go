package appliance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

func open(t *testing.T, dir string) *appliance.Broker {
	t.Helper()
	b, err := appliance.Open(appliance.Options{
		Data: dir, Kafka: "127.0.0.1:0",
		Groups: group.Options{Limits: group.Limits{InitialRebalanceDelay: time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func client(t *testing.T, b *appliance.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.KafkaAddr().String()), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestRecordsOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	var cluster string
	epoch, ids := int32(-1), map[int64]bool{}
	for boot := range 3 {
		b := open(t, dir)
		st := b.Status()
		if st.LeaderEpoch <= epoch {
			t.Errorf("boot %d has leader epoch %d, the one before had %d", boot, st.LeaderEpoch, epoch)
		}
		if cluster == "" {
			cluster = st.ClusterID
		}
		if epoch = st.LeaderEpoch; st.ClusterID != cluster {
			t.Errorf("boot %d has cluster id %s, the one before had %s", boot, st.ClusterID, cluster)
		}
		cl := client(t, b, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err := cl.ProduceSync(patience(t), &kgo.Record{Topic: "t", Value: fmt.Append(nil, boot)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		id, _, err := cl.ProducerID(patience(t))
		if err != nil || ids[id] {
			t.Errorf("boot %d: producer id %d a second time, %v", boot, id, err)
		}
		ids[id] = true
		var got []string
		for len(got) <= boot {
			for _, r := range cl.PollFetches(patience(t)).Records() {
				got = append(got, string(r.Value))
			}
			if patience(t).Err() != nil {
				t.Fatalf("boot %d: only %v could be read", boot, got)
			}
		}
		if want := []string{"0", "1", "2"}[:boot+1]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("boot %d: read %v, want %v", boot, got, want)
		}
		cl.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := appliance.Open(appliance.Options{Data: dir, Kafka: "127.0.0.1:0"})
	if !errors.Is(err, metadata.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open of %s: %v, want ErrInUse with the directory's name", dir, err)
	}
}

// What fails on the way leaves nothing locked or listening.
func TestOpenThatFailsLetsGo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		o    appliance.Options
		want string
	}{
		{"no directory", appliance.Options{}, "no data directory"},
		{"a file in its place", appliance.Options{Data: file}, file},
		{"address in use", appliance.Options{Data: dir, Kafka: taken.Addr().String()}, "--kafka"},
		{"profile", appliance.Options{Data: dir, Profile: "fast"}, "use sync, flash, wear or relaxed"},
		{"topic config", appliance.Options{Data: dir, TopicConfigs: map[string]string{"retention.ms": "soon"}}, "retention.ms"},
		{"advertised listener", appliance.Options{Data: dir, Wire: kafka.Options{AdvertisedListener: "nowhere"}}, "advertised.listeners"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Kafka == "" {
				tt.o.Kafka = "127.0.0.1:0"
			}
			_, err := appliance.Open(tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
	open(t, dir) // neither lock nor listener is left
}

func TestStatusAndMetrics(t *testing.T) {
	b := open(t, t.TempDir())
	cl := client(t, b)
	if err := cl.ProduceSync(patience(t), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := b.Topics().Checkpoint(); err != nil { // what was acknowledged stands in its segment
		t.Fatal(err)
	}
	st := b.Status()
	if st.Error != "" || st.Records < 1 || st.Bytes == 0 || st.WAL.Rounds == 0 || st.Kafka.Connections == 0 {
		t.Errorf("status %+v", st)
	}
	var w metric.Writer
	b.Metrics(&w)
	for _, want := range []string{"weir_storage_up 1\n", `weir_kafka_requests_total{api="Produce"} 1` + "\n", "weir_wal_rounds_total "} {
		if !strings.Contains(string(w.Bytes()), want) {
			t.Errorf("the metrics lack %q:\n%s", want, w.Bytes())
		}
	}
}

func TestCloseTwice(t *testing.T) {
	b := open(t, t.TempDir())
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := net.Dial("tcp", b.KafkaAddr().String()); err == nil {
		t.Error("the listener is still there")
	}
}

// A franz-go group reads, commits, and after a restart of the broker goes on where
// it was.
func TestGroupsOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for range 2 {
		b := open(t, dir)
		producer := client(t, b, kgo.DefaultProduceTopic("t"))
		var rs []*kgo.Record
		for i := range 100 {
			rs = append(rs, &kgo.Record{Value: fmt.Append(nil, next+i)})
		}
		if err := producer.ProduceSync(patience(t), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		cl := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for end := next + 100; next < end; {
			fs := cl.PollFetches(patience(t))
			if err := fs.Err(); err != nil {
				t.Fatal(err)
			}
			for _, r := range fs.Records() {
				if string(r.Value) != fmt.Sprint(next) {
					t.Fatalf("read %s, want %d", r.Value, next)
				}
				next++
			}
		}
		if err := cl.CommitUncommittedOffsets(patience(t)); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		producer.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A write of the metadata fails, which is outside of the log: the broker fails.
func TestMetadataFailsTheBroker(t *testing.T) {
	dir := t.TempDir()
	b, err := appliance.Open(appliance.Options{Data: dir, Kafka: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	// In the way of the next copy, where it cannot be removed.
	if err := os.MkdirAll(filepath.Join(dir, "metadata.copy.new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Metadata().NextProducerID(); !errors.Is(err, record.ErrStorage) {
		t.Fatalf("a producer id: %v, want ErrStorage", err)
	}
	select {
	case <-b.Failed():
	default:
		t.Fatal("the broker goes on without its metadata")
	}
	if err := b.Err(); !errors.Is(err, record.ErrStorage) || b.Status().Error == "" {
		t.Errorf("the broker's error is %v, its status says %q", err, b.Status().Error)
	}
	if _, err := b.Topics().Create("t", topic.Spec{Partitions: 1}); err == nil {
		t.Error("a topic was made after that")
	}
}
