package commitlog_test

import (
	"encoding/binary"
	"testing"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// numbered is a batch of one record of so many bytes at an offset.
func numbered(t *testing.T, offset int64, size int) record.Batch {
	t.Helper()
	b, err := record.NewBatch(record.None, record.Record{Timestamp: 1000 + offset, Value: make([]byte, size)})
	if err != nil {
		t.Fatal(err)
	}
	b.SetBaseOffset(offset)
	return b
}

func size(t *testing.T, fs vfs.FS, name string) int64 {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What a crash left behind the last batch that the write-ahead log knows, and is no
// whole batch, is cut off: the log does not end in the middle of one.
func TestRedoCutsWhatIsBehindTheEnd(t *testing.T) {
	fs := vfs.OS(t.TempDir())
	if err := fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	first, second := numbered(t, 0, 100), numbered(t, 1, 100)
	name := "p/" + commitlog.FileName(0)
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(append(append([]byte(nil), first...), second[:len(second)-10]...), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	o := commitlog.Options{FS: fs, Dir: "p"}
	r, err := commitlog.NewRedo(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(commitlog.Position{}, first); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	if n := size(t, fs, name); n != int64(len(first)) {
		t.Errorf("the segment has %d bytes, want the %d of its one batch", n, len(first))
	}
	o.Redo = r
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if end, at := l.End(); end != 1 || at.Byte != int64(len(first)) {
		t.Errorf("the log ends with offset %d at %v", end, at)
	}
}

// The last index entry is believed only if a batch that ends with its offset starts
// where it says: by one that names an earlier offset a reader would pass over records.
func TestIndexEntryOfAnotherBatch(t *testing.T) {
	fs := vfs.OS(t.TempDir())
	if err := fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	o := commitlog.Options{FS: fs, Dir: "p", IndexIntervalBytes: 1000}
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var at commitlog.Position
	const n = 200 // more than an index is made anew for
	for offset := range int64(n) {
		b := numbered(t, offset, 200)
		if err := l.Write(at, b); err != nil {
			t.Fatal(err)
		}
		at.Byte += int64(len(b))
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	named := falsify(t, fs)
	if l, err = commitlog.Open(o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for offset := named - 1; offset < named+2; offset++ {
		s, err := l.Read(offset, 1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.AppendTo(nil)
		s.Close()
		if err != nil || record.Batch(b).BaseOffset() != offset {
			t.Errorf("reading at %d gives offset %d, %v", offset, record.Batch(b).BaseOffset(), err)
		}
	}
}

// falsify has the last entry of both indexes name the offset before its own, and
// returns that.
func falsify(t *testing.T, fs vfs.FS) (offset int64) {
	t.Helper()
	for _, x := range []struct {
		suffix    string
		entry, at int64 // bytes of an entry, and where in it the offset stands
	}{{".index", 8, 0}, {".timeindex", 12, 8}} {
		name := "p/00000000000000000000" + x.suffix
		end := size(t, fs, name)
		if end < 2*x.entry {
			t.Fatalf("%s has %d bytes: too few for this test", name, end)
		}
		f, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [4]byte
		if _, err := f.ReadAt(b[:], end-x.entry+x.at); err != nil {
			t.Fatal(err)
		}
		offset = int64(binary.BigEndian.Uint32(b[:])) - 1
		binary.BigEndian.PutUint32(b[:], uint32(offset))
		if _, err := f.WriteAt(b[:], end-x.entry+x.at); err != nil {
			t.Fatal(err)
		}
	}
	return offset
}
