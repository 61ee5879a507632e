package group_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/group"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew; inspect the diff")

// TestTraces plays the scripts of testdata: a line that begins with ">" is an
// event, what follows is the effects and the state after it.
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatal("no traces", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".trace"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s differs (-rewrite to accept):\n%s", file, firstDiff(string(want), got))
			}
		})
	}
}

func firstDiff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s\n\n%s", i+1, a, b, got)
		}
	}
	return ""
}

// player drives one group through one script.
type player struct {
	t      *testing.T
	limits group.Limits
	g      *group.Group
	start  time.Time
	now    time.Time
	refs   map[string]group.Ref
	names  map[group.Ref]string
	open   map[group.Ref]bool // asked and not answered
	value  []byte             // of the last store
	out    strings.Builder
}

func play(t *testing.T, script string) string {
	start := time.UnixMilli(1_800_000_000_000).UTC()
	p := &player{t: t, start: start, now: start, refs: map[string]group.Ref{}, names: map[group.Ref]string{}, open: map[group.Ref]bool{}}
	p.limits = group.Limits{
		MinSessionTimeout: time.Second, MaxSessionTimeout: time.Minute, InitialRebalanceDelay: -1,
		MaxGroups: 10, MaxMembers: 4, MaxProtocols: 3, MaxSubscriptionBytes: 100, MaxAssignmentBytes: 200, MaxIDBytes: 20,
	}
	p.g = group.NewGroup(&p.limits, p.now)
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != '#' && line[0] != '>' {
			continue
		}
		fmt.Fprintln(&p.out, line)
		if line != "" && line[0] == '>' {
			p.event(line)
			p.state()
		}
	}
	return p.out.String()
}

// event understands ">", a verb and key=value arguments.
func (p *player) event(line string) {
	fields := strings.Fields(line[1:])
	arg := map[string]string{}
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		arg[k] = v
	}
	has := func(k string) bool { _, ok := arg[k]; return ok }
	generation := int32(p.g.Generation())
	if has("generation") {
		n, err := strconv.Atoi(arg["generation"])
		p.check(err)
		generation = int32(n)
	}
	switch fields[0] {
	case "delay":
		p.limits.InitialRebalanceDelay = p.duration(arg["by"])
	case "join":
		ev := group.JoinGroup{
			Ref: p.ref(arg["ref"]), MemberID: arg["member"], InstanceID: arg["instance"], NewMemberID: arg["new"], ClientID: "c-" + arg["ref"], ClientHost: "/10.0.0.1",
			ProtocolType: "consumer", SessionTimeout: 10 * time.Second, RebalanceTimeout: 30 * time.Second,
			RequireKnownMember: has("v4"), CanSkipAssignment: has("v9"),
		}
		if has("type") {
			ev.ProtocolType = arg["type"]
		}
		if has("session") {
			ev.SessionTimeout = p.duration(arg["session"])
		}
		if has("rebalance") {
			ev.RebalanceTimeout = p.duration(arg["rebalance"])
		}
		if !has("protocols") {
			arg["protocols"] = "range:t"
		}
		for s := range strings.SplitSeq(arg["protocols"], ",") {
			if name, metadata, _ := strings.Cut(s, ":"); name != "" {
				ev.Protocols = append(ev.Protocols, group.Protocol{Name: name, Metadata: []byte(metadata)})
			}
		}
		p.step(ev)
	case "sync":
		ev := group.SyncGroup{Ref: p.ref(arg["ref"]), MemberID: arg["member"], InstanceID: arg["instance"], Generation: generation, Protocol: arg["protocol"]}
		if has("assign") {
			ev.Assignments = map[string][]byte{}
			for s := range strings.SplitSeq(arg["assign"], ",") {
				id, a, _ := strings.Cut(s, ":")
				ev.Assignments[id] = []byte(a)
			}
		}
		p.step(ev)
	case "heartbeat":
		p.step(group.Heartbeat{Ref: p.ref("heartbeat"), MemberID: arg["member"], InstanceID: arg["instance"], Generation: generation})
	case "leave":
		ev := group.LeaveGroup{Ref: p.ref("leave")}
		for s := range strings.SplitSeq(arg["members"], ",") {
			id, instance, _ := strings.Cut(s, "/")
			ev.Members = append(ev.Members, group.Leaving{MemberID: id, InstanceID: instance})
		}
		p.step(ev)
	case "commit":
		err := p.g.CheckCommit(p.now, arg["member"], arg["instance"], generation)
		fmt.Fprintf(&p.out, "  commit: %s\n", short(err))
	case "stored":
		seq, err := strconv.Atoi(arg["seq"])
		p.check(err)
		ev := group.Stored{Seq: int64(seq)}
		if has("failed") {
			ev.Err = errors.New("disk full")
		}
		p.step(ev)
	case "pass":
		p.pass(p.duration(arg["time"]))
	case "restart":
		g, err := group.Restore(&p.limits, p.value, p.now)
		p.check(err)
		p.g = g
		clear(p.open)
	case "kill":
		fmt.Fprintf(&p.out, "  kill: %s\n", short(p.g.Kill()))
	default:
		p.t.Fatalf("unknown event %q", line)
	}
}

