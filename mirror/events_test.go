package mirror_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/mirror"
	"github.com/weirmq/weir/testbed/link"
)

var mqtt = record.TopicPartition{Topic: "mqtt"}

// await polls the flow's status until ok says yes.
func await(t *testing.T, m *mirror.Mirror, what string, ok func(mirror.FlowStatus) bool) mirror.FlowStatus {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s := m.Status().Flows[0]
		if ok(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not in time: %+v", what, s)
		case <-tick.C:
		}
	}
}

func caughtUp(s mirror.FlowStatus) bool {
	return s.State == mirror.Streaming && s.RecordsBehind == 0 && len(s.Partitions) > 0
}

func halted(kind mirror.Kind) func(mirror.FlowStatus) bool {
	return func(s mirror.FlowStatus) bool {
		return s.State == mirror.Halted && len(s.Events) == 1 && s.Events[0].Kind == kind && s.Events[0].Halted
	}
}

func goOn(f *mirror.FlowOptions) { f.OnGap = mirror.GapAndContinue }

func admin(t *testing.T, addrs []string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// gaps reads the gap records of the local log.
func gaps(t *testing.T, log *memlog) (out []record.Gap) {
	t.Helper()
	tp := record.TopicPartition{Topic: record.GapTopic}
	p, err := log.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	if p.HighWatermark == 0 {
		return nil
	}
	raw, err := log.Fetch(t.Context(), tp, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return decodeGaps(t, raw)
}

func decodeGaps(t *testing.T, raw record.Batches) (out []record.Gap) {
	t.Helper()
	for b := range raw.All() {
		rs, err := b.Records()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			var g record.Gap
			if err := json.Unmarshal(r.Value, &g); err != nil {
				t.Fatal(err)
			}
			if key := fmt.Sprintf("%s-%d", g.Topic, g.Partition); string(r.Key) != key {
				t.Fatalf("gap record has key %s, want %s", r.Key, key)
			}
			out = append(out, g)
		}
	}
	return out
}

// mirrored makes a site with count records in mqtt-0, all mirrored, and stops the mirror.
func mirrored(t *testing.T, target *kfake.Cluster, count int) *memlog {
	t.Helper()
	log := newMemlog()
	log.create("mqtt", 1)
	log.create(record.GapTopic, 1)
	fill(t, log, mqtt, 0, count, 10, 10)
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "first run", caughtUp)
	m.Close()
	return log
}

func values(rs []*kgo.Record) (keys []string) {
	for _, r := range rs {
		keys = append(keys, string(r.Key))
	}
	return keys
}

func TestPurgedSourceHaltsUnlessToldOtherwise(t *testing.T) {
	target := startFake(t)
	log := mirrored(t, target, 100)
	fill(t, log, mqtt, 100, 100, 10, 10)
	log.purge(mqtt, 150)
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "halt", halted(mirror.SourcePurged))
	m.Close()
	if g := gaps(t, log); len(g) != 0 {
		t.Fatalf("a halted partition wrote gaps: %+v", g)
	}

	m = start(t, options(target.ListenAddrs(), goOn), log)
	await(t, m, "continue", caughtUp)
	got := consume(t, target.ListenAddrs(), "edge.mqtt", 150)
	if key := string(got[100].Key); key != "k150" {
		t.Fatalf("behind the gap comes %s, want k150", key)
	}
	g := gaps(t, log)
	if len(g) != 1 || g[0].FirstOffset != 100 || g[0].LastOffset != 149 || g[0].Count != 50 || g[0].Reason != string(mirror.SourcePurged) {
		t.Fatalf("gap records: %+v", g)
	}
}

func TestSourcePurgedWhileStreaming(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 1)
	log.create(record.GapTopic, 1)
	fill(t, log, mqtt, 0, 100, 10, 10)
	m := start(t, options(target.ListenAddrs(), goOn), log)
	await(t, m, "start", caughtUp)
	// The reader waits at 100; what comes is gone before it looks.
	log.mu.Lock()
	p := &log.topics["mqtt"].parts[0]
	p.start, p.end = 130, 130
	log.mu.Unlock()
	fill(t, log, mqtt, 130, 20, 10, 10)
	await(t, m, "bridge", func(s mirror.FlowStatus) bool { return caughtUp(s) && s.RecordsSent == 120 })
	g := gaps(t, log)
	if len(g) != 1 || g[0].FirstOffset != 100 || g[0].LastOffset != 129 {
		t.Fatalf("gap records: %+v", g)
	}
	m.Close()
	// The anchor behind the gap is what a restart counts from.
	m = start(t, options(target.ListenAddrs(), goOn), log)
	fill(t, log, mqtt, 150, 5, 1, 10)
	await(t, m, "restart", caughtUp)
	got := values(consume(t, target.ListenAddrs(), "edge.mqtt", 125))
	if got[99] != "k99" || got[100] != "k130" || got[120] != "k150" || got[124] != "k154" {
		t.Fatalf("wrong records: %v", got[99:])
	}
}

