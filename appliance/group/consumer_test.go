package group_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
)

// topicMap is a cluster whose topics have their names for ids.
type topicMap struct {
	sizes   map[string]int32
	changes uint64
}

func idOf(name string) (id group.TopicID) { copy(id[:], name); return id }

func (c *topicMap) Changes() uint64 { return c.changes }
func (c *topicMap) Topic(name string) (group.TopicID, int32, bool) {
	n, ok := c.sizes[name]
	return idOf(name), n, ok
}
func (c *topicMap) Name(id group.TopicID) (string, bool) {
	name := strings.TrimRight(string(id[:]), "\x00")
	_, ok := c.sizes[name]
	return name, ok
}
func (c *topicMap) Names() []string { return slices.Sorted(maps.Keys(c.sizes)) }

// consumers drives one consumer group through one script.
type consumers struct {
	t       *testing.T
	limits  group.Limits
	g       *group.ConsumerGroup
	start   time.Time
	now     time.Time
	cluster topicMap
	log     map[string][]byte // the last value by key
	out     strings.Builder
}

// TestConsumerTraces plays the scripts of testdata/consumer as TestTraces does.
func TestConsumerTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/consumer/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatal("no traces", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".trace"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playConsumers(t, string(want))
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

func newConsumers(t *testing.T) *consumers {
	start := time.UnixMilli(1_800_000_000_000).UTC()
	p := &consumers{t: t, start: start, now: start, log: map[string][]byte{}, cluster: topicMap{map[string]int32{}, 1}}
	p.limits = group.Limits{
		MaxMembers: 3, MaxSubscriptionBytes: 60, MaxRegexBytes: 30, MaxIDBytes: 20, MaxProtocols: 3, MaxSessionTimeout: time.Hour,
		ConsumerSessionTimeout: 45 * time.Second, ConsumerHeartbeatInterval: 5 * time.Second,
	}
	p.g = group.NewConsumerGroup(&p.limits)
	return p
}

func playConsumers(t *testing.T, script string) string {
	p := newConsumers(t)
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != '#' && line[0] != '>' {
			continue
		}
		fmt.Fprintln(&p.out, line)
		if line != "" && line[0] == '>' {
			p.event(line)
		}
	}
	return p.out.String()
}

func (p *consumers) event(line string) {
	fields := strings.Fields(line[1:])
	arg := map[string]string{}
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		arg[k] = v
	}
	switch fields[0] {
	case "topics":
		p.cluster.changes++
		p.cluster.sizes = map[string]int32{}
		for name, n := range arg {
			size, err := strconv.Atoi(n)
			p.check(err)
			p.cluster.sizes[name] = int32(size)
		}
		return
	case "beat":
		p.beat(arg)
	case "roomy":
		p.limits.MaxSubscriptionBytes, p.limits.MaxMembers = 1000, 10
		return
	case "classic":
		p.classic(arg)
	case "join":
		p.join(arg)
	case "sync", "hb":
		p.sync(fields[0], arg)
	case "leave":
		errs, changes := p.g.Leave(p.now, []group.Leaving{{MemberID: arg["m"], InstanceID: arg["instance"]}})
		p.write(changes)
		fmt.Fprintf(&p.out, "  %s\n", short(errs[0]))
	case "downgrade":
		p.downgrade()
	case "check":
		epoch, err := strconv.Atoi(arg["epoch"])
		p.check(err)
		_, reads := arg["reads"]
		fmt.Fprintf(&p.out, "  check: %s\n", short(p.g.CheckMember(arg["m"], arg["instance"], int32(epoch), reads)))
	case "pass":
		d, err := time.ParseDuration(arg["time"])
		p.check(err)
		p.pass(d)
	case "restart":
		g, err := group.RestoreConsumers(&p.limits, p.log, p.now)
		p.check(err)
		p.g = g
	default:
		p.t.Fatalf("unknown event %q", line)
	}
	d := p.g.Describe("g")
	fmt.Fprintf(&p.out, "  = %s epoch=%d target=%d\n", d.State, d.Epoch, d.TargetEpoch)
}