// pass lets time go by, with a Tick at every deadline on the way.
func (p *player) pass(d time.Duration) {
	end := p.now.Add(d)
	for range 100 {
		at, ok := p.g.Deadline()
		if !ok || at.After(end) {
			p.now = end
			return
		}
		p.now = at
		fmt.Fprintf(&p.out, "  at %v:\n", p.now.Sub(p.start))
		p.step(group.Tick{})
	}
	p.t.Fatal("the deadline does not move")
}

func (p *player) step(ev group.Event) {
	for _, e := range p.g.Step(p.now, ev) {
		switch e := e.(type) {
		case group.Answer:
			if !p.open[e.Ref] {
				p.t.Fatalf("%s answered twice", p.names[e.Ref])
			}
			delete(p.open, e.Ref)
			fmt.Fprintf(&p.out, "  %s: %s\n", p.names[e.Ref], answer(e))
		case group.Store:
			p.value = e.Value
			fmt.Fprintf(&p.out, "  store %d: %s\n", e.Seq, stored(p.t, e.Value))
		}
	}
}

func answer(a group.Answer) string {
	var w strings.Builder
	w.WriteString(short(a.Err))
	if j := a.Join; j != nil {
		fmt.Fprintf(&w, " member=%s generation=%d", j.MemberID, j.Generation)
		if a.Err == nil {
			fmt.Fprintf(&w, " %s/%s leader=%s", j.ProtocolType, j.Protocol, j.Leader)
		}
		for i, m := range j.Members {
			fmt.Fprintf(&w, "%s%s%s:%s", []string{" members=", ","}[min(i, 1)], m.MemberID, slash(m.InstanceID), m.Metadata)
		}
		if j.SkipAssignment {
			w.WriteString(" skip assignment")
		}
	}
	if s := a.Sync; s != nil {
		fmt.Fprintf(&w, " %s/%s assignment=%q", s.ProtocolType, s.Protocol, s.Assignment)
	}
	for _, err := range a.Leave {
		fmt.Fprintf(&w, " [%s]", short(err))
	}
	return w.String()
}

func stored(t *testing.T, value []byte) string {
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(value); err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("generation=%d", v.Generation)
	for _, m := range v.Members {
		s += fmt.Sprintf(" %s:%s=%q", m.MemberID, m.Subscription, m.Assignment)
	}
	return s
}

func (p *player) state() {
	d := p.g.Describe("g")
	fmt.Fprintf(&p.out, "  = %s generation=%d", d.State, d.Generation)
	var ids []string
	for _, m := range d.Members {
		ids = append(ids, m.MemberID+slash(m.InstanceID))
	}
	if len(ids) > 0 {
		fmt.Fprintf(&p.out, " members=%s", strings.Join(ids, ","))
	}
	var waiting []string
	for ref := range p.open {
		waiting = append(waiting, p.names[ref])
	}
	if slices.Sort(waiting); len(waiting) > 0 {
		fmt.Fprintf(&p.out, " waiting=%s", strings.Join(waiting, ","))
	}
	if at, ok := p.g.Deadline(); ok {
		fmt.Fprintf(&p.out, " until=%v", at.Sub(p.start))
	}
	p.out.WriteByte('\n')
}

func slash(instance string) string {
	if instance == "" {
		return ""
	}
	return "/" + instance
}

func (p *player) ref(name string) group.Ref {
	r := group.Ref(len(p.names) + 1)
	p.names[r], p.open[r] = name, true
	return r
}

func (p *player) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	p.check(err)
	return d
}

func (p *player) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func short(err error) string {
	if err == nil {
		return "ok"
	}
	return "error: " + err.Error()
}
