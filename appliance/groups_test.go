package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/topic"
)

// site is a broker on a data directory and the topic "t" of six partitions.
type site struct {
	t    testing.TB
	data string
	addr string // kept over restarts, so that clients find it again
	b    *appliance.Broker
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, data: t.TempDir(), addr: "127.0.0.1:0"}
	s.open()
	s.addr = s.b.KafkaAddr().String()
	if _, err := s.b.Topics().Create("t", topic.Spec{Partitions: 6}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.b.Close() })
	return s
}

func (s *site) open() {
	s.t.Helper()
	b, err := appliance.Open(appliance.Options{Data: s.data, Kafka: s.addr, Groups: group.Options{Limits: group.Limits{
		MinSessionTimeout: time.Millisecond, InitialRebalanceDelay: -1, ConsumerHeartbeatInterval: 100 * time.Millisecond,
	}}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.b = b
}

// restart closes the broker, or leaves what a killed one would, and opens it again.
func (s *site) restart(kill bool) {
	s.t.Helper()
	if kill {
		s.data = leftByKill(s.t, s.data)
	}
	if err := s.b.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

// leftByKill is a copy of the directory of a broker that is not told to stop: what
// one moment left, as a kill does. A file that came, went or was written meanwhile
// would make a copy of several moments, which no kill leaves; that one is dropped.
func leftByKill(t testing.TB, dir string) string {
	t.Helper()
	for {
		before, left := listed(t, dir), t.TempDir()
		err := os.CopyFS(left, os.DirFS(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil && listed(t, dir) == before {
			return left
		}
		if err := os.RemoveAll(left); err != nil {
			t.Fatal(err)
		}
	}
}

// listed tells every file below the directory with its size and its last change.
func listed(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (s *site) client(opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.addr), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// produce writes values from..to-1, each with itself as the key.
func (s *site) produce(from, to int) {
	s.t.Helper()
	cl := s.client(kgo.DefaultProduceTopic("t"))
	defer cl.Close()
	var rs []*kgo.Record
	for i := range to - from {
		v := fmt.Append(nil, from+i)
		rs = append(rs, &kgo.Record{Key: v, Value: v})
	}
	if err := cl.ProduceSync(s.ctx(), rs...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// pool is the values that all consumers of a test have seen.
type pool struct {
	mu   sync.Mutex
	seen map[string]int
	more chan struct{}
}

func newPool() *pool { return &pool{seen: map[string]int{}, more: make(chan struct{}, 1)} }

func (p *pool) add(v string) {
	p.mu.Lock()
	p.seen[v]++
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// wait returns when exactly the values from..to-1 have been seen.
func (p *pool) wait(t testing.TB, from, to int) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		n, missing := len(p.seen), -1
		for i := from; i < to && missing < 0; i++ {
			if p.seen[fmt.Sprint(i)] == 0 {
				missing = i
			}
		}
		p.mu.Unlock()
		if missing < 0 {
			if n != to-from {
				t.Fatalf("%d values seen, want only %d to %d", n, from, to)
			}
			return
		}
		select {
		case <-p.more:
		case <-timeout:
			t.Fatalf("%d of %d values seen; %d is missing", n, to-from, missing)
		}
	}
}

// consumer is a kgo group member that commits what it has seen after each poll.
type consumer struct {
	cl      *kgo.Client
	mu      sync.Mutex
	dead    bool
	conns   []net.Conn
	stopped chan struct{}
	cancel  context.CancelFunc
}

func (s *site) consume(p *pool, opts ...kgo.Opt) *consumer {
	c := &consumer{stopped: make(chan struct{})}
	c.cl = s.client(append([]kgo.Opt{
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(time.Second), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.Dialer(c.dial), kgo.FetchMaxWait(100 * time.Millisecond),
	}, opts...)...)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		defer close(c.stopped)
		for ctx.Err() == nil {
			fs := c.cl.PollRecords(ctx, 100)
			fs.EachRecord(func(r *kgo.Record) { p.add(string(r.Value)) })
			if ctx.Err() == nil {
				_ = c.cl.CommitUncommittedOffsets(ctx)
			}
		}
	}()
	return c
}

func (c *consumer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	for {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil {
			// The broker restarts. A dial that fails too often has kgo join anew, which
			// may be a rebalance; here it is to be a slow one.
			time.Sleep(5 * time.Millisecond)
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.dead && err == nil {
			err = errors.Join(errors.New("killed"), nc.Close())
		}
		if err == nil {
			c.conns = append(c.conns, nc)
		}
		return nc, err
	}
}

// kill cuts the member off without a word to the broker.
func (c *consumer) kill() {
	c.mu.Lock()
	c.dead = true
	for _, nc := range c.conns {
		nc.Close()
	}
	c.mu.Unlock()
	c.close()
}

// close has the member commit what it has and leave, unless it is static.
func (c *consumer) close() {
	c.cancel()
	<-c.stopped
	c.cl.Close()
}

// waitGroup waits until the group is as it should be, and describes it.
func (s *site) waitGroup(what string, ok func(group.Description) bool) group.Description {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		d, _ := s.b.Groups().Describe("g")
		if ok(d) {
			return d
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the group did not become %s: %+v", what, d)
		}
	}
}

// assigned is how many partitions of t each member has, nil unless all six are
// assigned to somebody.
func assigned(d group.Description) (n []int) {
	var all []int32
	for _, m := range d.Members {
		a := kmsg.NewConsumerMemberAssignment()
		if a.ReadFrom(m.Assignment) != nil {
			return nil
		}
		had := len(all)
		for _, t := range a.Topics {
			all = append(all, t.Partitions...)
		}
		n = append(n, len(all)-had)
	}
	slices.Sort(all)
	if fmt.Sprint(all) != "[0 1 2 3 4 5]" {
		return nil
	}
	slices.Sort(n)
	return n
}

// evenly is a stable group in which each member has so many partitions.
func evenly(n ...int) func(group.Description) bool {
	return func(d group.Description) bool { return d.State == group.Stable && slices.Equal(assigned(d), n) }
}

func TestGroupLosesAMember(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{"cooperative-sticky": kgo.CooperativeStickyBalancer(), "range": kgo.RangeBalancer()} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/kill=%v", name, kill), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.produce(0, 1000)
				p := newPool()
				var members []*consumer
				for range 3 {
					members = append(members, s.consume(p, kgo.Balancers(balancer)))
				}
				p.wait(t, 0, 1000)
				s.waitGroup("three", evenly(2, 2, 2))

				members[1].kill()
				s.waitGroup("two", evenly(3, 3))
				s.produce(1000, 1500)
				p.wait(t, 0, 1500)
				for _, i := range []int{0, 2} {
					if err := members[i].cl.CommitUncommittedOffsets(s.ctx()); err != nil {
						t.Error(err)
					}
					members[i].close()
				}
				s.waitGroup("empty", func(d group.Description) bool { return d.State == group.Empty })

				s.restart(kill)
				s.produce(1500, 1600)
				after := newPool()
				c := s.consume(after)
				after.wait(t, 1500, 1600) // and nothing that was committed before
				c.close()
			})
		}
	}
}

func TestStaticMemberRestartsQuietly(t *testing.T) {
	s := newSite(t)
	p := newPool()
	static := func(id string) *consumer {
		return s.consume(p, kgo.InstanceID(id), kgo.SessionTimeout(20*time.Second), kgo.Balancers(kgo.StickyBalancer()))
	}
	a, b := static("a"), static("b")
	d := s.waitGroup("two", evenly(3, 3))
	idOf := func(d group.Description, instance string) string {
		for _, m := range d.Members {
			if m.InstanceID == instance {
				return m.MemberID
			}
		}
		return ""
	}
	s.produce(0, 100)
	p.wait(t, 0, 100)
	b.close()
	s.produce(100, 200) // half of it for nobody, for now
	b = static("b")
	p.wait(t, 0, 200)
	now := s.waitGroup("two", evenly(3, 3))
	if now.Generation != d.Generation || idOf(now, "b") == idOf(d, "b") || idOf(now, "a") != idOf(d, "a") {
		t.Errorf("a static member's restart made generation %d of %d", now.Generation, d.Generation)
	}
	// The broker restarts under both: nobody notices more than a lost connection.
	s.restart(true)
	s.produce(200, 300)
	p.wait(t, 0, 300)
	if again := s.waitGroup("two", evenly(3, 3)); again.Generation != d.Generation || idOf(again, "b") != idOf(now, "b") {
		t.Errorf("the broker's restart made generation %d of %d", again.Generation, d.Generation)
	}
	a.close()
	b.close()
}

func TestKcatGroupResumes(t *testing.T) {
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is not installed")
	}
	s := newSite(t)
	read := func() []string {
		t.Helper()
		cmd := exec.CommandContext(s.ctx(), kcat, "-b", s.addr, "-G", "g", "-e", "-q", "-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=100", "t")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat: %v: %s", err, stderr.Bytes())
		}
		return strings.Fields(string(out))
	}
	s.produce(0, 50)
	if got := read(); len(got) != 50 {
		t.Fatalf("kcat read %d records, want 50", len(got))
	}
	s.produce(50, 60)
	s.restart(true)
	got := read()
	slices.Sort(got)
	if fmt.Sprint(got) != "[50 51 52 53 54 55 56 57 58 59]" {
		t.Fatalf("after a restart kcat read %v", got)
	}
	if m, _ := filepath.Glob(filepath.Join(s.data, "topics", group.TopicName+"-0", "*.log")); len(m) == 0 {
		t.Error("no segment of the offsets topic")
	}
}
