package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/plugins/transform"
)

// transformFunc is a Transformer in Go.
type transformFunc func(in *transform.Input, out *transform.Output) error

func (f transformFunc) Transform(_ context.Context, in *transform.Input, out *transform.Output) error {
	return f(in, out)
}

// memory keeps positions beside the log's.
type memory struct {
	offsets
	mu   sync.Mutex
	last int64
}

func (m *memory) Applied(_ string, _ record.TopicPartition, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = offset
}

func (m *memory) at() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// run runs a task on b until the test's end.
func run(b *box, change func(o *transform.Options), f transformFunc) (*transform.Task, *memory, *transform.Counters) {
	b.t.Helper()
	m, c := &memory{offsets: offsets{set: b.set}}, new(transform.Counters)
	for _, name := range []string{"in", "out", "dead"} {
		if b.set.Topic(name) == nil {
			b.topic(name, 1)
		}
	}
	o := transform.Options{
		Plugin: "p", Input: partition("in", 0), Outputs: []transform.Sink{{Topic: "out", Partitions: int32(len(b.set.Topic("out").Partitions()))}},
		DeadLetter: partition("dead", 0), Transformer: f, Log: boxLog{b.set}, Positions: m, Counters: c,
		MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	task := transform.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { task.Run(ctx) })
	b.t.Cleanup(func() { cancel(); done.Wait() })
	return task, m, c
}

func pass(in *transform.Input, out *transform.Output) error {
	total := int64(0)
	for _, r := range in.Records {
		total += int64(len(r.Value))
	}
	if err := out.Reserve(total); err != nil {
		return err
	}
	for i := range in.Records {
		out.Add(0, &in.Records[i])
	}
	return nil
}

// What the log refuses is set apart like what the transformer refuses; when even
// the dead letter is too large, it goes without its value.
func TestLogRefusesOutput(t *testing.T) {
	b := newBox(t, nil)
	for name, limit := range map[string]string{"out": "1024", "dead": "2048"} {
		if _, err := b.set.Create(name, topic.Spec{Configs: map[string]string{"max.message.bytes": limit}}); err != nil {
			t.Fatal(err)
		}
	}
	b.topic("in", 1)
	b.produce(partition("in", 0), record.None, "a", strings.Repeat("b", 1100), "c", strings.Repeat("d", 5000), "e")
	_, m, c := run(b, func(o *transform.Options) { o.MaxBatchBytes = 500 }, pass)
	b.wait("all is done", func() bool { return m.at() == 5 })
	if got := values(b.read(partition("out", 0), 3)); got != "a c e" {
		t.Errorf("output %s", got)
	}
	dead := b.read(partition("dead", 0), 2)
	if len(dead[0].Value) != 1100 || dead[1].Value != nil {
		t.Errorf("dead letters of %d and %d bytes", len(dead[0].Value), len(dead[1].Value))
	}
	if dropped, _ := dead[1].Header(transform.HeaderDropped); string(dropped) != "5007" {
		t.Errorf("dropped %s", dropped)
	}
	if c.Poisoned.Load() != 2 || c.Out.Load() != 3 {
		t.Errorf("poisoned %d, out %d", c.Poisoned.Load(), c.Out.Load())
	}
}

// More output than one commit takes makes more commits.
func TestOutputInSeveralCommits(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	var in []string
	for i := range 40 {
		in = append(in, fmt.Sprintf("%02d%s", i, strings.Repeat("x", 98)))
	}
	b.produce(partition("in", 0), record.Zstd, in...)
	_, m, c := run(b, func(o *transform.Options) { o.MaxOutputBytes, o.MaxBatchBytes = 1000, 300 }, pass)
	b.wait("all is done", func() bool { return m.at() == 40 })
	if got := values(b.read(partition("out", 0), 40)); got != strings.Join(in, " ") {
		t.Errorf("output %s", got)
	}
	if n := c.Commits.Load(); n < 4 || c.Poisoned.Load() != 0 {
		t.Errorf("%d commits, %d poisoned", n, c.Poisoned.Load())
	}
}

