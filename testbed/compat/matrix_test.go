package compat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// foreign is one client library and what it has.
type foreign struct {
	name         string
	driver       func(t *testing.T) compat.Driver
	codecs       []string
	transactions bool
	admin        bool
	consumer     bool // the consumer protocol of KIP-848
}

var (
	allCodecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	noZstd    = []string{"none", "gzip", "snappy", "lz4"} // Node.js 20 has no zstd
)

func foreigners() []foreign {
	all := []foreign{
		{"kcat", func(*testing.T) compat.Driver { return compat.Shell("kcat") }, allCodecs, false, false, false},
		{"confluent-kafka", func(t *testing.T) compat.Driver { return compat.Python(t, "confluent") }, allCodecs, true, true, true},
		{"franz-go", func(t *testing.T) compat.Driver { return compat.Go(t, "franz-go") }, allCodecs, true, true, false},
		{"sarama", func(t *testing.T) compat.Driver { return compat.Go(t, "sarama") }, allCodecs, true, true, false},
		{"kafka-go", func(t *testing.T) compat.Driver { return compat.Go(t, "kafka-go") }, allCodecs, false, true, false},
		{"kafkajs", func(t *testing.T) compat.Driver { return compat.Node(t, "kafkajs.cjs") }, allCodecs, true, true, false},
		{"platformatic", func(t *testing.T) compat.Driver { return compat.Node(t, "platformatic.mjs") }, noZstd, true, true, false},
		{"kafka-python", func(t *testing.T) compat.Driver { return compat.Python(t, "kafka_python") }, allCodecs, true, true, false},
	}
	for _, version := range compat.JavaVersions {
		driver := func(t *testing.T) compat.Driver { return compat.Java(t, version, "Client") }
		all = append(all, foreign{"java-" + version, driver, allCodecs, true, true, strings.HasPrefix(version, "4")})
	}
	return all
}

// Every client passes every check that its library can, against one appliance that
// serves them all at the same time.
func TestClients(t *testing.T) {
	t.Parallel()
	// Members of KIP-848 take the broker's timeouts: those of the others in these tests.
	s, secured := startWeir(t, "kafka: {group.consumer.session.timeout: 6s, group.consumer.heartbeat.interval: 500ms}\n"), startSecured(t)
	results := newResults()
	t.Run("all", func(t *testing.T) {
		for _, f := range foreigners() {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				d := f.driver(t)
				c := &checked{f: f, d: d, s: s, secured: secured, results: results.client(strings.TrimSpace(drive(t, d, nil, "version")))}
				t.Run("codecs", c.codecs)
				t.Run("group", c.group)
				t.Run("consumer", c.consumerProtocol)
				t.Run("admin", c.admin)
				t.Run("transactions", c.transactions)
				t.Run("security", c.security)
			})
		}
	})
	if !t.Failed() {
		results.compare(t)
	}
}

// checked is a client under test.
type checked struct {
	f       foreign
	d       compat.Driver
	s       *site.Site
	secured *secured
	results *clientResults
}

func (c *checked) topic(check string) string { return c.f.name + "-" + check }

func (c *checked) drive(t *testing.T, args ...string) string {
	t.Helper()
	return drive(t, c.d, []string{"BOOTSTRAP=" + c.s.Addresses().Kafka}, args...)
}

// drive runs a driver to its end.
func drive(t *testing.T, d compat.Driver, env []string, args ...string) string {
	t.Helper()
	out, err := tryDrive(t, d, env, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", d.Argv[len(d.Argv)-1], strings.Join(args, " "), err)
	}
	return out
}

func tryDrive(t *testing.T, d compat.Driver, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.Argv[0], append(slices.Clone(d.Argv[1:]), args...)...)
	cmd.Env = slices.Concat(os.Environ(), d.Env, env)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, stdout.String(), stderr.String())
	}
	return stdout.String(), err
}

// newAdmin is an admin client of the test's own, for the length of the test.
func newAdmin(t *testing.T, s *site.Site) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

func makeTopic(t *testing.T, s *site.Site, name string, partitions int32) {
	t.Helper()
	if _, err := newAdmin(t, s).CreateTopic(t.Context(), partitions, -1, nil, name); err != nil {
		t.Fatal(err)
	}
}

