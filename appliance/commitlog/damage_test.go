package commitlog_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

var flipAll = flag.Bool("damage.full", false, "damage tests: every byte of every file, not a sample")

// store is a partition on disk, whole, and what its owner remembers of it.
type store struct {
	disk    *crashfs.FS
	batches []record.Batch
	known   []commitlog.SegmentID
}

func (s *store) options(disk vfs.FS, damage *[]commitlog.Damage) commitlog.Options {
	return commitlog.Options{FS: disk, Dir: "p", IndexIntervalBytes: 400, Dense: true,
		Known: func(base int64) (ids []commitlog.SegmentID) {
			for _, id := range s.known {
				if id.Base == base {
					ids = append(ids, id)
				}
			}
			return ids
		},
		Epochs:  func(offset int64) (int32, int32) { e := int32(1 + offset/80); return e, e },
		Damaged: func(d commitlog.Damage) { *damage = append(*damage, d) }}
}

// newStore writes n batches into segments of about 9 KiB, with values from seed.
func newStore(t testing.TB, seed uint64, n int) *store {
	t.Helper()
	s := &store{disk: crashfs.New()}
	rnd := rand.New(rand.NewPCG(seed, 0))
	if err := s.disk.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	l, err := commitlog.Open(s.options(s.disk, nil))
	if err != nil {
		t.Fatal(err)
	}
	var at commitlog.Position
	var next int64
	for i := range n {
		value := make([]byte, rnd.IntN(900))
		for j := range value {
			value[j] = byte(rnd.Uint32())
		}
		b, err := record.NewBatch(record.None, record.Record{Timestamp: int64(i), Value: value}, record.Record{Timestamp: int64(i)})
		if err != nil {
			t.Fatal(err)
		}
		if at.Byte > 9000 {
			at = commitlog.Position{Segment: next}
		}
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(int32(1 + i/40))
		if err := l.Write(at, b); err != nil {
			t.Fatal(err)
		}
		s.batches = append(s.batches, b)
		at.Byte, next = at.Byte+int64(len(b)), b.NextOffset()
	}
	segments, err := l.Segments()
	if err != nil {
		t.Fatal(err)
	}
	for i, info := range segments {
		id, ok, err := l.Identity(info.Base)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		id.Growing = i == len(segments)-1
		s.known = append(s.known, id)
	}
	if err := errors.Join(l.Sync(), l.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) end() int64 { return s.batches[len(s.batches)-1].NextOffset() }

// verify reads all that disk has left and checks the promise: what is served is
// what was written at that offset, and what is not served was reported. It returns
// what was reported, and the batches served.
func (s *store) verify(disk vfs.FS) (damage []commitlog.Damage, served int, err error) {
	l, err := commitlog.Open(s.options(disk, &damage))
	if err != nil {
		return damage, 0, fmt.Errorf("does not open: %w", err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	there := map[int64]record.Batch{}
	for next := int64(0); ; {
		c, err := l.Read(next, 3000)
		if err != nil {
			return damage, 0, fmt.Errorf("read at %d: %w", next, err)
		}
		got, err := c.AppendTo(nil)
		if err = errors.Join(err, c.Close()); err != nil {
			return damage, 0, err
		}
		if len(got) == 0 {
			break
		}
		for len(got) > 0 {
			b, rest, ok := record.Split(got)
			if !ok || b.LastOffset() < next {
				return damage, 0, fmt.Errorf("the section at %d is not whole batches in order", next)
			}
			there[b.BaseOffset()], next, got = b, b.NextOffset(), rest
		}
	}
	end, _ := l.End()
	for _, b := range s.batches {
		got, ok := there[b.BaseOffset()]
		if ok && !bytes.Equal(got, b) {
			return damage, 0, fmt.Errorf("offset %d is served with other bytes than were written", b.BaseOffset())
		}
		delete(there, b.BaseOffset())
		reported := slices.ContainsFunc(damage, func(d commitlog.Damage) bool { return d.First <= b.BaseOffset() && b.LastOffset() < d.Next })
		// Of a lost end the log cannot know how far it went: its owner does.
		if !ok && !reported && (b.BaseOffset() < end || !l.Torn() && end != s.end() && end > b.BaseOffset()) {
			return damage, 0, fmt.Errorf("offset %d is neither served nor reported: %+v", b.BaseOffset(), damage)
		}
	}
	if len(there) > 0 {
		return damage, 0, fmt.Errorf("%d batches are served that nobody wrote", len(there))
	}
	return damage, len(s.batches), nil
}

func (s *store) served(disk vfs.FS) int {
	l, err := commitlog.Open(s.options(disk, new([]commitlog.Damage)))
	if err != nil {
		return 0
	}
	defer l.Close()
	n := 0
	_ = l.Headers(func(record.Batch) error { n++; return nil })
	return n
}

func (s *store) files(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	names, err := s.disk.List("p")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := s.disk.Open("p/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := f.Size()
		b := make([]byte, n)
		if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		f.Close()
		out[name] = b
	}
	return out
}

func edit(t testing.TB, disk vfs.FS, name string, do func(f vfs.File) error) {
	t.Helper()
	f, err := disk.Open(name)
	if err == nil {
		err = errors.Join(do(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *store) clone() *crashfs.FS { return s.disk.Clone(crashfs.CloneConfig{Keep: 100}) }

func TestEveryByteFlipped(t *testing.T) {
	s := newStore(t, 1, 60)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	cases := 0
	for name, b := range s.files(t) {
		// Headers of batches whole, a sample of the rest.
		head := map[int]bool{}
		if strings.HasSuffix(name, ".log") {
			for rest, pos := b, 0; len(rest) > 0; {
				first, r, _ := record.Split(rest)
				for i := range record.HeaderLen {
					head[pos+i] = true
				}
				pos, rest = pos+len(first), r
			}
		}
		for at := range b {
			if !*flipAll && rnd.IntN(20) > 0 && !(head[at] && rnd.IntN(4) == 0) {
				continue
			}
			cases++
			disk := s.clone()
			bit := byte(1) << rnd.IntN(8)
			edit(t, disk, "p/"+name, func(f vfs.File) error { _, err := f.WriteAt([]byte{b[at] ^ bit}, int64(at)); return err })
			damage, _, err := s.verify(disk)
			if err != nil {
				t.Fatalf("%s byte %d bit %02x: %v", name, at, bit, err)
			}
			lost := int64(0)
			for _, d := range damage {
				lost += d.Next - d.First
			}
			if n := s.served(disk); n < len(s.batches)-1 {
				t.Fatalf("%s byte %d bit %02x: one flipped bit took %d batches: %+v", name, at, bit, len(s.batches)-n, damage)
			}
			if lost > 2 || lost > 0 && !strings.HasSuffix(name, ".log") {
				t.Fatalf("%s byte %d bit %02x: %+v", name, at, bit, damage)
			}
		}
	}
	t.Log(cases, "bytes flipped")
}

func TestTruncatedAndZeroed(t *testing.T) {
	s := newStore(t, 2, 60)
	cases := 0
	for name, b := range s.files(t) {
		var sizes []int
		step := 8
		if strings.HasSuffix(name, ".log") {
			step = 0
		}
		for rest, pos := b, 0; len(rest) > 0; {
			n := min(step, len(rest))
			if step == 0 {
				first, _, _ := record.Split(rest)
				n = len(first)
			}
			sizes = append(sizes, pos-1, pos, pos+1)
			pos, rest = pos+n, rest[n:]
		}
		for _, size := range sizes {
			if size < 0 || size >= len(b) {
				continue
			}
			cases++
			disk := s.clone()
			edit(t, disk, "p/"+name, func(f vfs.File) error { return f.Truncate(int64(size)) })
			if damage, _, err := s.verify(disk); err != nil {
				t.Fatalf("%s cut to %d of %d: %v", name, size, len(b), err)
			} else if len(damage) > 0 && !strings.HasSuffix(name, ".log") {
				t.Fatalf("%s cut to %d: %+v", name, size, damage)
			}
		}
		for at := 0; at < len(b); at += 512 {
			cases++
			disk := s.clone()
			edit(t, disk, "p/"+name, func(f vfs.File) error {
				_, err := f.WriteAt(make([]byte, min(4096, len(b)-at)), int64(at))
				return err
			})
			if _, _, err := s.verify(disk); err != nil {
				t.Fatalf("%s zeroed at %d: %v", name, at, err)
			}
		}
	}
	t.Log(cases, "cases")
}

// A file that is another's, an old copy or missing takes no other with it.
func TestForeignFiles(t *testing.T) {
	s, other := newStore(t, 3, 60), newStore(t, 4, 60)
	mine, theirs := s.files(t), other.files(t)
	for name := range mine {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		for from, b := range theirs {
			if !strings.HasSuffix(from, ".log") {
				continue
			}
			disk := s.clone()
			edit(t, disk, "p/"+name, func(f vfs.File) error {
				_, err := f.WriteAt(b, 0)
				return errors.Join(err, f.Truncate(int64(len(b))))
			})
			damage, _, err := s.verify(disk)
			if err != nil {
				t.Fatalf("%s replaced by another's %s: %v", name, from, err)
			}
			if len(damage) == 0 && s.known[len(s.known)-1].End == s.end() {
				t.Fatalf("%s replaced by another's %s: nothing reported", name, from)
			}
			kept, _ := disk.List("quarantine")
			if len(kept) == 0 {
				t.Fatalf("%s replaced by another's %s: it was not set aside", name, from)
			}
		}
		for second := range mine {
			if second <= name || !strings.HasSuffix(second, ".log") {
				continue
			}
			disk := s.clone()
			for _, step := range [][2]string{{name, "x"}, {second, name}, {"x", second}} {
				if err := disk.Rename("p/"+step[0], "p/"+step[1]); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := s.verify(disk); err != nil {
				t.Fatalf("%s swapped with %s: %v", name, second, err)
			}
		}
		disk := s.clone()
		if err := disk.Remove("p/" + name); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.verify(disk); err != nil && name != commitlog.FileName(0) {
			t.Fatalf("%s missing: %v", name, err) // that the first is missing its owner knows
		}
	}
}

// A segment that cannot be read now is no damage: the next read tries again.
func TestReadErrorIsOfThatRangeAndMoment(t *testing.T) {
	s := newStore(t, 5, 60)
	disk := s.clone()
	var damage []commitlog.Damage
	l, err := commitlog.Open(s.options(disk, &damage))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cold := "p/" + commitlog.FileName(s.known[1].Base)
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Read && op.Name == cold {
			return syscall.EIO
		}
		return nil
	}, nil)
	for i, id := range s.known {
		c, err := l.Read(id.Base, 100)
		if i == 1 {
			if !errors.Is(err, record.ErrStorage) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("read of a segment with an error: %v", err)
			}
			continue
		}
		if err != nil || c.Len() == 0 {
			t.Fatalf("segment %d is read with %v", id.Base, err)
		}
		c.Close()
	}
	disk.OnOp(nil, nil)
	c, err := l.Read(s.known[1].Base, 100)
	if err != nil || c.Len() == 0 || len(damage) > 0 {
		t.Fatal(err, damage)
	}
	c.Close()
}

// A batch inside the value of a record is not taken for one of the log when the
// record's own batch is damaged.
func TestResyncGoesByTheHeader(t *testing.T) {
	disk := crashfs.New()
	if err := disk.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	fake, _ := record.NewBatch(record.None, record.Record{Value: []byte("never written here")})
	fake.SetBaseOffset(1)
	var damage []commitlog.Damage
	o := commitlog.Options{FS: disk, Dir: "p", Dense: true, Damaged: func(d commitlog.Damage) { damage = append(damage, d) }}
	l, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var at commitlog.Position
	for i := range int64(3) {
		b, _ := record.NewBatch(record.None, record.Record{Value: fake})
		b.SetBaseOffset(i)
		if err := l.Write(at, b); err != nil {
			t.Fatal(err)
		}
		at.Byte += int64(len(b))
	}
	l.Close()
	edit(t, disk, "p/"+commitlog.FileName(0), func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff}, at.Byte/3+61); return err })
	if l, err = commitlog.Open(o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Read(1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.AppendTo(nil)
	if err != nil || record.Batch(b).BaseOffset() != 2 || len(damage) != 1 || damage[0].First != 1 || damage[0].Next != 2 {
		t.Fatalf("served offset %d, damage %+v, %v", record.Batch(b).BaseOffset(), damage, err)
	}
}

// A leader epoch is under no CRC. The first one of a segment of which nobody remembers
// anything costs its batch, and none of those behind it that have a smaller one.
func TestFlippedEpochWithNobodyToAsk(t *testing.T) {
	s := newStore(t, 1, 60)
	for name, b := range s.files(t) {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		for bit := byte(1); bit < 0x80; bit <<= 1 {
			disk := s.clone()
			edit(t, disk, "p/"+name, func(f vfs.File) error { _, err := f.WriteAt([]byte{b[12] ^ bit}, 12); return err })
			var damage []commitlog.Damage
			o := s.options(disk, &damage)
			o.Known, o.Epochs = nil, nil
			l, err := commitlog.Open(o)
			if err == nil {
				err = errors.Join(l.Audit(0), l.Close())
			}
			if err != nil || len(damage) != 1 || damage[0].Next-damage[0].First != 2 || damage[0].From != 0 {
				t.Errorf("%s bit %02x: %+v, %v", name, bit, damage, err)
			}
		}
	}
}
