package plugins_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/plugins"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// offsetsTopic stands for __consumer_offsets.
const offsetsTopic = "__consumer_offsets"

// box is a log with topics in a file system that a host can work on.
type box struct {
	t       testing.TB
	fs      vfs.FS
	catalog *catalog
	epoch   int32
	set     *topic.Set
	store   *metadata.Store
	cache   string
}

func newBox(t testing.TB, fs vfs.FS) *box {
	t.Helper()
	if fs == nil {
		fs = vfs.OS(t.TempDir())
	}
	store, err := metadata.Open(filepath.Join(t.TempDir(), "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	b := &box{t: t, fs: fs, catalog: &catalog{entries: map[string]topic.Entry{}}, store: store, cache: compilationCache(t)}
	b.open()
	b.topic(offsetsTopic, 1)
	return b
}

// open opens the log on b.fs.
func (b *box) open() {
	b.t.Helper()
	b.epoch++
	var err error
	b.set, err = topic.Open(topic.Options{FS: b.fs, Catalog: b.catalog, LeaderEpoch: b.epoch})
	if err != nil {
		b.t.Fatal(err)
	}
	set := b.set
	b.t.Cleanup(func() { set.Close() })
}

func (b *box) topic(name string, partitions int32) {
	b.t.Helper()
	if _, err := b.set.Create(name, topic.Spec{Partitions: partitions}); err != nil {
		b.t.Fatal(err)
	}
}

// host starts a host; it is closed at the test's end, before the log.
func (b *box) host(change func(o *plugins.Options)) *plugins.Host {
	b.t.Helper()
	o := plugins.Options{
		FS: b.fs, CacheDir: b.cache, Registry: b.store.Bucket("plugins"), Topics: topics{b.set}, Log: boxLog{b.set},
		Positions: &offsets{set: b.set}, PollInterval: 20 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 8 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	h, err := plugins.NewHost(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return h
}

// produce appends one batch of records with these values; keys are their indices.
func (b *box) produce(tp record.TopicPartition, codec record.Codec, values ...string) {
	b.t.Helper()
	var w record.Builder
	for i, v := range values {
		w.Add(&record.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "k%d", i), Value: []byte(v),
			Headers: []record.Header{{Key: "n", Value: fmt.Append(nil, i)}}})
	}
	batch, err := w.Build(codec)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.set.Append(context.Background(), tp, batch); err != nil {
		b.t.Fatal(err)
	}
}

// read waits for n records of a partition and returns all there are then.
func (b *box) read(tp record.TopicPartition, n int) []record.Record {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for b.set.Topic(tp.Topic) == nil {
		if ctx.Err() != nil {
			b.t.Fatalf("no topic %s", tp.Topic)
		}
		time.Sleep(time.Millisecond)
	}
	var out []record.Record
	for offset := int64(0); len(out) < n; {
		bs, err := b.set.Fetch(ctx, tp, offset, 1<<20)
		if err != nil {
			b.t.Fatalf("%s: %d of %d records: %v", tp, len(out), n, err)
		}
		for batch := range bs.All() {
			rs, err := batch.Records()
			if err != nil {
				b.t.Fatal(err)
			}
			out = append(out, rs...)
			offset = batch.NextOffset()
		}
	}
	return out
}

// wait waits until ok.
func (b *box) wait(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func partition(topic string, n int32) record.TopicPartition {
	return record.TopicPartition{Topic: topic, Partition: n}
}

func values(rs []record.Record) string {
	var vs []string
	for _, r := range rs {
		vs = append(vs, string(r.Value))
	}
	return strings.Join(vs, " ")
}

// module is a fixture with a manifest.
func module(t testing.TB, fixture, name string, change func(m *plugins.Manifest)) []byte {
	t.Helper()
	return pack(t, unpacked(t, fixture), name, change)
}

func unpacked(t testing.TB, fixture string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("testdata", fixture+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func pack(t testing.TB, wasm []byte, name string, change func(m *plugins.Manifest)) []byte {
	t.Helper()
	m := plugins.Manifest{
		ABI: plugins.ABI{Major: 1}, Kind: plugins.KindTransform, Name: name, Version: "1.0.0",
		Inputs: []string{"in"}, Outputs: []string{"out"}, OnFailure: "dead-letter",
	}
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := plugins.Pack(wasm, text)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func deploy(t testing.TB, h *plugins.Host, module []byte) plugins.Info {
	t.Helper()
	info, err := h.Deploy(context.Background(), module, plugins.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// topics adapts the log's topics.
type topics struct{ *topic.Set }

func (t topics) Partitions(name string) int32 {
	if found := t.Topic(name); found != nil {
		return int32(len(found.Partitions()))
	}
	return 0
}

func (t topics) Ensure(name string, partitions int32, internal bool) (int32, error) {
	made, err := t.Set.Ensure(name, topic.Spec{Partitions: partitions, Internal: internal})
	if err != nil {
		return 0, err
	}
	return int32(len(made.Partitions())), nil
}

// boxLog adapts the log.
type boxLog struct{ *topic.Set }

func (l boxLog) Offsets(tp record.TopicPartition) (start, end int64, err error) {
	p, err := l.Partition(tp)
	if err != nil {
		return 0, 0, err
	}
	return p.LogStartOffset(), p.HighWatermark(), nil
}

// offsets keeps positions as records in a topic, as the group coordinator does,
// and reads them back from it.
type offsets struct{ set *topic.Set }

func (o *offsets) Encode(group string, tp record.TopicPartition, offset int64) (record.Write, error) {
	b, err := record.NewBatch(record.None, record.Record{Key: []byte(group + " " + tp.String()), Value: binary.BigEndian.AppendUint64(nil, uint64(offset))})
	return record.Write{TopicPartition: partition(offsetsTopic, 0), Batch: b}, err
}

func (o *offsets) Committed(group string, tp record.TopicPartition) (offset int64, ok bool, err error) {
	p, err := o.set.Partition(partition(offsetsTopic, 0))
	if err != nil {
		return 0, false, err
	}
	for at := p.LogStartOffset(); at < p.HighWatermark(); {
		bs, err := o.set.Fetch(context.Background(), p.TopicPartition(), at, 1<<20)
		if err != nil {
			return 0, false, err
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				return 0, false, err
			}
			for _, r := range rs {
				if string(r.Key) == group+" "+tp.String() {
					offset, ok = int64(binary.BigEndian.Uint64(r.Value)), true
				}
			}
			at = b.NextOffset()
		}
	}
	return offset, ok, nil
}

// catalog is the list of topics, for as long as the test runs.
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