const perCodec = 1000

// codecs: what the client writes with each codec is there once, in the order of its
// key's partition, and is compressed by that codec.
func (c *checked) codecs(t *testing.T) {
	for _, codec := range c.f.codecs {
		makeTopic(t, c.s, c.topic("codec")+"-"+codec, 2)
	}
	c.drive(t, append([]string{"produce", c.topic("codec"), fmt.Sprint(perCodec)}, c.f.codecs...)...)
	for _, codec := range c.f.codecs {
		topic := c.topic("codec") + "-" + codec
		records := readAll(t, c.s, topic, perCodec)
		seen, compressed := map[string]bool{}, 0
		for _, r := range records {
			value := string(r.Value)
			if seen[value] || !strings.HasPrefix(value, codec+"-") || !strings.HasPrefix(string(r.Key), "k-") ||
				len(r.Headers) != 1 || string(r.Headers[0].Value) != codec {
				t.Fatalf("%s: record %q under key %q with headers %v: twice, or not what was written", topic, value, r.Key, r.Headers)
			}
			seen[value] = true
			switch got := allCodecs[r.Attrs.CompressionType()]; got {
			case codec:
				compressed++
			case "none": // a batch that would not have become smaller
			default:
				t.Fatalf("%s: the batch at offset %d is compressed by %s", topic, r.Offset, got)
			}
		}
		if compressed < perCodec/2 {
			t.Errorf("%s: only %d of %d records are in batches of that codec", topic, compressed, perCodec)
		}
	}
	c.results.codecs(c.f.codecs)
}

// readAll reads a topic to its end, which must be at n records.
func readAll(t *testing.T, s *site.Site, topic string, n int) []*kgo.Record {
	t.Helper()
	total := int64(0)
	for _, end := range kadmEnds(t, s.Addresses().Kafka, topic) {
		total += end
	}
	if total != int64(n) {
		t.Fatalf("%s holds %d records, %d were written", topic, total, n)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var got []*kgo.Record
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: read %d of %d records: %v", topic, len(got), n, err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

// admin: the client's own admin calls, which check what they get.
func (c *checked) admin(t *testing.T) {
	if !c.f.admin {
		return
	}
	c.drive(t, "admin", c.topic("admin"))
	c.results.admin = true
}

// transactions: who reads committed records sees those of the transaction that was
// committed and not those of the one that was aborted, with the same client and another.
func (c *checked) transactions(t *testing.T) {
	if !c.f.transactions || !transactionsServed(t, c.s) {
		return
	}
	topic := c.topic("txn")
	makeTopic(t, c.s, topic, 1)
	c.drive(t, "transact", topic, c.f.name)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.s.Addresses().Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("end")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint("committed-", i))
	}
	want = append(want, "end")
	seen := &collector{lines: map[string]int{}}
	m := c.join(t, seen, 0, c.f.name+"-committed", topic, "ISOLATION=read_committed")
	seen.wait(t, len(want))
	m.leave(t)
	if got := slices.Sorted(maps.Keys(seen.lines)); !slices.Equal(got, want) {
		t.Errorf("the client reads %v, committed were %v", got, want)
	}
	if got := readCommittedLines(t, c.s, topic, "end"); !slices.Equal(got, want) {
		t.Errorf("franz-go reads %v, committed were %v", got, want)
	}
	c.results.transactions = true
}

// transactionsServed asks the broker; the page says whether they were seen.
func transactionsServed(t *testing.T, s *site.Site) bool {
	t.Helper()
	versions, err := newAdmin(t, s).ApiVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		if _, served := v.KeyMaxVersion(kmsg.AddPartitionsToTxn.Int16()); served {
			return true
		}
	}
	return false
}