// A transformer that is too slow for many records gets fewer at once, and none of
// them is blamed.
func TestSlowTransformerGetsLess(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	for range 10 {
		b.produce(partition("in", 0), record.None, strings.Split(strings.Repeat("v ", 100), " ")[:100]...)
	}
	most := 0
	_, m, c := run(b, nil, func(in *transform.Input, out *transform.Output) error {
		if len(in.Records) > 50 {
			return transform.ErrDeadline
		}
		most = max(most, len(in.Records))
		return pass(in, out)
	})
	b.wait("all is done", func() bool { return m.at() == 1000 })
	if c.Poisoned.Load() != 0 || c.Out.Load() != 1000 || most < 20 {
		t.Errorf("poisoned %d, out %d, at most %d at once", c.Poisoned.Load(), c.Out.Load(), most)
	}
}

// A transformer that cannot work blames no record.
func TestUnavailable(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	b.produce(partition("in", 0), record.None, "a", "b")
	calls := 0
	_, m, c := run(b, nil, func(in *transform.Input, out *transform.Output) error {
		if calls++; calls < 5 {
			return fmt.Errorf("%w: no memory", transform.ErrUnavailable)
		}
		return pass(in, out)
	})
	b.wait("all is done", func() bool { return m.at() == 2 })
	if c.Poisoned.Load() != 0 || c.Failures.Load() != 0 || c.Out.Load() != 2 {
		t.Errorf("poisoned %d, failures %d, out %d", c.Poisoned.Load(), c.Failures.Load(), c.Out.Load())
	}
}

// Retention was faster: the loss is counted, and the task goes on.
func TestPositionIsGone(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	b.produce(partition("in", 0), record.None, "a", "b", "c")
	b.produce(partition("in", 0), record.None, "d")
	w, err := (&offsets{set: b.set}).Encode(transform.GroupPrefix+"p", partition("in", 0), 1)
	if err := errors.Join(err, b.set.AppendAtomic(context.Background(), []record.Write{w})); err != nil {
		t.Fatal(err)
	}
	p, err := b.set.Partition(partition("in", 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DeleteRecords(3); err != nil {
		t.Fatal(err)
	}
	_, m, c := run(b, nil, pass)
	b.wait("all is done", func() bool { return m.at() == 4 })
	if got := values(b.read(partition("out", 0), 1)); got != "d" || c.Lost.Load() != 2 {
		t.Errorf("output %s, lost %d", got, c.Lost.Load())
	}
}

// Keys go where Kafka's clients would send them.
func TestPartitioning(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	b.topic("out", 10)
	run(b, nil, func(in *transform.Input, out *transform.Output) error {
		// From the Java client's own tests of murmur2, modulo 10.
		for _, key := range []string{"21", "foobar", "a-little-bit-long-string", "a-little-bit-longer-string", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", "abc"} {
			out.Add(0, &record.Record{Key: []byte(key)})
		}
		out.Add(0, &record.Record{Value: []byte("no key")})
		return nil
	})
	b.produce(partition("in", 0), record.None, "x")
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107} {
		p := hash & 0x7fffffff % 10
		found := false
		for _, r := range b.read(partition("out", p), 1) {
			found = found || string(r.Key) == key
		}
		if !found {
			t.Errorf("key %s is not in partition %d", key, p)
		}
	}
	b.read(partition("out", 0), 1)
}

// A storage that fails has the task stop: what became of the commit is not known.
func TestStorageFails(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	b.produce(partition("in", 0), record.None, "x")
	task, _, c := run(b, func(o *transform.Options) { o.Log = failing{boxLog{b.set}} }, pass)
	b.wait("it stops", func() bool { return task.Status().State == transform.Stopped })
	if c.Commits.Load() != 0 || !strings.Contains(task.Status().Error, "storage failed") {
		t.Errorf("%d commits, %+v", c.Commits.Load(), task.Status())
	}
}

type failing struct{ boxLog }

func (failing) AppendAtomic(context.Context, []record.Write) error { return record.ErrStorage }