// beat sends a heartbeat; owned=t-0,t-1 is what the member holds, without it it does not say.
func (p *consumers) beat(arg map[string]string) {
	epoch, err := strconv.Atoi(arg["epoch"])
	p.check(err)
	ev := group.ConsumerHeartbeat{MemberID: arg["m"], InstanceID: arg["instance"], Epoch: int32(epoch), Rebalance: -1, ClientID: "c", ClientHost: "/10.0.0.1"}
	if epoch == 0 {
		ev.Rebalance, ev.OwnedSaid = 30*time.Second, true
	}
	if topics, ok := arg["topics"]; ok {
		ev.Topics = strings.Split(topics, ",")
	}
	for name, field := range map[string]**string{"regex": &ev.Regex, "assignor": &ev.Assignor} {
		if v, ok := arg[name]; ok {
			*field = &v
		}
	}
	if owned, ok := arg["owned"]; ok {
		ev.OwnedSaid = true
		ev.Owned = p.share(owned)
	}
	beat, changes, err := p.g.Heartbeat(p.now, &ev, &p.cluster)
	p.write(changes)
	if err != nil {
		fmt.Fprintf(&p.out, "  %s\n", short(err))
		return
	}
	fmt.Fprintf(&p.out, "  answer %s epoch=%d", beat.MemberID, beat.Epoch)
	if beat.Said {
		fmt.Fprint(&p.out, " ", beat.Assigned)
	}
	p.out.WriteByte('\n')
}

func (p *consumers) share(s string) group.Share {
	var hs []group.Held
	for h := range strings.SplitSeq(s, ",") {
		if topic, n, ok := strings.Cut(h, "-"); ok {
			partition, err := strconv.Atoi(n)
			p.check(err)
			hs = append(hs, group.Held{Topic: idOf(topic), Partition: int32(partition)})
		}
	}
	return group.NewShare(hs...)
}

func (p *consumers) write(changes []group.Change) {
	names := map[group.RecordKind]string{3: "group", 5: "member", 6: "target", 7: "target of", 8: "current"}
	for i, r := range p.g.Records("g", changes) {
		c := changes[i]
		if p.log[string(r.Key)] = r.Value; c.Gone {
			delete(p.log, string(r.Key))
			fmt.Fprintf(&p.out, "  delete %s %s\n", names[c.Kind], c.Member)
			continue
		}
		fmt.Fprintf(&p.out, "  write %s\n", strings.Join(strings.Fields(names[c.Kind]+" "+c.Member+" "+p.g.Dump(c.Kind, c.Member)), " "))
	}
}

func (p *consumers) pass(d time.Duration) {
	end := p.now.Add(d)
	for range 100 {
		at, ok := p.g.Deadline()
		if !ok || at.After(end) {
			p.now = end
			return
		}
		p.now = at
		fmt.Fprintf(&p.out, "  at %v:\n", p.now.Sub(p.start))
		p.write(p.g.Tick(p.now))
	}
	p.t.Fatal("the deadline does not move")
}

func (p *consumers) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Members that come, go, miss heartbeats and repeat them: nobody ever holds what
// somebody else holds, what is in the log restores the group, and in the end, once
// everybody keeps still, each partition has exactly one owner.
func TestConsumersNeverShareAPartition(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := newConsumers(t)
		p.limits.MaxMembers, p.limits.MaxSubscriptionBytes = 10, 1000
		p.cluster.sizes = map[string]int32{"t": 7, "u": 4}
		sim := &simulation{consumers: p, r: r, held: map[string]group.Share{}, epochs: map[string]int32{}, topics: map[string][]string{}, lost: map[string]bool{}}
		for range 300 {
			sim.step(true)
		}
		for range 100 {
			sim.step(false)
		}
		sim.wantAllHeld(seed)
	}
}

// simulation is clients that do as the protocol says, but unreliably.
type simulation struct {
	*consumers
	r      *rand.Rand
	held   map[string]group.Share
	epochs map[string]int32
	topics map[string][]string
	lost   map[string]bool // the last answer was, so the next heartbeat says everything
}

func (s *simulation) step(chaos bool) {
	id := fmt.Sprint("m", s.r.IntN(5))
	epoch, in := s.epochs[id]
	ev := group.ConsumerHeartbeat{MemberID: id, Epoch: epoch, Rebalance: -1, OwnedSaid: true, Owned: s.held[id]}
	switch n := s.r.IntN(20); {
	case !in && (chaos || len(s.epochs) == 0 || s.lost[id]):
		ev.Epoch, ev.Rebalance, ev.Topics, ev.Owned = 0, time.Minute, [][]string{{"t"}, {"t", "u"}, {"u"}}[s.r.IntN(3)], nil
	case !in:
		return
	case chaos && n == 0:
		ev.Epoch = -1
	case chaos && n == 1:
		s.cluster.changes++
		s.cluster.sizes["t"] = int32(1 + s.r.IntN(9))
	case chaos && n == 2:
		g, err := group.RestoreConsumers(&s.limits, s.log, s.now)
		s.check(err)
		s.g = g
	case chaos && n == 3:
		ev.Topics = [][]string{{"t"}, {"t", "u"}}[s.r.IntN(2)]
	}
	if ev.Topics != nil {
		s.topics[id] = ev.Topics
	}
	if s.lost[id] {
		ev.Rebalance, ev.Topics = time.Minute, s.topics[id]
	}
	s.now = s.now.Add(10 * time.Millisecond)
	beat, changes, err := s.g.Heartbeat(s.now, &ev, &s.cluster)
	if errors.Is(err, group.ErrFencedMemberEpoch) { // it has missed too much and joins anew
		delete(s.epochs, id)
		delete(s.held, id)
		s.lost[id] = true
		return
	}
	s.check(err)
	s.write(changes)
	if ev.Epoch < 0 {
		delete(s.epochs, id)
		delete(s.held, id)
		return
	}
	if s.lost[id] = chaos && s.r.IntN(10) == 0; s.lost[id] {
		return
	}
	s.epochs[id] = beat.Epoch
	if beat.Said {
		s.held[id] = beat.Assigned
	}
	for other, share := range s.held {
		for _, h := range s.held[id] {
			if other != id && slices.Contains(share, h) {
				s.t.Fatalf("%s and %s both hold %v\n%s", id, other, group.Share{h}, s.out.String())
			}
		}
	}
}

