package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/fleet"
	"github.com/weirmq/weir/testbed/site"
)

// Verdict compares what the devices were told with what the core has.
type Verdict struct {
	Acked    int64 `json:"acked"`    // valid readings that the edge acknowledged
	Unique   int64 `json:"unique"`   // readings found at the core, each counted once
	Missing  int64 `json:"missing"`  // acked, not at the core
	Repeated int64 `json:"repeated"` // records at the core whose reading was there before
	Foreign  int64 `json:"foreign"`  // records at the core that are no reading of these devices
	Resent   int64 `json:"resent"`   // readings that devices sent again after a reconnect: QoS 1 lets them repeat
	Unacked  int64 `json:"unacked"`  // readings of unknown fate
	Rejected int64 `json:"rejected"` // readings that were invalid on purpose
	Dead     int64 `json:"dead"`     // dead letters that the edge counts

	Examples []string `json:"examples,omitempty"` // some of the missing
}

// OK reports whether nothing was lost and nothing repeated, but for what
// devices themselves sent twice.
func (v *Verdict) OK() bool { return v.Missing == 0 && v.Foreign == 0 && v.Repeated <= v.Resent }

// String is the sentence at the end of the demo.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s readings acked, %s unique at the core: ", count(v.Acked), count(v.Unique))
	var faults []string
	for _, f := range []struct {
		n    int64
		what string
	}{{v.Missing, "lost"}, {v.Repeated, "repeated"}, {v.Foreign, "not of these devices"}} {
		if f.n > 0 {
			faults = append(faults, count(f.n)+" "+f.what)
		}
	}
	if len(faults) == 0 {
		b.WriteString("nothing lost, nothing repeated")
	}
	b.WriteString(strings.Join(faults, ", "))
	if v.Repeated > 0 && v.OK() {
		fmt.Fprintf(&b, " (devices sent %s again after reconnecting, as QoS 1 allows)", count(v.Resent))
	}
	if v.Unacked > 0 {
		fmt.Fprintf(&b, "; %s readings were not acked", count(v.Unacked))
	}
	if v.Rejected > 0 {
		fmt.Fprintf(&b, "; of %s invalid readings %s are dead letters", count(v.Rejected), count(v.Dead))
	}
	if len(v.Examples) > 0 {
		fmt.Fprintf(&b, "; lost are for example %s", strings.Join(v.Examples, ", "))
	}
	return b.String()
}

// count reads the core's mirrored topic until all acked readings were found or
// nothing has come for DrainTimeout, and then on to its end, for repeats.
func (d *demo) count(ctx context.Context, report *fleet.Report) (*Verdict, error) {
	d.say("\ncounting: transform and mirror finish, then every reading at the core is looked up")
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.core.Addresses().Kafka), kgo.ConsumeTopics(d.mirrored()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	t := &tally{found: fleet.NewLedger(d.Devices), next: map[int32]int64{}}
	for last := time.Now(); time.Since(last) < d.DrainTimeout; {
		if n := t.poll(ctx, cl); n > 0 {
			last = time.Now()
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("counting was cut short: %w", ctx.Err())
		}
		if missing, _ := report.AckedTotal.Missing(t.found, 0); missing == 0 && d.drained(ctx) && t.atEnd(ctx, cl, d.mirrored()) {
			break
		}
	}
	return d.verdict(ctx, report, t), nil
}

// drained reports whether transform and mirror say that they have nothing left.
func (d *demo) drained(ctx context.Context) bool {
	s := d.sample(ctx)
	return s.edgeErr == nil && s.transformLag() == 0 && s.edge.Totals.MirrorLag == 0
}

func (d *demo) verdict(ctx context.Context, report *fleet.Report, t *tally) *Verdict {
	v := &Verdict{
		Acked: report.AckedTotal.Len(), Unique: t.found.Len(), Repeated: t.repeated, Foreign: t.foreign,
		Resent: report.Resent, Unacked: report.Unacked(), Rejected: report.AckedBad,
	}
	var some []fleet.Event
	v.Missing, some = report.AckedTotal.Missing(t.found, 5)
	for _, e := range some {
		v.Examples = append(v.Examples, fmt.Sprintf("device %d reading %d", e.Device, e.Seq))
	}
	var st site.Status
	if st, _ = d.edge.Status(ctx); st.Ready {
		v.Dead = st.Totals.DeadLetters
	}
	return v
}

// tally is what was read at the core.
type tally struct {
	found    *fleet.Ledger
	next     map[int32]int64 // offset to read next, by partition
	repeated int64
	foreign  int64
}

// poll reads what there is within a short time and returns how many records it was.
func (t *tally) poll(ctx context.Context, cl *kgo.Client) (n int) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
		n++
		t.next[r.Partition] = r.Offset + 1
		device, seq, ok := reading(r.Value)
		switch {
		case !ok:
			t.foreign++
		case t.found.Has(device, seq):
			t.repeated++
		case !t.found.Add(device, seq):
			t.foreign++
		}
	})
	return n
}

func reading(value []byte) (device int, seq int64, ok bool) {
	var m struct {
		Device string `json:"device"`
		Seq    int64  `json:"seq"`
	}
	if json.Unmarshal(value, &m) != nil {
		return 0, 0, false
	}
	number, isOurs := strings.CutPrefix(m.Device, "dev-")
	device, err := strconv.Atoi(number)
	return device, m.Seq, isOurs && err == nil
}

// atEnd reports whether the topic was read to its end.
func (t *tally) atEnd(ctx context.Context, cl *kgo.Client, topic string) bool {
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		return false
	}
	all := true
	ends.Each(func(o kadm.ListedOffset) { all = all && t.next[o.Partition] >= o.Offset })
	return all
}
