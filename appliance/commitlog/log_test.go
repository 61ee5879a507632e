package commitlog_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// fixture is a log with batches of random sizes over several segments.
type fixture struct {
	fs      vfs.FS
	opts    commitlog.Options
	batches []record.Batch
	at      []commitlog.Position
	rand    *rand.Rand
}

func newFixture(t testing.TB, n int) *fixture {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	f := &fixture{fs: vfs.OS(t.TempDir()), rand: rand.New(rand.NewPCG(seed, 1))}
	f.opts = commitlog.Options{FS: f.fs, Dir: "p", IndexIntervalBytes: 500}
	if err := f.fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	var next int64
	var at commitlog.Position
	for i := range n {
		rs := make([]record.Record, 1+f.rand.IntN(5))
		for j := range rs {
			rs[j] = record.Record{Timestamp: int64(1000 + i), Value: make([]byte, f.rand.IntN(300))}
		}
		b, err := record.NewBatch(record.Codec(f.rand.IntN(5)), rs...)
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(next)
		if at.Byte > 10_000 {
			at = commitlog.Position{Segment: next}
		}
		f.batches, f.at = append(f.batches, b), append(f.at, at)
		at.Byte += int64(len(b))
		next = b.NextOffset()
	}
	return f
}

func (f *fixture) open(t testing.TB) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(f.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (f *fixture) write(t testing.TB) *commitlog.Log {
	t.Helper()
	l := f.open(t)
	for i, b := range f.batches {
		if err := l.Write(f.at[i], b); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// check reads from every offset with random bounds and compares bytes.
func (f *fixture) check(t testing.TB, l *commitlog.Log) {
	t.Helper()
	for i, b := range f.batches {
		for offset := b.BaseOffset(); offset <= b.LastOffset(); offset++ {
			maxBytes := f.rand.IntN(3000)
			c, err := l.Read(offset, maxBytes)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.AppendTo(nil)
			c.Close()
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for at := got; len(at) > 0; n++ {
				first, rest, ok := record.Split(at)
				if !ok || !bytes.Equal(first, f.batches[i+n]) {
					t.Fatalf("offset %d, %d bytes: batch %d differs", offset, maxBytes, n)
				}
				at = rest
			}
			if n == 0 || n > 1 && len(got) > maxBytes {
				t.Fatalf("offset %d: %d batches, %d bytes for at most %d", offset, n, len(got), maxBytes)
			}
		}
	}
	last := f.batches[len(f.batches)-1]
	if end, _ := l.End(); end != last.NextOffset() {
		t.Fatalf("end %d, want %d", end, last.NextOffset())
	}
}

func TestReadsAreWholeBatches(t *testing.T) {
	f := newFixture(t, 300)
	l := f.write(t)
	f.check(t, l)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	f.check(t, l)
	l.Close()
	f.check(t, f.open(t))
}

func TestIndexesAreRebuilt(t *testing.T) {
	for name, damage := range map[string]func(f vfs.File) error{
		"gone":     nil,
		"empty":    func(f vfs.File) error { return f.Truncate(0) },
		"odd size": func(f vfs.File) error { return f.Truncate(13) },
		"zeros":    func(f vfs.File) error { _, err := f.WriteAt(make([]byte, 64), 8); return err },
		"garbage":  func(f vfs.File) error { _, err := f.WriteAt(bytes.Repeat([]byte{0, 1, 2, 3}, 30), 0); return err },
		"too long": func(f vfs.File) error {
			n, _ := f.Size()
			_, err := f.WriteAt(bytes.Repeat([]byte{9}, 64), n)
			return err
		},
	} {
		for _, suffix := range []string{".index", ".timeindex"} {
			t.Run(name+suffix, func(t *testing.T) {
				f := newFixture(t, 100)
				f.write(t).Close()
				names, _ := f.fs.List("p")
				for _, n := range names {
					if !bytes.HasSuffix([]byte(n), []byte(suffix)) {
						continue
					}
					if damage == nil {
						if err := f.fs.Remove("p/" + n); err != nil {
							t.Fatal(err)
						}
						continue
					}
					file, err := f.fs.Open("p/" + n)
					if err == nil {
						err = damage(file)
						file.Close()
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				l := f.open(t)
				f.check(t, l)
				for i := range f.batches {
					if o, _, ok, err := l.OffsetForTime(0, int64(1000+i)); err != nil || !ok || o != f.batches[i].BaseOffset() {
						t.Fatalf("time %d: offset %d %v %v, want %d", 1000+i, o, ok, err, f.batches[i].BaseOffset())
					}
				}
			})
		}
	}
}

// Redo from any point on, over any damage behind that point, gives the same log.
func TestRedo(t *testing.T) {
	f := newFixture(t, 120)
	f.write(t).Close()
	for from := range f.batches {
		// What lies behind from was never synced: here it is garbage or gone.
		names, _ := f.fs.List("p")
		for _, n := range names {
			if bytes.HasSuffix([]byte(n), []byte(".log")) && n > fileOf(f.at[from]) {
				f.fs.Remove("p/" + n)
			}
		}
		file, err := f.fs.Open("p/" + fileOf(f.at[from]))
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(f.at[from].Byte); err != nil {
			t.Fatal(err)
		}
		file.WriteAt(bytes.Repeat([]byte{0xff}, f.rand.IntN(20_000)), f.at[from].Byte)
		file.Close()
		for range 2 {
			r, err := commitlog.NewRedo(f.opts)
			if err != nil {
				t.Fatal(err)
			}
			for i := from; i < len(f.batches); i++ {
				if err := r.Write(f.at[i], f.batches[i]); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Finish(0, nil); err != nil {
				t.Fatal(err)
			}
			r.Abandon() // killed; the next run opens the log without one
		}
		l := f.open(t)
		if end, _ := l.End(); end != f.batches[len(f.batches)-1].NextOffset() {
			t.Fatalf("from %d: end %d", from, end)
		}
		if from%20 == 0 {
			f.check(t, l)
		}
		l.Close()
	}
}

func fileOf(at commitlog.Position) string { return commitlog.FileName(at.Segment) }

func TestRemovedSegmentsStayReadableToWhoReads(t *testing.T) {
	f := newFixture(t, 200)
	l := f.write(t)
	c, err := l.Read(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	segments, err := l.Segments()
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) < 3 {
		t.Fatal("the fixture is too small")
	}
	if err := l.RemoveBefore(segments[2].Base); err != nil {
		t.Fatal(err)
	}
	got, err := c.AppendTo(nil)
	if err != nil || int64(len(got)) != segments[0].Bytes {
		t.Fatal(len(got), err)
	}
	c.Close()
	if l.Start() != segments[2].Base {
		t.Fatal(l.Start())
	}
	l.Close()
	if l = f.open(t); l.Start() != segments[2].Base {
		t.Fatal(l.Start())
	}
	names, _ := f.fs.List("p")
	if names[0] < commitlog.FileName(segments[2].Base)[:20] {
		t.Fatal(names)
	}
}

func TestSegmentsBelowTheStartAreRemovedUnread(t *testing.T) {
	f := newFixture(t, 200)
	l := f.write(t)
	segments, err := l.Segments()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	file, err := f.fs.Open("p/" + commitlog.FileName(segments[0].Base))
	if err == nil {
		_, err = file.WriteAt(make([]byte, 100), 0) // a crash took what was never needed
		file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.opts.Start = segments[1].Base
	if l = f.open(t); l.Start() != segments[1].Base {
		t.Fatal(l.Start())
	}
	names, _ := f.fs.List("p")
	if names[0] < commitlog.FileName(segments[1].Base)[:20] {
		t.Fatal(names)
	}
}

// A reader that comes to a segment as retention takes it away goes on behind it: that
// is no failure of the disk.
func TestReadBesideRetention(t *testing.T) {
	f := newFixture(t, 200)
	disk := crashfs.New()
	f.opts.FS = vfs.NewPool(disk, 1)
	if err := disk.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	l := f.open(t)
	for i, b := range f.batches {
		if err := l.Write(f.at[i], b); err != nil {
			t.Fatal(err)
		}
	}
	infos, err := l.Segments()
	if err != nil {
		t.Fatal(err)
	}
	removed := false
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Open && op.Name == "p/"+commitlog.FileName(0) && !removed {
			removed = true
			return l.RemoveBefore(infos[1].Base)
		}
		return nil
	}, nil)
	c, err := l.Read(0, 1)
	if err != nil || !removed {
		t.Fatal(err, removed)
	}
	defer c.Close()
	b, err := c.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if base := record.Batch(b).BaseOffset(); base != infos[1].Base {
		t.Errorf("read offset %d, want %d", base, infos[1].Base)
	}
}
