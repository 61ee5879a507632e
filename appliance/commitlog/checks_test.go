package commitlog_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// oneSegment is a log of one segment that is large enough for its index to be used.
// Every batch holds one record, whose timestamp is its offset.
func oneSegment(t *testing.T) (*crashfs.FS, commitlog.Options) {
	t.Helper()
	disk := crashfs.New()
	if err := errors.Join(disk.MkdirAll("p"), disk.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	o := commitlog.Options{FS: disk, Dir: "p", IndexIntervalBytes: 1000}
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(100) {
		b, err := record.NewBatch(record.None, record.Record{Timestamp: i, Value: make([]byte, 400)})
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(i)
		if err := l.Write(commitlog.Position{Byte: i * int64(len(b))}, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Sync(), l.Close()); err != nil {
		t.Fatal(err)
	}
	return disk, o
}

// change alters the bytes of a file at an offset; less than 0 counts from its end.
func change(t *testing.T, disk *crashfs.FS, name string, at int64, b []byte) {
	t.Helper()
	f, err := disk.Open("p/00000000000000000000" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at < 0 {
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		at += size
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// Index entries that cannot be right are not believed: the segment is read instead.
func TestImpossibleIndexEntries(t *testing.T) {
	entry := func(a, b uint32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, a), b)
	}
	for name, damage := range map[string]func(disk *crashfs.FS){
		"none": func(*crashfs.FS) {},
		"the last names no batch": func(d *crashfs.FS) {
			f, err := d.Open("p/00000000000000000000.index")
			if err != nil {
				t.Fatal(err)
			}
			size, err := f.Size()
			b := make([]byte, 4)
			if _, err2 := f.ReadAt(b, size-4); err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			f.Close()
			change(t, d, ".index", -4, entry(binary.BigEndian.Uint32(b)+7, 0)[:4])
		},
		"one lies before the one before it": func(d *crashfs.FS) { change(t, d, ".index", 24+4, entry(100, 0)[:4]) },
		"one is behind the segment's end":   func(d *crashfs.FS) { change(t, d, ".index", 24, entry(30, 1<<30)) },
		"the indexes disagree":              func(d *crashfs.FS) { change(t, d, ".timeindex", 12+8, entry(77, 0)[:4]) },
		"the times are those of the entries before": func(d *crashfs.FS) {
			f, err := d.Open("p/00000000000000000000.timeindex")
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 12*20)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			f.Close()
			change(t, d, ".timeindex", 12, b)
		},
		"a time goes back": func(d *crashfs.FS) { change(t, d, ".timeindex", 48, make([]byte, 8)) },
	} {
		t.Run(name, func(t *testing.T) {
			disk, o := oneSegment(t)
			damage(disk)
			l, err := commitlog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i := range int64(100) {
				c, err := l.Read(i, 1)
				if err != nil {
					t.Fatalf("offset %d: %v", i, err)
				}
				got, err := c.AppendTo(nil)
				if c.Close(); err != nil || record.Batch(got).BaseOffset() != i {
					t.Fatalf("offset %d: read %d, %v", i, record.Batch(got).BaseOffset(), err)
				}
				if offset, ts, ok, err := l.OffsetForTime(0, i); err != nil || !ok || offset != i || ts != i {
					t.Fatalf("time %d: offset %d at %d, %v %v", i, offset, ts, ok, err)
				}
			}
		})
	}
}

// A lookup by time decodes batches that it was not asked to serve: it checks them.
func TestTimesOfADamagedBatch(t *testing.T) {
	disk, o := oneSegment(t)
	change(t, disk, ".log", 100, []byte("damage"))
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if offset, _, ok, err := l.OffsetForTime(0, 0); err != nil || !ok || offset != 1 {
		t.Errorf("offset %d, %v, %v; want 1, behind the damaged batch", offset, ok, err)
	}
}

// Lookups by time do not find what lies below the log start.
func TestTimesFromTheLogStart(t *testing.T) {
	_, o := oneSegment(t)
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if offset, ts, ok, err := l.OffsetForTime(50, 20); err != nil || !ok || offset != 50 || ts != 50 {
		t.Errorf("from time 20 on: offset %d at %d, %v %v", offset, ts, ok, err)
	}
	for from, want := range map[int64]int64{0: 99, 50: 99, 99: 99, 100: -1} {
		if offset, ts, ok, err := l.MaxTimestamp(from); err != nil || ok != (want >= 0) || ok && (offset != want || ts != want) {
			t.Errorf("greatest time from offset %d on: offset %d at %d, %v %v", from, offset, ts, ok, err)
		}
	}
}

// What was removed does not come back when the power goes.
func TestRemovedSegmentsStayRemoved(t *testing.T) {
	disk := crashfs.New()
	if err := errors.Join(disk.MkdirAll("p"), disk.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	l, err := commitlog.Open(commitlog.Options{FS: disk, Dir: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range int64(3) {
		b, err := record.NewBatch(record.None, record.Record{Timestamp: i})
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(i)
		if err := l.Write(commitlog.Position{Segment: i}, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Sync(), l.RemoveBefore(2)); err != nil {
		t.Fatal(err)
	}
	var left vfs.FS = disk.Clone(crashfs.CloneConfig{})
	names, err := left.List("p")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name[:20] != "00000000000000000002" {
			t.Errorf("%s is back", name)
		}
	}
}
