package topic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// catalog is a durable catalog for as long as the test runs.
type catalog struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func newCatalog() *catalog { return &catalog{entries: map[string]topic.Entry{}} }

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

// box is a data folder that survives reopening.
type box struct {
	t       *testing.T
	fs      vfs.FS
	catalog *catalog
	epoch   int32
	opts    topic.Options
}

func newBox(t *testing.T) *box {
	return &box{t: t, fs: vfs.OS(t.TempDir()), catalog: newCatalog()}
}

func (b *box) open() *topic.Set {
	b.t.Helper()
	b.epoch++
	o := b.opts
	o.FS, o.Catalog, o.LeaderEpoch = b.fs, b.catalog, b.epoch
	if o.WAL.FileBytes == 0 {
		o.WAL.FileBytes = 256 << 10
	}
	s, err := topic.Open(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

func batch(t testing.TB, codec record.Codec, values ...string) record.Batch {
	t.Helper()
	var w record.Builder
	for _, v := range values {
		w.Add(&record.Record{Timestamp: 1_700_000_000_000, Key: []byte("k"), Value: []byte(v)})
	}
	b, err := w.Build(codec)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

// values reads a partition from offset to its high watermark.
func values(t testing.TB, s *topic.Set, tp record.TopicPartition, offset int64) (out []string) {
	t.Helper()
	p, err := s.Partition(tp)
	if err != nil {
		t.Fatal(err)
	}
	for offset < p.HighWatermark() {
		bs, err := s.Fetch(context.Background(), tp, offset, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if r.Offset >= offset {
					out = append(out, string(r.Value))
				}
			}
			offset = b.NextOffset()
		}
	}
	return out
}

var tp = record.TopicPartition{Topic: "t"}

func TestAppendFetchReopen(t *testing.T) {
	b := newBox(t)
	s := b.open()
	if _, err := s.Create("t", topic.Spec{}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		v := []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}
		base, err := s.Append(context.Background(), tp, batch(t, codec, v...))
		if err != nil || base != int64(2*i) {
			t.Fatalf("append %d: offset %d, %v", i, base, err)
		}
		want = append(want, v...)
	}
	for round := range 3 {
		if got := values(t, s, tp, 0); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: read %v, want %v", round, got, want)
		}
		if round == 1 {
			// Reopening without Close is a crash: only the write-ahead log can tell.
			s = b.open()
			continue
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = b.open()
	}
	if p, _ := s.Partition(tp); p.LeaderEpoch() != 4 {
		t.Errorf("leader epoch %d after four boots", p.LeaderEpoch())
	}
}

func TestSegmentsRollAndReadsCrossThem(t *testing.T) {
	b := newBox(t)
	s := b.open()
	if _, err := s.Create("t", topic.Spec{Configs: map[string]string{"segment.bytes": "16384"}}); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var want []string
	pending := make(chan error, 2000)
	for i := range 1000 {
		v := fmt.Sprintf("%d-%x", i, make([]byte, r.IntN(200)))
		want = append(want, v)
		s.AppendAsync(tp, batch(t, record.None, v), completion(func(_ int64, err error) { pending <- err }))
	}
	for range want {
		if err := <-pending; err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for _, from := range []int{0, 1, 499, 998, 999} {
			if got := values(t, s, tp, int64(from)); fmt.Sprint(got) != fmt.Sprint(want[from:]) {
				t.Fatalf("from %d: %d values, want %d", from, len(got), len(want[from:]))
			}
		}
	}
	check()
	s = b.open()
	check()
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	s = b.open()
	check()
}

type completion func(int64, error)

func (c completion) Complete(base int64, err error) { c(base, err) }

func TestIdempotentProducer(t *testing.T) {
	b := newBox(t)
	s := b.open()
	s.Create("t", topic.Spec{})
	send := func(epoch int16, seq int32, v ...string) (int64, error) {
		c := batch(t, record.None, v...)
		c.SetProducer(7, epoch, seq)
		return s.Append(context.Background(), tp, c)
	}
	want := func(base int64, err error, wantBase int64, wantErr error) {
		t.Helper()
		if !errors.Is(err, wantErr) || err == nil && base != wantBase {
			t.Fatalf("got %d, %v; want %d, %v", base, err, wantBase, wantErr)
		}
	}
	base, err := send(0, 0, "a", "b")
	want(base, err, 0, nil)
	base, err = send(0, 2, "c")
	want(base, err, 2, nil)
	base, err = send(0, 0, "a", "b")
	want(base, err, 0, nil) // a resend
	base, err = send(0, 5, "x")
	want(base, err, 0, record.ErrOutOfOrderSequence)
	s = b.open() // a crash: the state comes from the write-ahead log
	base, err = send(0, 2, "c")
	want(base, err, 2, nil)
	s.Close()
	s = b.open() // a clean start: from the state file
	base, err = send(0, 2, "c")
	want(base, err, 2, nil)
	base, err = send(1, 1, "x")
	want(base, err, 0, record.ErrOutOfOrderSequence)
	base, err = send(1, 0, "d")
	want(base, err, 3, nil)
	base, err = send(0, 3, "x")
	want(base, err, 0, record.ErrProducerFenced)
	if got := values(t, s, tp, 0); fmt.Sprint(got) != "[a b c d]" {
		t.Fatal(got)
	}
}

func TestRefusals(t *testing.T) {
	b := newBox(t)
	s := b.open()
	s.Create("t", topic.Spec{Configs: map[string]string{"max.message.bytes": "1024"}})
	flipped := batch(t, record.None, "v")
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		tp   record.TopicPartition
		b    record.Batch
		want error
	}{
		"no topic":     {record.TopicPartition{Topic: "none"}, batch(t, 0, "v"), record.ErrUnknownTopicOrPartition},
		"no partition": {record.TopicPartition{Topic: "t", Partition: 1}, batch(t, 0, "v"), record.ErrUnknownTopicOrPartition},
		"too large":    {tp, batch(t, 0, string(make([]byte, 1024))), record.ErrTooLarge},
		"flipped bit":  {tp, flipped, record.ErrCorrupt},
		"empty":        {tp, nil, record.ErrCorrupt},
	} {
		if _, err := s.Append(context.Background(), c.tp, c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "ä", string(make([]byte, 250))} {
		if _, err := s.Create(name, topic.Spec{}); !errors.Is(err, topic.ErrInvalidName) {
			t.Errorf("create %q: %v", name, err)
		}
	}
	if _, err := s.Create("t", topic.Spec{}); !errors.Is(err, topic.ErrExists) {
		t.Error(err)
	}
	if _, err := s.Create("u", topic.Spec{Configs: map[string]string{"retention.ms": "soon"}}); !errors.Is(err, topic.ErrInvalidConfig) {
		t.Error(err)
	}
	if _, err := s.Create("u", topic.Spec{Partitions: 20_000}); !errors.Is(err, topic.ErrInvalidPartitions) {
		t.Error(err)
	}
	s.Create("c", topic.Spec{Configs: map[string]string{"cleanup.policy": "compact"}})
	keyless, _ := record.NewBatch(record.LZ4, record.Record{Key: []byte("k")}, record.Record{Value: []byte("v")})
	if _, err := s.Append(context.Background(), record.TopicPartition{Topic: "c"}, keyless); !errors.Is(err, record.ErrInvalidRecord) {
		t.Error(err)
	}
	if _, err := s.Append(context.Background(), record.TopicPartition{Topic: "c"}, batch(t, 0, "v")); err != nil {
		t.Error(err)
	}
	if _, err := s.Fetch(context.Background(), tp, 1, 1); !errors.Is(err, record.ErrOffsetOutOfRange) {
		t.Error(err)
	}
}

func TestFetchWaits(t *testing.T) {
	s := newBox(t).open()
	s.Create("t", topic.Spec{})
	got := make(chan record.Batches)
	go func() {
		bs, err := s.Fetch(context.Background(), tp, 0, 100)
		if err != nil {
			t.Error(err)
		}
		got <- bs
	}()
	if _, err := s.Append(context.Background(), tp, batch(t, 0, "v")); err != nil {
		t.Fatal(err)
	}
	if bs := <-got; len(bs) == 0 {
		t.Fatal("nothing")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Fetch(ctx, tp, 1, 100); err != context.Canceled {
		t.Fatal(err)
	}
	go s.Delete("t")
	if _, err := s.Fetch(context.Background(), tp, 1, 100); !errors.Is(err, record.ErrUnknownTopicOrPartition) {
		t.Fatal(err)
	}
}

// A reader that goes on where its last read ended is never told that this is out
// of range: what it was given lies below the high watermark.
func TestReadsNeverPassTheHighWatermark(t *testing.T) {
	s := newBox(t).open()
	s.Create("t", topic.Spec{})
	const n = 20_000
	b := batch(t, 0, "v")
	go func() {
		for range n {
			s.AppendAsync(tp, b, completion(func(int64, error) {}))
		}
	}()
	p, _ := s.Partition(tp)
	for offset := int64(0); offset < n; {
		bs, err := s.Fetch(context.Background(), tp, offset, 1<<16)
		if err != nil {
			t.Fatalf("at offset %d: %v", offset, err)
		}
		for b := range bs.All() {
			offset = b.NextOffset()
		}
		if hw := p.HighWatermark(); offset > hw {
			t.Fatalf("read up to %d, the high watermark is %d", offset, hw)
		}
	}
}

func TestAppendAtomic(t *testing.T) {
	b := newBox(t)
	s := b.open()
	s.Create("t", topic.Spec{Partitions: 2})
	s.Create("u", topic.Spec{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			v := fmt.Sprint(i)
			err := s.AppendAtomic(context.Background(), []record.Write{
				{TopicPartition: record.TopicPartition{Topic: "u"}, Batch: batch(t, 0, v)},
				{TopicPartition: record.TopicPartition{Topic: "t", Partition: 1}, Batch: batch(t, 0, v)},
				{TopicPartition: tp, Batch: batch(t, 0, v)},
				{TopicPartition: tp, Batch: batch(t, 0, v+"'")},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s = b.open()
	a, c := values(t, s, record.TopicPartition{Topic: "u"}, 0), values(t, s, record.TopicPartition{Topic: "t", Partition: 1}, 0)
	d := values(t, s, tp, 0)
	if len(a) != 20 || fmt.Sprint(a) != fmt.Sprint(c) || len(d) != 40 {
		t.Fatal(a, c, d)
	}
	for i, v := range a {
		if d[2*i] != v || d[2*i+1] != v+"'" {
			t.Fatal(d)
		}
	}
	if err := s.AppendAtomic(context.Background(), []record.Write{
		{TopicPartition: tp, Batch: batch(t, 0, "x")},
		{TopicPartition: record.TopicPartition{Topic: "none"}, Batch: batch(t, 0, "x")},
	}); !errors.Is(err, record.ErrUnknownTopicOrPartition) {
		t.Fatal(err)
	}
	if got := values(t, s, tp, 40); got != nil {
		t.Fatal("half of a group was written:", got)
	}
}

func TestRetention(t *testing.T) {
	b := newBox(t)
	now := time.UnixMilli(1_700_000_000_000)
	b.opts.Now = func() time.Time { return now }
	s := b.open()
	s.Create("t", topic.Spec{Configs: map[string]string{"segment.bytes": "16384", "retention.bytes": "40000", "retention.ms": "3600000"}})
	big := string(make([]byte, 1000))
	for range 100 {
		if _, err := s.Append(context.Background(), tp, batch(t, 0, big)); err != nil {
			t.Fatal(err)
		}
	}
	p, _ := s.Partition(tp)
	s.Retain()
	start := p.LogStartOffset()
	if start == 0 || p.Size() > 40000+16384 {
		t.Fatalf("start %d, size %d", start, p.Size())
	}
	if _, err := s.Fetch(context.Background(), tp, start-1, 100); !errors.Is(err, record.ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	s = b.open()
	if p, _ = s.Partition(tp); p.LogStartOffset() != start || len(values(t, s, tp, start)) != 100-int(start) {
		t.Fatalf("after a crash: start %d, was %d", p.LogStartOffset(), start)
	}
	now = now.Add(time.Hour + time.Second)
	s.Retain()
	if p.LogStartOffset() != 100 || p.HighWatermark() != 100 {
		t.Fatalf("all is expired: start %d", p.LogStartOffset())
	}
	s.Close()
	s = b.open()
	if p, _ = s.Partition(tp); p.LogStartOffset() != 100 || p.HighWatermark() != 100 {
		t.Fatalf("after a restart: %d to %d", p.LogStartOffset(), p.HighWatermark())
	}
	if base, err := s.Append(context.Background(), tp, batch(t, 0, "next")); err != nil || base != 100 {
		t.Fatal(base, err)
	}
}

func TestDeleteTopic(t *testing.T) {
	b := newBox(t)
	s := b.open()
	old, _ := s.Create("t", topic.Spec{})
	s.Append(context.Background(), tp, batch(t, 0, "old"))
	if err := s.Delete("t"); err != nil {
		t.Fatal(err)
	}
	done := newWait()
	old.Partitions()[0].Append(batch(t, 0, "late"), done)
	if err := <-done; !errors.Is(err, record.ErrUnknownTopicOrPartition) {
		t.Fatal(err)
	}
	s = b.open() // the write-ahead log still holds entries of the old topic
	if s.Topic("t") != nil {
		t.Fatal("still there")
	}
	again, err := s.Create("t", topic.Spec{})
	if err != nil || again.ID() == old.ID() {
		t.Fatal(err, again.ID(), old.ID())
	}
	if got := values(t, s, tp, 0); got != nil {
		t.Fatal(got)
	}
}

type wait chan error

func newWait() wait                        { return make(wait, 1) }
func (w wait) Complete(_ int64, err error) { w <- err }

func TestTimestamps(t *testing.T) {
	s := newBox(t).open()
	s.Create("t", topic.Spec{Configs: map[string]string{"segment.bytes": "16384"}})
	for i := range 500 {
		var w record.Builder
		w.Add(&record.Record{Timestamp: int64(1000 + 10*i), Value: make([]byte, 100)})
		w.Add(&record.Record{Timestamp: int64(1005 + 10*i), Value: make([]byte, 100)})
		c, _ := w.Build(0)
		s.Append(context.Background(), tp, c)
	}
	p, _ := s.Partition(tp)
	for _, c := range []struct{ ts, offset, found int64 }{{0, 0, 1000}, {1000, 0, 1000}, {1001, 1, 1005}, {3333, 467, 3335}, {5995, 999, 5995}, {5996, -1, -1}} {
		if o, ts, err := p.OffsetForTime(c.ts); err != nil || o != c.offset || ts != c.found {
			t.Errorf("time %d: offset %d at %d, %v; want %d at %d", c.ts, o, ts, err, c.offset, c.found)
		}
	}
	if o, ts, err := p.MaxTimestamp(); err != nil || o != 999 || ts != 5995 {
		t.Error(o, ts, err)
	}
}

func TestSectionGoesBySendfile(t *testing.T) {
	s := newBox(t).open()
	s.Create("t", topic.Spec{})
	s.Append(context.Background(), tp, batch(t, 0, string(make([]byte, 500_000))))
	p, _ := s.Partition(tp)
	c, err := p.Read(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want, _ := c.AppendTo(nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = c.WriteTo(conn)
			conn.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(conn); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d of %d bytes, %v", got.Len(), len(want), err)
	}
}

func TestRingIsRecycledUnderLoad(t *testing.T) {
	b := newBox(t)
	b.opts.WAL = wal.Options{FileBytes: 64 << 10, MaxFiles: 2, RoundBytes: 16 << 10}
	s := b.open()
	s.Create("t", topic.Spec{Partitions: 4})
	var wg sync.WaitGroup
	for w := range int32(4) {
		wg.Go(func() {
			for range 200 {
				if _, err := s.Append(context.Background(), record.TopicPartition{Topic: "t", Partition: w}, batch(t, 0, string(make([]byte, 2000)))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s = b.open()
	for w := range int32(4) {
		if n := len(values(t, s, record.TopicPartition{Topic: "t", Partition: w}, 0)); n != 200 {
			t.Errorf("partition %d: %d records", w, n)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's build allocates where the other does not")
	}
	s := newBox(t).open()
	tpc, _ := s.Create("t", topic.Spec{})
	p, c, done := tpc.Partitions()[0], batch(t, 0, string(make([]byte, 200))), newWait()
	send := func() {
		p.Append(c, done)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		send()
	}
	if n := testing.AllocsPerRun(200, send); n > 0.1 {
		t.Errorf("%.2f allocations per appended batch", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := topic.Open(topic.Options{FS: vfs.OS(b.TempDir()), Catalog: newCatalog(), LeaderEpoch: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.Create("t", topic.Spec{})
	c := batch(b, 0, string(make([]byte, 16<<10)))
	b.SetBytes(int64(len(c)))
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		done := newWait()
		for pb.Next() {
			s.AppendAsync(tp, c, done)
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
	})
}

// smallDisk is a disk with a given room.
type smallDisk struct {
	vfs.FS
	free atomic.Int64
}

func (d *smallDisk) Free() (free, total int64, err error) { return d.free.Load(), 1 << 30, nil }

func TestFullDiskRefusesAndResumes(t *testing.T) {
	b := newBox(t)
	disk := &smallDisk{FS: b.fs}
	disk.free.Store(1 << 30)
	b.fs = disk
	b.opts.WAL.FileBytes = 4 << 20
	s := b.open()
	s.Create("t", topic.Spec{})
	s.Create("__internal", topic.Spec{Internal: true})
	big := batch(t, 0, string(make([]byte, 1_000_000)))
	appendTo := func(name string) error {
		_, err := s.Append(context.Background(), record.TopicPartition{Topic: name}, big)
		return err
	}
	// Fewer bytes than make it look again: it counts on from what it saw.
	disk.free.Store(60 << 20)
	var err error
	for n := 0; err == nil && n < 20; n++ {
		err = appendTo("t")
	}
	if !errors.Is(err, record.ErrDiskFull) {
		t.Fatalf("full disk: %v", err)
	}
	if err := appendTo("__internal"); err != nil {
		t.Fatalf("offset commits must go on: %v", err)
	}
	if got := values(t, s, tp, 0); len(got) == 0 {
		t.Fatal("reads must go on")
	}
	disk.free.Store(1 << 30)
	for err != nil {
		if err = appendTo("t"); err != nil && !errors.Is(err, record.ErrDiskFull) {
			t.Fatal(err)
		}
	}
}
