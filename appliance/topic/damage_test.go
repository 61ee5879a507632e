package topic_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

var damageFull = flag.Bool("damage.full", false, "damage tests: every byte of every file, not a sample")

// ledger is a small store of two topics, and every record that was acknowledged.
type ledger struct {
	disk  *crashfs.FS
	cat   snapshot
	acked map[record.TopicPartition]map[int64]string
}

// newLedger fills a store: segments of several sizes, state, and rounds of the
// write-ahead log behind the last checkpoint, unless it is closed cleanly.
func newLedger(t testing.TB, clean bool) *ledger {
	t.Helper()
	l := &ledger{disk: crashfs.New(), acked: map[record.TopicPartition]map[int64]string{}}
	catalog := &fixedCatalog{entries: map[string]topic.Entry{}}
	set, err := openOn(l.disk, catalog, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := set.Create(name, topic.Spec{Partitions: 2, Configs: map[string]string{"segment.bytes": "16384"}}); err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	put := func(n int) {
		for i := range n {
			for _, tp := range []record.TopicPartition{{Topic: "a"}, {Topic: "a", Partition: 1}, {Topic: "b"}} {
				value := fmt.Sprintf("%v %d %0*d", tp, i, 500+rnd.IntN(1000), rnd.Uint64())
				base, err := set.Append(context.Background(), tp, batch(t, record.None, value))
				if err != nil {
					t.Fatal(err)
				}
				if l.acked[tp] == nil {
					l.acked[tp] = map[int64]string{}
				}
				l.acked[tp][base] = value
			}
		}
	}
	put(40)
	if err := set.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	put(12)
	for tp, records := range l.acked { // what can be read stands in its segment
		if _, err := set.Fetch(context.Background(), tp, int64(len(records)-1), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		l.disk = l.disk.Clone(crashfs.CloneConfig{})
	} else {
		l.disk = l.disk.Killed().Clone(crashfs.CloneConfig{Keep: 100})
		set.Close()
	}
	l.cat = snapshot{catalog: catalog.entries}
	return l
}

type fixedCatalog struct{ entries map[string]topic.Entry }

func (c *fixedCatalog) Topics() ([]topic.Entry, error) { return snapshot{catalog: c.entries}.Topics() }
func (c *fixedCatalog) PutTopic(e topic.Entry) error   { c.entries[e.Name] = e; return nil }
func (c *fixedCatalog) DeleteTopic(name string) error  { delete(c.entries, name); return nil }

// ledgerCatalog takes what the store itself makes: the topic of gap records.
func (l *ledger) catalog() *fixedCatalog {
	c := &fixedCatalog{entries: map[string]topic.Entry{}}
	for name, e := range l.cat.catalog {
		c.entries[name] = e
	}
	return c
}

// verify opens what is left and reads all of it: what is served is what was written
// at its offset; what was acknowledged is served or reported; and the store takes
// records again, at offsets that were never given. It returns how many records are
// reported as lost.
func (l *ledger) verify(disk vfs.FS) (reported int64, err error) {
	set, err := topic.Open(topic.Options{FS: disk, Catalog: l.catalog(), LeaderEpoch: 9, OpenFiles: 3, CheckpointInterval: time.Hour, RetentionInterval: time.Hour,
		WAL: wal.Options{FileBytes: 64 << 10, MaxFiles: 3}})
	if err != nil {
		return 0, fmt.Errorf("does not start: %w", err)
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	for tp, acked := range l.acked {
		p, err := set.Partition(tp)
		if err != nil {
			return 0, err
		}
		if err := p.Err(); err != nil {
			return 0, fmt.Errorf("%v is offline: %w", tp, err)
		}
		there, err := readAllGaps(p)
		if err != nil {
			return 0, fmt.Errorf("%v: %w", tp, err)
		}
		lost := p.Lost()
		for _, g := range lost {
			reported += g.Last + 1 - g.First
		}
		for offset, value := range acked {
			got, ok := there[offset]
			if ok && got != value {
				return 0, fmt.Errorf("%v: offset %d is served as %.20q, it was written as %.20q", tp, offset, got, value)
			}
			if !ok && !slices.ContainsFunc(lost, func(g topic.Lost) bool { return g.First <= offset && offset <= g.Last }) {
				return 0, fmt.Errorf("%v: offset %d is neither served nor reported: hw %d, lost %+v", tp, offset, p.HighWatermark(), lost)
			}
			delete(there, offset)
		}
		for offset, value := range there {
			if value == "after" {
				delete(there, offset) // of a check that a power cut ended
			}
		}
		if len(there) > 0 {
			return 0, fmt.Errorf("%v: %d records are served that nobody wrote", tp, len(there))
		}
		base, err := set.Append(context.Background(), tp, record.Batch(mustBatch("after")))
		if err != nil {
			return 0, fmt.Errorf("%v: append: %w", tp, err)
		}
		if _, again := acked[base]; again {
			return 0, fmt.Errorf("%v: offset %d is given twice", tp, base)
		}
	}
	return reported, nil
}

func mustBatch(value string) record.Batch {
	b, err := record.NewBatch(record.None, record.Record{Value: []byte(value)})
	if err != nil {
		panic(err)
	}
	return b
}

// readAllGaps reads what a consumer would see, stepping over what is missing.
func readAllGaps(p *topic.Partition) (map[int64]string, error) {
	there := map[int64]string{}
	for next := p.LogStartOffset(); next < p.HighWatermark(); {
		c, err := p.Read(next, 2000)
		if err != nil {
			return nil, fmt.Errorf("read at %d: %w", next, err)
		}
		raw, err := c.AppendTo(nil)
		if err = errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
		if len(raw) == 0 {
			return there, nil
		}
		for b := range record.Batches(raw).All() {
			records, err := b.Records()
			if err != nil {
				return nil, fmt.Errorf("batch at %d: %w", b.BaseOffset(), err)
			}
			if b.NextOffset() <= next {
				return nil, fmt.Errorf("batch at %d when %d was asked for", b.BaseOffset(), next)
			}
			for _, r := range records {
				there[r.Offset] = string(r.Value)
			}
			next = b.NextOffset()
		}
	}
	return there, nil
}

// files lists all files with their bytes.
func (l *ledger) files(t testing.TB) (names []string, bytes map[string][]byte) {
	t.Helper()
	bytes = map[string][]byte{}
	dirs := []string{"wal", "topics"}
	for len(dirs) > 0 {
		dir := dirs[0]
		dirs = dirs[1:]
		list, err := l.disk.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			name = dir + "/" + name
			f, err := l.disk.Open(name)
			if err != nil {
				dirs = append(dirs, name)
				continue
			}
			n, _ := f.Size()
			b := make([]byte, n)
			if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			f.Close()
			names, bytes[name] = append(names, name), b
		}
	}
	return names, bytes
}

func (l *ledger) with(t testing.TB, name string, do func(f vfs.File) error) *crashfs.FS {
	t.Helper()
	disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
	f, err := disk.Open(name)
	if err == nil {
		err = errors.Join(do(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func eachLedger(t *testing.T, do func(t *testing.T, l *ledger)) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			l := newLedger(t, clean)
			if n, err := l.verify(l.disk.Clone(crashfs.CloneConfig{Keep: 100})); err != nil || n > 0 {
				t.Fatalf("without damage: %d lost, %v", n, err)
			}
			do(t, l)
		})
	}
}

func TestEveryByteFlipped(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	eachLedger(t, func(t *testing.T, l *ledger) {
		names, files := l.files(t)
		cases := 0
		for _, name := range names {
			b := files[name]
			sample := max(1, len(b)/10)
			for at := range b {
				if !*damageFull && rnd.IntN(sample) > 0 {
					continue
				}
				cases++
				bit := byte(1) << rnd.IntN(8)
				disk := l.with(t, name, func(f vfs.File) error { _, err := f.WriteAt([]byte{b[at] ^ bit}, int64(at)); return err })
				lost, err := l.verify(disk)
				if err != nil {
					t.Fatalf("%s byte %d bit %02x: %v", name, at, bit, err)
				}
				if lost > 1 {
					t.Fatalf("%s byte %d bit %02x: %d records lost by one bit", name, at, bit, lost)
				}
			}
		}
		t.Log(cases, "bytes flipped in", len(names), "files")
	})
}

func TestTruncatedAndZeroed(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	eachLedger(t, func(t *testing.T, l *ledger) {
		names, files := l.files(t)
		cases := 0
		for _, name := range names {
			b := files[name]
			step := 4096
			if !strings.HasSuffix(name, ".wal") {
				step = max(len(b)/5, 1)
			}
			sizes := []int{0, 1, len(b) - 1}
			for at := 0; at < len(b); at += step {
				sizes = append(sizes, at-1, at, at+1)
			}
			if strings.HasSuffix(name, ".log") {
				for rest := b; len(rest) > 0; {
					_, r, _ := record.Split(rest)
					at := len(b) - len(r)
					sizes, rest = append(sizes, at-1, at, at+1), r
				}
			}
			for _, size := range sizes {
				if size < 0 || size >= len(b) || !*damageFull && rnd.IntN(4) > 0 {
					continue
				}
				cases++
				disk := l.with(t, name, func(f vfs.File) error { return f.Truncate(int64(size)) })
				if _, err := l.verify(disk); err != nil {
					t.Fatalf("%s cut to %d of %d: %v", name, size, len(b), err)
				}
			}
			for at := 0; at < len(b); at += 4096 {
				if !*damageFull && strings.HasSuffix(name, ".wal") && rnd.IntN(4) > 0 {
					continue
				}
				cases++
				disk := l.with(t, name, func(f vfs.File) error {
					_, err := f.WriteAt(make([]byte, min(4096, len(b)-at)), int64(at))
					return err
				})
				if _, err := l.verify(disk); err != nil {
					t.Fatalf("%s zeroed at %d: %v", name, at, err)
				}
			}
		}
		t.Log(cases, "cases")
	})
}

// Any two files change places, or one is missing: none takes another with it.
func TestSwappedAndMissing(t *testing.T) {
	eachLedger(t, func(t *testing.T, l *ledger) {
		names, _ := l.files(t)
		cases := 0
		for i, a := range names {
			disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
			if err := disk.Remove(a); err != nil {
				t.Fatal(err)
			}
			cases++
			if _, err := l.verify(disk); err != nil {
				t.Fatalf("%s missing: %v", a, err)
			}
			for _, b := range names[i+1:] {
				if path.Ext(a) != path.Ext(b) {
					continue
				}
				disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
				swap(t, disk, a, b)
				cases++
				if _, err := l.verify(disk); err != nil {
					t.Fatalf("%s swapped with %s: %v", a, b, err)
				}
			}
		}
		folders, _ := l.disk.List("topics")
		folders = slices.DeleteFunc(folders, func(name string) bool { return path.Ext(name) == ".topic" })
		for i, a := range folders {
			for _, b := range folders[i+1:] {
				disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
				swap(t, disk, "topics/"+a, "topics/"+b)
				cases++
				if _, err := l.verify(disk); err != nil {
					t.Fatalf("folder %s swapped with %s: %v", a, b, err)
				}
			}
			disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
			if err := disk.RemoveAll("topics/" + a); err != nil {
				t.Fatal(err)
			}
			if _, err := l.verify(disk); err != nil {
				t.Fatalf("folder %s missing: %v", a, err)
			}
		}
		t.Log(cases, "cases")
	})
}

func swap(t testing.TB, disk vfs.FS, a, b string) {
	t.Helper()
	for _, step := range [][2]string{{a, "wal/x"}, {b, a}, {"wal/x", b}} {
		if err := disk.Rename(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// What is lost is a record in __weir_gaps, and is reported once and not at each start.
func TestLostRecordsAreReportedOnce(t *testing.T) {
	l := newLedger(t, true)
	tp := record.TopicPartition{Topic: "a"}
	name := "topics/a-0/" + commitlog.FileName(0)
	disk := l.with(t, name, func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff, 0xff}, 100); return err })
	catalog := l.catalog()
	for boot := range 3 {
		set, err := openOn(disk, catalog, int32(5+boot), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := set.Partition(tp)
		if _, err := readAllGaps(p); err != nil {
			t.Fatal(err)
		}
		lost := p.Lost()
		if len(lost) != 1 || lost[0].First != 0 || lost[0].Last != 0 {
			t.Fatalf("boot %d: lost %+v", boot, lost)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		for {
			if _, err := set.Partition(record.TopicPartition{Topic: record.GapTopic}); err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal("no gap record")
			}
		}
		gaps, err := set.Fetch(ctx, record.TopicPartition{Topic: record.GapTopic}, 0, 1<<20)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for b := range gaps.All() {
			n += int(b.Count())
		}
		if n != 1 {
			t.Fatalf("boot %d: %d gap records", boot, n)
		}
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A power cut while damage is being set aside: the next start does it again.
func TestPowerCutInQuarantine(t *testing.T) {
	l := newLedger(t, false)
	rnd := rand.New(rand.NewPCG(1, 2))
	names, files := l.files(t)
	cuts := 0
	attempt := func(what string, disk *crashfs.FS) {
		var mu sync.Mutex // the committer has a goroutine of its own
		disk.OnOp(nil, func(op crashfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			if !op.Changes() || t.Failed() || !*damageFull && rnd.IntN(4) > 0 {
				return
			}
			cuts++
			keep := []int{0, 50, 100}[rnd.IntN(3)]
			if _, err := l.verify(disk.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd})); err != nil {
				t.Errorf("%s, cut after %s, keep %d: %v", what, op, keep, err)
			}
		})
		if _, err := l.verify(disk); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range names {
		if ext := path.Ext(name); ext != ".wal" && ext != ".log" && ext != ".state" {
			continue
		}
		at := len(files[name]) / 3
		attempt(name, l.with(t, name, func(f vfs.File) error {
			_, err := f.WriteAt([]byte{files[name][at] ^ 8}, int64(at))
			return errors.Join(err, f.Sync())
		}).Clone(crashfs.CloneConfig{}))
	}
	disk := l.disk.Clone(crashfs.CloneConfig{Keep: 100})
	swap(t, disk, "topics/a-0", "topics/b-0")
	attempt("folders swapped", disk.Clone(crashfs.CloneConfig{Keep: 100}))
	disk = l.disk.Clone(crashfs.CloneConfig{Keep: 100})
	swap(t, disk, "topics/a-0/"+commitlog.FileName(0), "topics/b-0/"+commitlog.FileName(0))
	attempt("segments swapped", disk.Clone(crashfs.CloneConfig{Keep: 100}))
	t.Log(cuts, "cuts")
}
