package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/mirror"
	"github.com/weirmq/weir/testbed/logbox"
)

// unmirrored is a site whose log holds 1 MiB and lets go of what is mirrored.
type unmirrored struct {
	t     *testing.T
	box   *logbox.Box
	flows atomic.Pointer[mirror.Mirror]
	next  int // value of the next record
}

func newUnmirrored(t *testing.T) *unmirrored {
	u := &unmirrored{t: t}
	box, err := logbox.Open(t.TempDir(), func(o *topic.Options) {
		o.BudgetBytes = 1 << 20
		o.Mirrored = func(tp record.TopicPartition) (int64, bool) {
			if m := u.flows.Load(); m != nil {
				return m.Carried(tp)
			}
			return 0, false
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	u.box = box
	configs := map[string]string{"segment.bytes": "65536", "weir.disk.policy": topic.DiskKeepUnmirrored}
	if _, err := box.Log.Create("mqtt", topic.Spec{Configs: configs}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Log.Ensure(record.GapTopic, topic.GapSpec()); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *unmirrored) mirror(o mirror.Options) *mirror.Mirror {
	u.t.Helper()
	m, err := mirror.Start(o, mirror.Deps{Log: u.box.Log, Topics: u.box, Gaps: u.box.Log})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { m.Close() })
	u.flows.Store(m)
	return m
}

func (u *unmirrored) start() int64 {
	p, err := u.box.Partition(mqtt)
	if err != nil {
		u.t.Fatal(err)
	}
	return p.LogStartOffset
}

func (u *unmirrored) append() error {
	u.t.Helper()
	value := fmt.Sprintf("%d %s", u.next, strings.Repeat("x", 4000))
	b, err := record.NewBatch(record.None, record.Record{Value: []byte(value), Timestamp: 1})
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err = u.box.Log.Append(u.t.Context(), mqtt, b); err == nil {
		u.next++
	} else if !errors.Is(err, record.ErrDiskFull) {
		u.t.Fatal(err)
	}
	return err
}

// untilRefused appends until neither an append nor the reclaiming of room succeeds.
func (u *unmirrored) untilRefused() {
	u.t.Helper()
	for refused := 0; refused < 2; {
		if u.append() != nil {
			refused++
			u.box.Log.Reclaim()
		} else {
			refused = 0
		}
	}
}

// atTarget reads how many records the target has, and that they are all in order.
func atTarget(t *testing.T, addrs []string, count int) {
	t.Helper()
	for n, r := range consume(t, addrs, "edge.mqtt", count) {
		if got, _, _ := strings.Cut(string(r.Value), " "); got != fmt.Sprint(n) {
			t.Fatalf("record %d at the target is %s", n, got)
		}
	}
}

// While the mirror is away nothing goes and appends are refused; while it carries
// on the log lives within its budget for ever; when it is away again only what it
// has carried away is gone, and no record is missing at the target.
func TestKeepUnmirroredLetsGoOfWhatIsCarriedAway(t *testing.T) {
	target := startFake(t)
	u := newUnmirrored(t)
	u.untilRefused()
	if u.start() != 0 {
		t.Fatalf("the log starts at %d before anything is mirrored", u.start())
	}
	m := u.mirror(options(target.ListenAddrs()))
	deadline := time.Now().Add(testTimeout)
	for total := u.next + 1000; u.next < total; { // four times what the budget holds
		if u.append() != nil {
			u.box.Log.Reclaim()
			if time.Now().After(deadline) {
				t.Fatalf("refused at %d although the mirror goes on: %+v", u.next, m.Status())
			}
			time.Sleep(time.Millisecond) // as a producer does before it tries again
		}
		start := u.start()
		if at, known := m.Carried(mqtt); known && start > at {
			t.Fatalf("the log starts at %d, carried away is what lies before %d", start, at)
		}
	}
	await(t, m, "caught up", caughtUp)
	if at, known := m.Carried(mqtt); !known || at != int64(u.next) {
		t.Fatalf("carried %d, %v; want %d", at, known, u.next)
	}
	m.Close()
	u.flows.Store(nil)
	before := u.start()
	for range 50 {
		u.append()
	}
	u.untilRefused()
	if u.start() != before {
		t.Fatalf("the log start went from %d to %d without a mirror", before, u.start())
	}
	// Another mirror knows where the last one was, once it has asked.
	m = u.mirror(options(target.ListenAddrs()))
	await(t, m, "caught up again", caughtUp)
	u.untilRefusedAt(m)
	atTarget(t, target.ListenAddrs(), u.next)
	if u.start() <= before || u.start() > int64(u.next) {
		t.Fatalf("the log starts at %d, ends at %d", u.start(), u.next)
	}
	next := int64(0)
	for _, g := range boxGaps(t, u.box) {
		if g.FirstOffset != next || g.Reason != record.GapDisk || g.Detail != topic.DiskKeepUnmirrored {
			t.Fatalf("gap %+v, want one that begins at %d", g, next)
		}
		next = g.LastOffset + 1
	}
	if next != u.start() {
		t.Fatalf("gap records end at %d, the log starts at %d", next, u.start())
	}
}

// untilRefusedAt lets room be made once more of what m has carried.
func (u *unmirrored) untilRefusedAt(m *mirror.Mirror) {
	u.t.Helper()
	u.box.Log.Reclaim()
	for range 20 {
		u.append()
	}
	await(u.t, m, "the rest", caughtUp)
}

// With two flows the slower one decides, and one that has never been there keeps all.
func TestKeepUnmirroredWaitsForEveryFlow(t *testing.T) {
	target := startFake(t)
	u := newUnmirrored(t)
	o := options(target.ListenAddrs())
	away := o.Flows[0]
	away.Name, away.To = "away", []string{"127.0.0.1:1"}
	o.Flows = append(o.Flows, away)
	m := u.mirror(o)
	u.untilRefused()
	await(t, m, "one of two flows", func(s mirror.FlowStatus) bool { return caughtUp(s) })
	u.untilRefused()
	if _, known := m.Carried(mqtt); known || u.start() != 0 {
		t.Fatalf("known %v, the log starts at %d; one target was never reached", known, u.start())
	}
	if _, known := m.Carried(record.TopicPartition{Topic: "nothing"}); known {
		t.Fatal("a topic that is not there is mirrored")
	}
}

// boxGaps reads the gap records of a box.
func boxGaps(t *testing.T, box *logbox.Box) (out []record.Gap) {
	t.Helper()
	tp := record.TopicPartition{Topic: record.GapTopic}
	p, err := box.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	for next := int64(0); next < p.HighWatermark; {
		raw, err := box.Log.Fetch(context.Background(), tp, next, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, decodeGaps(t, raw)...)
		for b := range raw.All() {
			next = b.NextOffset()
		}
	}
	return out
}