func (s *simulation) wantAllHeld(seed uint64) {
	d := s.g.Describe("g")
	if d.State != group.Stable {
		s.t.Fatalf("seed %d: the group is %s when all keep still", seed, d.State)
	}
	want := map[group.Held]bool{}
	for _, m := range d.Members {
		for _, name := range m.Topics {
			for partition := range s.cluster.sizes[name] {
				want[group.Held{Topic: idOf(name), Partition: partition}] = true
			}
		}
	}
	got := 0
	for id, share := range s.held {
		got += len(share)
		for _, h := range share {
			if !want[h] {
				s.t.Fatalf("seed %d: %s holds %v, which nobody subscribes to", seed, id, group.Share{h})
			}
		}
	}
	if got != len(want) {
		s.t.Fatalf("seed %d: %d partitions are held, want %d\n%s", seed, got, len(want), s.out.String())
	}
}

func TestAssignors(t *testing.T) {
	tp, u := idOf("t"), idOf("u")
	sizes := map[group.TopicID]int32{tp: 5, u: 2}
	both := []group.TopicID{tp, u}
	for _, tt := range []struct {
		name    string
		members map[string][]group.TopicID
		held    map[string]string
		want    string
	}{
		{"range", map[string][]group.TopicID{"a": both, "b": both}, nil, "a[t-0 t-1 t-2 u-0] b[t-3 t-4 u-1]"},
		{"range", map[string][]group.TopicID{"a": {tp}, "b": both, "c": {u}}, nil, "a[t-0 t-1 t-2] b[t-3 t-4 u-0] c[u-1]"},
		{"range", map[string][]group.TopicID{"a": {u}, "b": {u}, "c": {u}}, nil, "a[u-0] b[u-1] c[]"},
		{"uniform", map[string][]group.TopicID{"a": both, "b": both}, nil, "a[t-0 t-2 t-4 u-1] b[t-1 t-3 u-0]"},
		{"uniform", map[string][]group.TopicID{"a": both, "b": both}, map[string]string{"a": "t-0,t-1,t-2,t-3,t-4,u-0,u-1"}, "a[t-0 t-1 t-2 t-3] b[t-4 u-0 u-1]"},
		{"uniform", map[string][]group.TopicID{"a": both, "b": both, "c": both}, map[string]string{"a": "t-0,t-1,t-2,t-3", "b": "t-4,u-0,u-1"}, "a[t-0 t-1 t-2] b[t-4 u-0] c[t-3 u-1]"},
		{"uniform", map[string][]group.TopicID{"a": {tp}, "b": both}, nil, "a[t-0 t-2 t-4] b[t-1 t-3 u-0 u-1]"},
		{"uniform", map[string][]group.TopicID{"a": {tp}, "b": {u}}, map[string]string{"a": "u-0", "b": "u-1"}, "a[t-0 t-1 t-2 t-3 t-4] b[u-0 u-1]"},
		{"uniform", map[string][]group.TopicID{"a": nil}, map[string]string{"a": "t-0"}, "a[]"},
	} {
		held := map[string]group.Share{}
		for id, s := range tt.held {
			held[id] = (&consumers{t: t}).share(s)
		}
		got := group.Assign(tt.name, tt.members, held, sizes)
		s := ""
		for _, id := range slices.Sorted(maps.Keys(got)) {
			s += " " + id + got[id].String()
		}
		if s = strings.TrimSpace(s); s != tt.want {
			t.Errorf("%s of %v, held %v:\n got %s\nwant %s", tt.name, tt.members, tt.held, s, tt.want)
		}
	}
}
