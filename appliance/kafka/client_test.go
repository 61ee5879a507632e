package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
)

// newClient is a franz-go client of addr.
func newClient(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RetryTimeout(20 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// read polls until it has n records.
func read(t testing.TB, cl *kgo.Client, n int) (got []*kgo.Record) {
	t.Helper()
	ctx := patience(t)
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), n, err)
		}
		got = append(got, fs.Records()...)
	}
	return got
}

// franz-go with its defaults: idempotent, many batches in flight, compressed.
func TestFranzGoProducesAndConsumes(t *testing.T) {
	const records = 20_000
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 4)
	addr := listen(t, s)
	producer := newClient(t, addr, kgo.DefaultProduceTopic("t"), kgo.ProducerBatchMaxBytes(4<<10), kgo.MaxBufferedRecords(records))
	var failed atomic.Int64
	for i := range records {
		producer.Produce(patience(t), &kgo.Record{Key: fmt.Append(nil, i%97), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := producer.Flush(patience(t)); err != nil || failed.Load() > 0 {
		t.Fatalf("flush: %v, %d records failed", err, failed.Load())
	}
	consumer := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	last, seen := map[string]int{}, map[string]bool{}
	for _, r := range read(t, consumer, records) {
		var n int
		if _, err := fmt.Sscan(string(r.Value), &n); err != nil || seen[string(r.Value)] {
			t.Fatalf("value %q: %v, or twice", r.Value, err)
		}
		seen[string(r.Value)] = true
		if before, ok := last[string(r.Key)]; ok && before > n {
			t.Fatalf("key %s: %d came after %d", r.Key, n, before)
		}
		last[string(r.Key)] = n
	}
}

// One record per request, as many requests in flight as the client does.
func TestFranzGoManyRequestsInFlight(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{MaxInFlight: 8}) // fewer than the client wants
	create(t, topics, "t", 1)
	cl := newClient(t, listen(t, s), kgo.DefaultProduceTopic("t"), kgo.DisableIdempotentWrite(),
		kgo.MaxProduceRequestsInflightPerBroker(100), kgo.ProducerBatchMaxBytes(512), kgo.ProducerLinger(0))
	var rs []*kgo.Record
	for i := range 2000 {
		rs = append(rs, &kgo.Record{Value: fmt.Append(nil, i, strings.Repeat("x", 300))})
	}
	if err := cl.ProduceSync(patience(t), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if hw := topics.Topic("t").Partitions()[0].HighWatermark(); hw != 2000 {
		t.Errorf("high watermark %d, want 2000", hw)
	}
}

func TestTopicsAreCreatedOnDemand(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	cl := newClient(t, listen(t, s), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("new"))
	if err := cl.ProduceSync(patience(t), &kgo.Record{Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if topics.Topic("new") == nil {
		t.Error("there is no topic")
	}
	w := pipe(t, s)
	for _, tt := range []struct {
		name    string
		version int16
		allow   bool
		want    *kerr.Error
	}{
		{"a/b", 9, true, kerr.InvalidTopicException},
		{"unwanted", 9, false, kerr.UnknownTopicOrPartition},
		{"older-clients-cannot-say-no", 3, false, nil},
	} {
		got := metadataOf(w, tt.version, tt.allow, tt.name).Topics[0]
		if errors.Is(kerr.ErrorForCode(got.ErrorCode), tt.want) != true && !(tt.want == nil && got.ErrorCode == 0) {
			t.Errorf("%s: error %d, want %v", tt.name, got.ErrorCode, tt.want)
		}
	}
	off, _ := newBroker(t, kafka.Options{NoAutoCreateTopics: true})
	if got := metadataOf(pipe(t, off), 9, true, "t").Topics[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("auto.create.topics.enable=false: error %d", got.ErrorCode)
	}
}

func metadataOf(w *wire, version int16, allow bool, names ...string) *kmsg.MetadataResponse {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = allow
	for _, name := range names {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
	}
	return ask[*kmsg.MetadataResponse](w, version, req)
}

func TestMetadataEveryVersion(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{ClusterID: "the-cluster"})
	id := create(t, topics, "t", 2).ID()
	addr := listen(t, s)
	w := dial(t, addr)
	for v := int16(0); v <= 13; v++ {
		all := metadataOf(w, v, false) // null, and in version 0 empty: all topics
		if len(all.Topics) != 1 || len(all.Brokers) != 1 || fmt.Sprintf("%s:%d", all.Brokers[0].Host, all.Brokers[0].Port) != addr {
			t.Fatalf("v%d: %+v", v, all)
		}
		if v >= 1 && (all.ControllerID != all.Brokers[0].NodeID || all.ControllerID == 0) {
			t.Errorf("v%d: controller %d is not the broker %d, or 0", v, all.ControllerID, all.Brokers[0].NodeID)
		}
		if v >= 2 && (all.ClusterID == nil || *all.ClusterID != "the-cluster") {
			t.Errorf("v%d: cluster id %v", v, all.ClusterID)
		}
		if v >= 10 && all.Topics[0].TopicID != id {
			t.Errorf("v%d: topic id %x, want %x", v, all.Topics[0].TopicID, id)
		}
		for i, p := range all.Topics[0].Partitions {
			if p.Leader != all.Brokers[0].NodeID || p.Partition != int32(i) || len(p.Replicas) != 1 || len(p.ISR) != 1 {
				t.Errorf("v%d: partition %+v", v, p)
			}
			if v >= 7 && p.LeaderEpoch != testEpoch {
				t.Errorf("v%d: leader epoch %d, want %d", v, p.LeaderEpoch, testEpoch)
			}
		}
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	if none := ask[*kmsg.MetadataResponse](w, 4, req); len(none.Topics) != 0 {
		t.Errorf("an empty list of topics gave %d", len(none.Topics))
	}
}

func TestAdvertisedListener(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{AdvertisedListener: "PLAINTEXT://gateway.example:19092"})
	w := pipe(t, s)
	if b := metadataOf(w, 9, false).Brokers[0]; b.Host != "gateway.example" || b.Port != 19092 {
		t.Errorf("Metadata says %s:%d", b.Host, b.Port)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "g"
	if r := ask[*kmsg.FindCoordinatorResponse](w, 0, find); r.Host != "gateway.example" || r.Port != 19092 {
		t.Errorf("FindCoordinator says %s:%d", r.Host, r.Port)
	}
	for _, bad := range []string{"nohost", ":9092", "h:0", "h:70000", "HTTP://h:1"} {
		if _, err := kafka.New(kafka.Options{Topics: openTopics(t), AdvertisedListener: bad}); err == nil || !strings.Contains(err.Error(), "advertised.listeners") {
			t.Errorf("advertised.listeners %q: %v", bad, err)
		}
	}
}

func TestFindCoordinatorEveryVersion(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	w := dial(t, listen(t, s))
	for v := int16(0); v <= 6; v++ {
		for _, kind := range []int8{0, 1} {
			if v == 0 && kind == 1 {
				continue // cannot be asked
			}
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey, req.CoordinatorKeys, req.CoordinatorType = "a", []string{"a", "b"}, kind
			r := ask[*kmsg.FindCoordinatorResponse](w, v, req)
			if v < 4 {
				r.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{NodeID: r.NodeID, Port: r.Port, ErrorCode: r.ErrorCode, ErrorMessage: r.ErrorMessage}}
			} else if len(r.Coordinators) != 2 {
				t.Fatalf("v%d: %d coordinators for 2 keys", v, len(r.Coordinators))
			}
			for _, c := range r.Coordinators {
				if c.ErrorCode != 0 || c.NodeID != 1 || c.Port == 0 {
					t.Errorf("v%d: type %d: %+v", v, kind, c)
				}
			}
		}
	}
}

func TestAdminOfTopics(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{DefaultPartitions: 3})
	adm := kadm.NewClient(newClient(t, listen(t, s)))
	ctx := patience(t)
	configs := map[string]*string{"cleanup.policy": kadm.StringPtr("compact"), "segment.bytes": kadm.StringPtr("1048576")}
	created, err := adm.CreateTopics(ctx, 2, 1, configs, "a", "b")
	if err != nil || created.Error() != nil {
		t.Fatalf("create: %v, %v", err, created.Error())
	}
	if a := created["a"]; a.NumPartitions != 2 || a.ReplicationFactor != 1 || *a.Configs["cleanup.policy"].Value != "compact" || a.ID == (kadm.TopicID{}) {
		t.Errorf("created %+v", a)
	}
	if one, err := adm.CreateTopic(ctx, -1, -1, nil, "default"); err != nil || one.NumPartitions != 3 {
		t.Errorf("default partitions: %+v, %v; want 3", one, err)
	}
	for want, create := range map[*kerr.Error]func() error{
		kerr.TopicAlreadyExists:       func() error { _, err := adm.CreateTopic(ctx, 1, 1, nil, "a"); return err },
		kerr.InvalidTopicException:    func() error { _, err := adm.CreateTopic(ctx, 1, 1, nil, "a/b"); return err },
		kerr.InvalidPartitions:        func() error { _, err := adm.CreateTopic(ctx, 0, 1, nil, "c"); return err },
		kerr.InvalidReplicationFactor: func() error { _, err := adm.CreateTopic(ctx, 1, 3, nil, "c"); return err },
		kerr.InvalidConfig: func() error {
			_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"no.such": kadm.StringPtr("1")}, "c")
			return err
		},
	} {
		if err := create(); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if _, err := adm.ValidateCreateTopics(ctx, 1, 1, nil, "only-validated"); err != nil || topics.Topic("only-validated") != nil {
		t.Errorf("validate only: %v, topic %v", err, topics.Topic("only-validated"))
	}
	described, err := adm.DescribeTopicConfigs(ctx, "a", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, rc := range described {
		if rc.Name == "nobody" {
			if !errors.Is(rc.Err, kerr.UnknownTopicOrPartition) {
				t.Errorf("configs of no topic: %v", rc.Err)
			}
			continue
		}
		for _, c := range rc.Configs {
			if c.Key == "cleanup.policy" && (c.MaybeValue() != "compact" || c.Source != kmsg.ConfigSourceDynamicTopicConfig || len(c.Synonyms) != 2) {
				t.Errorf("cleanup.policy: %+v", c)
			}
			if c.Key == "retention.ms" && (c.Source != kmsg.ConfigSourceDefaultConfig || c.MaybeValue() == "") {
				t.Errorf("retention.ms: %+v", c)
			}
		}
	}
	if _, err := adm.DeleteTopics(ctx, "a", "b"); err != nil || topics.Topic("a") != nil {
		t.Errorf("delete: %v", err)
	}
	if r, err := adm.DeleteTopic(ctx, "a"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("delete again: %+v, %v", r, err)
	}
}

func TestAdminOfRecordsAndBroker(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{ClusterID: "the-cluster"})
	create(t, topics, "t", 1)
	addr := listen(t, s)
	cl := newClient(t, addr, kgo.DefaultProduceTopic("t"))
	adm, ctx := kadm.NewClient(cl), patience(t)
	for i := range 10 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var before kadm.Offsets
	before.AddOffset("t", 0, 4, -1)
	deleted, err := adm.DeleteRecords(ctx, before)
	if err != nil || deleted.Error() != nil {
		t.Fatalf("delete records: %v, %v", err, deleted.Error())
	}
	if r, _ := deleted.Lookup("t", 0); r.LowWatermark != 4 {
		t.Errorf("low watermark %d, want 4", r.LowWatermark)
	}
	if start, err := adm.ListStartOffsets(ctx, "t"); err != nil || start["t"][0].Offset != 4 {
		t.Errorf("start offset %+v, %v", start, err)
	}
	consumer := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if got := read(t, consumer, 6); string(got[0].Value) != "4" {
		t.Errorf("first record is %s, want 4", got[0].Value)
	}
	broker, err := adm.DescribeBrokerConfigs(ctx, 1)
	if err != nil || broker[0].Err != nil {
		t.Fatalf("broker configs: %v, %v", err, broker[0].Err)
	}
	seen := map[string]string{}
	for _, c := range broker[0].Configs {
		seen[c.Key] = c.MaybeValue()
	}
	if seen["advertised.listeners"] != "PLAINTEXT://"+addr || seen["num.partitions"] != "1" {
		t.Errorf("broker configs %v", seen)
	}
	meta, err := adm.BrokerMetadata(ctx)
	if err != nil || meta.Cluster != "the-cluster" || meta.Controller != 1 {
		t.Errorf("broker metadata %+v, %v", meta, err)
	}
	cluster := ask[*kmsg.DescribeClusterResponse](dial(t, addr), 1, kmsg.NewPtrDescribeClusterRequest())
	if cluster.ClusterID != "the-cluster" || len(cluster.Brokers) != 1 || cluster.ControllerID != 1 {
		t.Errorf("DescribeCluster %+v", cluster)
	}
}

// Java's admin client throws when configs is null without a topic_config_error_code,
// and when num_partitions is -1.
func TestCreateTopicsAnswersJava(t *testing.T) {
	s, _ := newBroker(t, kafka.Options{})
	w := pipe(t, s)
	for v := int16(2); v <= 7; v++ {
		req := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = fmt.Sprint("t", v), -1, -1
		req.Topics = append(req.Topics, rt)
		got := ask[*kmsg.CreateTopicsResponse](w, v, req).Topics[0]
		if got.ErrorCode != 0 || v >= 5 && (got.Configs == nil || got.ConfigErrorCode != 0 || got.NumPartitions != 1 || got.ReplicationFactor != 1) {
			t.Errorf("v%d: %+v", v, got)
		}
		again := ask[*kmsg.CreateTopicsResponse](w, v, req).Topics[0]
		if again.ErrorCode != kerr.TopicAlreadyExists.Code || v >= 5 && again.Configs == nil {
			t.Errorf("v%d again: %+v", v, again)
		}
	}
}

func TestDeleteTopicsByID(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	created := create(t, topics, "t", 1)
	w := pipe(t, s)
	remove := func(id [16]byte) kmsg.DeleteTopicsResponseTopic {
		req := kmsg.NewPtrDeleteTopicsRequest()
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = id
		req.Topics = append(req.Topics, rt)
		return ask[*kmsg.DeleteTopicsResponse](w, 6, req).Topics[0]
	}
	if got := remove([16]byte{1}); got.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("unknown id: %+v", got)
	}
	if got := remove(created.ID()); got.ErrorCode != 0 || got.Topic == nil || *got.Topic != "t" || topics.Topic("t") != nil {
		t.Errorf("by id: %+v", got)
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	ask[*kmsg.ProduceResponse](w, 9, produceOf(-1, batchOf(t, 0, "a", "b")))
	for v := int16(2); v <= 4; v++ {
		for _, tt := range []struct {
			current, asked int32
			code           int16
			end            int64
		}{
			{-1, testEpoch, 0, 2}, {testEpoch, testEpoch, 0, 2}, {testEpoch - 1, testEpoch, kerr.FencedLeaderEpoch.Code, -1},
			{testEpoch + 1, testEpoch, kerr.UnknownLeaderEpoch.Code, -1}, {-1, testEpoch - 1, 0, -1},
		} {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = "t"
			rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			rp.CurrentLeaderEpoch, rp.LeaderEpoch = tt.current, tt.asked
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			got := ask[*kmsg.OffsetForLeaderEpochResponse](w, v, req).Topics[0].Partitions[0]
			if got.ErrorCode != tt.code || got.EndOffset != tt.end {
				t.Errorf("v%d %+v: error %d, end %d", v, tt, got.ErrorCode, got.EndOffset)
			}
		}
	}
}