func TestRecreatedSourceIsNoticed(t *testing.T) {
	target := startFake(t)
	log := mirrored(t, target, 100)
	log.create("mqtt", 1)
	fill(t, log, mqtt, 0, 200, 10, 10)
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "halt", halted(mirror.SourceRecreated))
	m.Close()
	m = start(t, options(target.ListenAddrs(), goOn), log)
	await(t, m, "continue", caughtUp)
	got := values(consume(t, target.ListenAddrs(), "edge.mqtt", 300))
	if got[99] != "k99" || got[100] != "k0" || got[299] != "k199" {
		t.Fatalf("wrong records around the change: %v", got[98:102])
	}
}

func TestRecreatedSourceIsNoticedWhileStreaming(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 1)
	fill(t, log, mqtt, 0, 50, 10, 10)
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "start", caughtUp)
	log.create("mqtt", 1)
	fill(t, log, mqtt, 0, 200, 10, 10)
	await(t, m, "halt", halted(mirror.SourceRecreated))
	if rs := consume(t, target.ListenAddrs(), "edge.mqtt", 50); len(rs) != 50 {
		t.Fatalf("%d records of the new topic leaked", len(rs)-50)
	}
}

func TestRecreatedTargetIsNoticed(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		t.Run(fmt.Sprint("streaming=", streaming), func(t *testing.T) {
			target := startFake(t)
			log := mirrored(t, target, 100)
			var m *mirror.Mirror
			if streaming {
				m = start(t, options(target.ListenAddrs(), goOn), log)
				await(t, m, "second run", caughtUp)
			}
			if _, err := admin(t, target.ListenAddrs()).DeleteTopic(t.Context(), "edge.mqtt"); err != nil {
				t.Fatal(err)
			}
			fill(t, log, mqtt, 100, 10, 10, 10)
			if !streaming {
				m = start(t, options(target.ListenAddrs()), log)
				await(t, m, "halt", halted(mirror.TargetRecreated))
				m.Close()
				m = start(t, options(target.ListenAddrs(), goOn), log)
			}
			s := await(t, m, "continue", func(s mirror.FlowStatus) bool { return caughtUp(s) && len(s.Events) > 0 })
			if s.Events[0].Kind != mirror.TargetRecreated {
				t.Fatalf("events: %+v", s.Events)
			}
			sameRecords(t, consume(t, target.ListenAddrs(), "edge.mqtt", 110), 0, 110)
		})
	}
}

func TestForeignRecordsAreNoticed(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 1)
	log.create(record.GapTopic, 1)
	fill(t, log, mqtt, 0, 50, 10, 10)
	cl, err := kgo.NewClient(kgo.SeedBrokers(target.ListenAddrs()...), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	foreign := func() {
		t.Helper()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "edge.mqtt", Value: []byte("mine")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin(t, target.ListenAddrs()).CreateTopic(t.Context(), 1, 1, nil, "edge.mqtt"); err != nil {
		t.Fatal(err)
	}
	foreign()
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "no position, not empty", halted(mirror.PositionLost))
	m.Close()
	m = start(t, options(target.ListenAddrs(), goOn), log)
	await(t, m, "continue", caughtUp)
	m.Close()

	foreign()
	fill(t, log, mqtt, 50, 5, 5, 10)
	m = start(t, options(target.ListenAddrs()), log)
	await(t, m, "a foreign record behind ours", halted(mirror.TargetDiverged))
}

func TestOversizeBatchesAreSplitAndOneRecordLeftOut(t *testing.T) {
	target := startFake(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000"}))
	log := newMemlog()
	log.create("mqtt", 1)
	log.create(record.GapTopic, 1)
	fill(t, log, mqtt, 0, 100, 50, 1000) // 50 KB batches
	fill(t, log, mqtt, 100, 1, 1, 30_000)
	fill(t, log, mqtt, 101, 100, 50, 1000)
	plain := func(f *mirror.FlowOptions) { f.Compression = "none" }
	m := start(t, options(target.ListenAddrs(), plain), log)
	s := await(t, m, "split", caughtUp)
	if len(s.Events) != 1 || s.Events[0].Kind != mirror.TooLarge || s.Events[0].Halted {
		t.Fatalf("events: %+v", s.Events)
	}
	got := values(consume(t, target.ListenAddrs(), "edge.mqtt", 200))
	for i, key := range got {
		if n := i + i/100; key != fmt.Sprintf("k%d", n) {
			t.Fatalf("record %d is %s", i, key)
		}
	}
	if g := gaps(t, log); len(g) != 1 || g[0].FirstOffset != 100 || g[0].LastOffset != 100 || g[0].Reason != string(mirror.TooLarge) {
		t.Fatalf("gap records: %+v", g)
	}
	if !m.BudgetIsFree() {
		t.Fatal("memory of the budget is not given back")
	}
}

func TestTwoMirrorsAtOnceWriteEachRecordOnce(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("mqtt", 2)
	other := record.TopicPartition{Topic: "mqtt", Partition: 1}
	var ms []*mirror.Mirror
	for range 3 {
		ms = append(ms, start(t, options(target.ListenAddrs()), log))
	}
	for n := 0; n < 2000; n += 50 {
		fill(t, log, mqtt, n, 50, 1, 10)
		fill(t, log, other, n, 50, 7, 200)
	}
	for _, m := range ms {
		await(t, m, "all", caughtUp)
	}
	for _, m := range ms {
		m.Close()
	}
	got := consume(t, target.ListenAddrs(), "edge.mqtt", 4000)
	sameRecords(t, got, 0, 2000)
	sameRecords(t, got, 1, 2000)
}

// advertised is a listener that says it listens where the link does.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// behindLink starts a fake Kafka that is reached through a link; direct is its real address.
func behindLink(t *testing.T) (wan *link.Link, direct string) {
	t.Helper()
	wan, err := link.New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wan.Close() })
	at, err := net.ResolveTCPAddr("tcp", wan.Addr())
	if err != nil {
		t.Fatal(err)
	}
	startFake(t, kfake.ListenFn(func(network, _ string) (net.Listener, error) {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		direct = l.Addr().String()
		wan.Forward(direct)
		return advertised{l, at}, nil
	}))
	return wan, direct
}