// readCommittedLines are the values of a topic of one partition, up to the last.
func readCommittedLines(t *testing.T, s *site.Site, topic, last string) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !slices.Contains(values, last) {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %v: %v", values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

const groupPartitions = 6

// group: three members share a topic, one is killed. The two others get its
// partitions; together they have seen every record, and when they leave all is committed.
func (c *checked) group(t *testing.T) {
	c.trio(t, "group")
	c.results.group = true
}

// consumerProtocol: the same by KIP-848, where the broker assigns and says the timeouts.
func (c *checked) consumerProtocol(t *testing.T) {
	if !c.f.consumer {
		return
	}
	c.trio(t, "consumer", "GROUP_PROTOCOL=consumer")
	c.results.consumer = true
}

func (c *checked) trio(t *testing.T, check string, env ...string) {
	t.Helper()
	topic, group := c.topic(check), c.f.name+"-"+check
	makeTopic(t, c.s, topic, groupPartitions)
	seen := &collector{lines: map[string]int{}}
	members := make([]*member, 3)
	for i := range members {
		members[i] = c.join(t, seen, i, group, topic, env...)
	}
	produced := newRounds(t, c.s, topic)
	// All three take part before one is killed; each has at least one partition.
	for deadline := time.Now().Add(limit); len(seen.members()) < len(members); {
		if time.Now().After(deadline) {
			t.Fatalf("only members %v of the group get records", seen.members())
		}
		produced.round(t)
		seen.wait(t, produced.n)
	}
	members[0].kill()
	produced.round(t)
	seen.wait(t, produced.n)
	for _, m := range members[1:] {
		m.leave(t)
	}
	out, err := c.s.Command(t.Context(), "group", "describe", group, "--json", "--kafka", c.s.Addresses().Kafka)
	if err != nil {
		t.Fatal(err)
	}
	var left struct {
		Lag     int64
		Offsets []any
	}
	if err := json.Unmarshal(out, &left); err != nil || left.Lag != 0 || len(left.Offsets) != groupPartitions {
		t.Errorf("after all have left, the group lags: %s, %v", out, err)
	}
}

// rounds writes one numbered record after another to each partition.
type rounds struct {
	cl    *kgo.Client
	topic string
	n     int
}

func newRounds(t *testing.T, s *site.Site, topic string) *rounds {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &rounds{cl: cl, topic: topic}
}

const perRound = 20 // records for each partition

func (r *rounds) round(t *testing.T) {
	t.Helper()
	var records []*kgo.Record
	for range perRound {
		for p := range int32(groupPartitions) {
			records = append(records, &kgo.Record{Topic: r.topic, Partition: p, Value: fmt.Appendf(nil, "record-%d", r.n)})
			r.n++
		}
	}
	if err := r.cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// member is a process that consumes.
type member struct {
	cmd    *exec.Cmd
	stdin  interface{ Close() error }
	stderr bytes.Buffer
	ended  chan error
}

func (c *checked) join(t *testing.T, seen *collector, number int, group, topic string, env ...string) *member {
	t.Helper()
	env = append([]string{"BOOTSTRAP=" + c.s.Addresses().Kafka}, env...)
	return start(t, c.d, env, seen, number, "consume", group, topic)
}

// start starts a driver that runs until its stdin ends, and collects what it prints.
func start(t *testing.T, d compat.Driver, env []string, seen *collector, number int, args ...string) *member {
	t.Helper()
	m := &member{cmd: exec.Command(d.Argv[0], append(slices.Clone(d.Argv[1:]), args...)...), ended: make(chan error, 1)}
	m.cmd.Env = slices.Concat(os.Environ(), d.Env, env)
	m.cmd.Stderr = &m.stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a driver may be a script with children
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.stdin = stdin
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		seen.read(number, stdout) // to its end, before Wait closes it
		m.ended <- m.cmd.Wait()
	}()
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("member %d: %s", number, m.stderr.String())
		}
	})
	return m
}

// kill ends the process, and its children, by SIGKILL, once.
func (m *member) kill() {
	if m.ended == nil {
		return
	}
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
	<-m.ended
	m.ended = nil
}

// leave ends the process as its user would.
func (m *member) leave(t *testing.T) {
	t.Helper()
	_ = m.stdin.Close()
	select {
	case err := <-m.ended:
		if m.ended = nil; err != nil {
			t.Fatalf("a member that leaves: %v\n%s", err, m.stderr.String())
		}
	case <-time.After(limit / 2):
		t.Fatalf("a member does not end")
	}
}
