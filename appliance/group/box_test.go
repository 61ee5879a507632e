package group_test

import (
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// catalog is the list of topics, durable at once.
type catalog struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *catalog) Topics() (out []topic.Entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		out = append(out, e)
	}
	return out, nil
}

func (c *catalog) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *catalog) DeleteTopic(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	return nil
}

func (c *catalog) clone() *catalog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &catalog{entries: maps.Clone(c.entries)}
}

// box is a broker's disk, and the log and coordinator that run on it.
type box struct {
	t       testing.TB
	fs      *crashfs.FS
	catalog *catalog
	epoch   int32
	opts    group.Options
	wrap    func(group.Log) group.Log // stands between coordinator and log

	set *topic.Set
	c   *group.Coordinator
}

func newBox(t testing.TB) *box {
	return &box{t: t, fs: crashfs.New(), catalog: &catalog{entries: map[string]topic.Entry{}},
		opts: group.Options{Limits: group.Limits{InitialRebalanceDelay: -1}}}
}

func (b *box) open() *group.Coordinator {
	b.t.Helper()
	b.epoch++
	o := topic.Options{FS: b.fs, Catalog: b.catalog, LeaderEpoch: b.epoch, CheckpointInterval: time.Hour, RetentionInterval: 24 * time.Hour}
	o.WAL.FileBytes = 128 << 10
	var err error
	if b.set, err = topic.Open(o); err != nil {
		b.t.Fatal(err)
	}
	g := b.opts
	if g.Partition, err = group.EnsureTopic(b.set); err != nil {
		b.t.Fatal(err)
	}
	g.Log = b.set
	if b.wrap != nil {
		g.Log = b.wrap(b.set)
	}
	if testing.Verbose() {
		g.Logger = slog.New(slog.NewTextHandler(b.t.Output(), nil))
	}
	if b.c, err = group.Open(g); err != nil {
		b.t.Fatal(err)
	}
	return b.c
}

func (b *box) close() {
	b.t.Helper()
	if err := errors.Join(b.c.Close(), b.set.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// crashed is a box with the disk as a power cut now would leave it.
func (b *box) crashed() *box {
	return &box{t: b.t, fs: b.fs.Clone(crashfs.CloneConfig{}), catalog: b.catalog.clone(), epoch: b.epoch, opts: b.opts}
}

func tp(topic string, partition int32) record.TopicPartition {
	return record.TopicPartition{Topic: topic, Partition: partition}
}

// commit is of a consumer that is no member.
func (b *box) commit(id string, tp record.TopicPartition, offset int64) {
	b.t.Helper()
	each, err := b.c.Commit(id, group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: tp, Offset: offset, LeaderEpoch: -1}}})
	if err != nil || each != nil {
		b.t.Fatal("commit", id, tp, offset, err, each)
	}
}

// want checks a committed offset; -1 is none.
func (b *box) want(id string, tp record.TopicPartition, offset int64) {
	b.t.Helper()
	got := int64(-1)
	o, ok, err := b.c.Committed(id, tp)
	if err != nil {
		b.t.Fatal(err)
	}
	if ok {
		got = o.Offset
	}
	if got != offset {
		b.t.Fatalf("group %s, %s: committed %d, want %d", id, tp, got, offset)
	}
}

var topicSpec = topic.Spec{Partitions: 1}