func TestFlappingLinkLosesAndDoublesNothing(t *testing.T) {
	wan, _ := behindLink(t)
	log := newMemlog()
	log.create("mqtt", 1)
	m := start(t, options([]string{wan.Addr()}), log)
	total := 0
	for range 30 {
		fill(t, log, mqtt, total, 100, 3, 500)
		total += 100
		sent := m.Status().Flows[0].RecordsSent
		await(t, m, "some progress", func(s mirror.FlowStatus) bool { return s.RecordsSent > sent })
		wan.Cut()
		wan.Restore()
	}
	s := await(t, m, "all", caughtUp)
	if len(s.Events) > 0 {
		t.Fatalf("events: %+v", s.Events)
	}
	m.Close()
	sameRecords(t, consume(t, []string{wan.Addr()}, "edge.mqtt", total), 0, total)
}

func TestLinkDownIsSeenAndCostsNoMemory(t *testing.T) {
	wan, _ := behindLink(t)
	log := newMemlog()
	log.create("mqtt", 1)
	fill(t, log, mqtt, 0, 100, 10, 10)
	m := start(t, options([]string{wan.Addr()}), log)
	await(t, m, "up", caughtUp)
	wan.Cut()
	fill(t, log, mqtt, 100, 5000, 50, 100)
	s := await(t, m, "down", func(s mirror.FlowStatus) bool { return s.LinkError != "" && s.State == mirror.Connecting })
	if p := s.Partitions[0]; p.RecordsBehind != 5000 || p.AckedOffset != 100 || p.Reason == "" {
		t.Fatalf("progress while down: %+v", p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	closed := make(chan struct{})
	go func() { m.Close(); close(closed) }()
	select {
	case <-closed:
	case <-ctx.Done():
		t.Fatal("Close waits for the link")
	}
	wan.Restore()
	m = start(t, options([]string{wan.Addr()}), log)
	await(t, m, "again", caughtUp)
	sameRecords(t, consume(t, []string{wan.Addr()}, "edge.mqtt", 5100), 0, 5100)
}

func TestNewTopicsAreNoticedAndInternalOnesLeftOut(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("__weir_retained", 1)
	log.create("weir-mirror-positions.other.internal", 1)
	log.create("private", 1)
	for _, name := range []string{"__weir_retained", "weir-mirror-positions.other.internal", "private"} {
		fill(t, log, record.TopicPartition{Topic: name}, 0, 5, 1, 1)
	}
	except := func(f *mirror.FlowOptions) { f.Exclude = []string{"priv*"}; f.Rename = "{topic}" }
	m := start(t, options(target.ListenAddrs(), except), log)
	log.create("late", 1)
	fill(t, log, record.TopicPartition{Topic: "late"}, 0, 5, 1, 1)
	await(t, m, "late topic", caughtUp)
	got, err := admin(t, target.ListenAddrs()).ListTopicsWithInternal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range got.Names() {
		if name != "late" && name != "weir-mirror-positions.edge.internal" {
			t.Errorf("topic %s was mirrored", name)
		}
	}
}

// Partitions added to a topic on its way are made at the target and mirrored there.
func TestAddedPartitionsAreMirrored(t *testing.T) {
	target := startFake(t)
	log := newMemlog()
	log.create("t", 1)
	fill(t, log, record.TopicPartition{Topic: "t"}, 0, 5, 1, 1)
	m := start(t, options(target.ListenAddrs()), log)
	await(t, m, "one partition", caughtUp)
	log.grow("t", 3)
	fill(t, log, record.TopicPartition{Topic: "t", Partition: 2}, 0, 7, 1, 1)
	await(t, m, "three partitions", func(s mirror.FlowStatus) bool { return caughtUp(s) && len(s.Partitions) == 3 })
	got := consume(t, target.ListenAddrs(), "edge.t", 12)
	sameRecords(t, got, 0, 5)
	sameRecords(t, got, 2, 7)
}
