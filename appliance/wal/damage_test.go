package wal_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

var flipAll = flag.Bool("damage.full", false, "damage tests: every byte of every file, not a sample")

// isPart reports whether got is all with entries left out.
func isPart(got, all []string) bool {
	for _, e := range got {
		i := slices.Index(all, e)
		if i < 0 {
			return false
		}
		all = all[i+1:]
	}
	return true
}

// reopened is what a log on disk replays, and what it says of it.
type reopened struct {
	replayed []string
	damage   []wal.Damage
}

func reopen(t testing.TB, disk vfs.FS) (r reopened) {
	t.Helper()
	l, err := wal.Open(wal.Options{FS: disk, Dir: "wal", FileBytes: 64 << 10, Damaged: func(d wal.Damage) { r.damage = append(r.damage, d) }},
		func(e []byte) error { r.replayed = append(r.replayed, string(e)); return nil })
	if err != nil {
		t.Fatal("the log does not open:", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// filled is a log of several files, the first rounds of which are checkpointed.
func filled(t testing.TB) (disk *crashfs.FS, since []string) {
	t.Helper()
	disk = crashfs.New()
	l, _ := open(t, disk, wal.Options{})
	write(t, l, 0, 5)
	if err := l.Checkpoint(l.Applied()); err != nil {
		t.Fatal(err)
	}
	since = write(t, l, 5, 50)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, since
}

func edit(t testing.TB, disk vfs.FS, name string, do func(f vfs.File) error) {
	t.Helper()
	f, err := disk.Open(name)
	if err == nil {
		err = do(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func content(t testing.TB, disk vfs.FS, name string) []byte {
	t.Helper()
	var b []byte
	edit(t, disk, name, func(f vfs.File) (err error) {
		n, err := f.Size()
		b = make([]byte, n)
		if _, rerr := f.ReadAt(b, 0); rerr != nil && rerr != io.EOF {
			err = rerr
		}
		return err
	})
	return b
}

// verify checks the promise: nothing is made up or out of order, and what is not
// replayed is reported unless it is the last round, which nothing tells from one
// that was being written.
func (r reopened) verify(t testing.TB, what string, all []string) {
	t.Helper()
	if i := slices.Index(r.replayed, all[0]); i > 0 && slices.ContainsFunc(r.damage, func(d wal.Damage) bool { return d.File == "checkpoint" }) {
		r.replayed = r.replayed[i:] // more than was needed
	}
	if !isPart(r.replayed, all) {
		t.Fatalf("%s: replayed %d entries that are no part of the %d committed", what, len(r.replayed), len(all))
	}
	if len(r.damage) == 0 && len(r.replayed) < len(all)-1 {
		t.Fatalf("%s: %d of %d entries replayed and no damage reported", what, len(r.replayed), len(all))
	}
}

func TestEveryByteFlipped(t *testing.T) {
	disk, all := filled(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	names, _ := disk.List("wal")
	cases := 0
	for _, name := range names {
		b := content(t, disk, "wal/"+name)
		for at := 0; at < len(b); at++ {
			// All of the headers, and of the rest a sample.
			if !*flipAll && at%4096 > 64 && rnd.IntN(200) > 0 {
				continue
			}
			cases++
			clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
			bit := byte(1) << rnd.IntN(8)
			edit(t, clone, "wal/"+name, func(f vfs.File) error { _, err := f.WriteAt([]byte{b[at] ^ bit}, int64(at)); return err })
			reopen(t, clone).verify(t, fmt.Sprintf("%s byte %d", name, at), all)
		}
	}
	t.Log(cases, "bytes flipped")
}

func TestTruncatedAndZeroed(t *testing.T) {
	disk, all := filled(t)
	names, _ := disk.List("wal")
	for _, name := range names {
		b := content(t, disk, "wal/"+name)
		for at := 0; at <= len(b); at += 4096 {
			for _, size := range []int{at - 1, at, at + 1} {
				if size < 0 || size >= len(b) {
					continue
				}
				clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
				edit(t, clone, "wal/"+name, func(f vfs.File) error { return f.Truncate(int64(size)) })
				reopen(t, clone).verify(t, fmt.Sprintf("%s cut to %d", name, size), all)
			}
			if at < len(b) {
				clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
				edit(t, clone, "wal/"+name, func(f vfs.File) error { _, err := f.WriteAt(make([]byte, 4096), int64(at)); return err })
				reopen(t, clone).verify(t, fmt.Sprintf("%s zeroed at %d", name, at), all)
			}
		}
	}
}

func TestFilesSwappedOrMissing(t *testing.T) {
	disk, all := filled(t)
	names, _ := disk.List("wal")
	for i, a := range names {
		clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
		if err := clone.Remove("wal/" + a); err != nil {
			t.Fatal(err)
		}
		if r := reopen(t, clone); i > 0 && i+2 < len(names) || a == "checkpoint" {
			r.verify(t, a+" missing", all) // a first or last file that is missing leaves no trace
		} else if !isPart(r.replayed, all) {
			t.Fatalf("%s missing: entries made up", a)
		}
		for _, b := range names[i+1:] {
			clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
			for _, step := range [][2]string{{a, "x"}, {b, a}, {"x", b}} {
				if err := clone.Rename("wal/"+step[0], "wal/"+step[1]); err != nil {
					t.Fatal(err)
				}
			}
			reopen(t, clone).verify(t, a+" swapped with "+b, all)
		}
	}
}

// The bytes of a damaged round are set aside before anything uses the file again,
// and what follows them is replayed; a round that was being written is just cut.
func TestDamagedBytesAreKept(t *testing.T) {
	disk, all := filled(t)
	name := "wal/00000000000000000001.wal"
	before := content(t, disk, name)
	at := bytes.Index(before, []byte(all[2][:9]))
	before[at] ^= 1
	edit(t, disk, name, func(f vfs.File) error { _, err := f.WriteAt(before[at:at+1], int64(at)); return err })
	r := reopen(t, disk)
	if want := append(slices.Clone(all[:2]), all[3:]...); !slices.Equal(r.replayed, want) {
		t.Fatalf("replayed %d entries, want all but the damaged one of %d", len(r.replayed), len(all))
	}
	if len(r.damage) != 1 || r.damage[0].First != r.damage[0].Last || r.damage[0].File != strings.TrimPrefix(name, "wal/") {
		t.Fatalf("reported %+v", r.damage)
	}
	d := r.damage[0]
	// Durable: a power cut now leaves it.
	if kept := content(t, disk.Clone(crashfs.CloneConfig{}), "quarantine/"+d.Kept); !bytes.Equal(kept, before[d.From:d.To]) {
		t.Fatalf("%d bytes kept, want %d", len(kept), d.To-d.From)
	}
	if again := reopen(t, disk); !slices.Equal(again.damage, r.damage) || !slices.Equal(again.replayed, r.replayed) {
		t.Fatal("opening again tells something else")
	}
}

// One flipped bit costs one entry of the round, not all of them.
func TestSalvage(t *testing.T) {
	disk := crashfs.New()
	l, _ := open(t, disk, wal.Options{})
	s := newSink()
	for range 2 {
		group := []string{"first entry", "second entry", "third entry"}
		if err := l.Begin(3, 64); err != nil {
			t.Fatal(err)
		}
		for _, e := range group {
			copy(l.Add(len(e), s, nil), e)
		}
		l.End()
		for range group {
			<-s.ch
		}
	}
	l.Close()
	name := "wal/00000000000000000001.wal"
	at := bytes.Index(content(t, disk, name), []byte("second"))
	edit(t, disk, name, func(f vfs.File) error { _, err := f.WriteAt([]byte{'X'}, int64(at)); return err })
	var salvaged, replayed []string
	l, err := wal.Open(wal.Options{FS: disk, Dir: "wal", FileBytes: 64 << 10, Salvage: func(e []byte) error { salvaged = append(salvaged, string(e)); return nil }},
		func(e []byte) error { replayed = append(replayed, string(e)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if want := []string{"first entry", "Xecond entry", "third entry"}; !slices.Equal(salvaged, want) || len(replayed) != 3 {
		t.Fatalf("salvaged %q, replayed %q", salvaged, replayed)
	}
}

// With both copies of the checkpoint gone, what the ring holds is replayed, which is
// more than was needed and never less.
func TestCheckpointLost(t *testing.T) {
	disk, all := filled(t)
	for _, damage := range []func(f vfs.File) error{
		func(f vfs.File) error { return f.Truncate(0) },
		func(f vfs.File) error { _, err := f.WriteAt(make([]byte, 8192), 0); return err },
		func(f vfs.File) error {
			_, err := f.WriteAt([]byte{9}, 20)
			if err == nil {
				_, err = f.WriteAt([]byte{9}, 4096+20)
			}
			return err
		},
	} {
		clone := disk.Clone(crashfs.CloneConfig{Keep: 100})
		edit(t, clone, "wal/checkpoint", damage)
		for range 2 { // it is no more sound after having been opened
			r := reopen(t, clone)
			if len(r.replayed) < len(all) || !slices.Equal(r.replayed[len(r.replayed)-len(all):], all) {
				t.Fatalf("replayed %d entries, which do not end with the %d since the checkpoint", len(r.replayed), len(all))
			}
			if len(r.damage) != 1 || r.damage[0].File != "checkpoint" {
				t.Fatalf("reported %+v", r.damage)
			}
		}
		l, _ := open(t, clone, wal.Options{})
		if err := l.Checkpoint(l.Applied()); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if r := reopen(t, clone); len(r.replayed) != 0 || len(r.damage) != 0 {
			t.Fatalf("after a checkpoint %d entries are replayed, damage %v", len(r.replayed), r.damage)
		}
	}
}

// A power cut at every step of setting damage aside changes nothing: it is done again.
func TestPowerCutInQuarantine(t *testing.T) {
	disk, all := filled(t)
	name := "wal/00000000000000000001.wal"
	at := int64(bytes.Index(content(t, disk, name), []byte(all[2][:9])))
	edit(t, disk, name, func(f vfs.File) error {
		_, err := f.WriteAt([]byte{'X'}, at)
		if err == nil {
			err = f.Sync()
		}
		return err
	})
	want := reopen(t, disk.Clone(crashfs.CloneConfig{}))
	rnd := rand.New(rand.NewPCG(1, 1))
	cuts := 0
	disk.OnOp(nil, func(op crashfs.Op) {
		if !op.Changes() {
			return
		}
		for _, keep := range []int{0, 50, 100} {
			cuts++
			clone := disk.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd})
			r := reopen(t, clone)
			if !slices.Equal(r.replayed, want.replayed) || !slices.Equal(r.damage, want.damage) {
				t.Errorf("cut after %s, keep %d: replayed %d, damage %v", op, keep, len(r.replayed), r.damage)
			}
			if kept := content(t, clone, "quarantine/"+r.damage[0].Kept); int64(len(kept)) != r.damage[0].To-r.damage[0].From {
				t.Errorf("cut after %s, keep %d: %d bytes kept", op, keep, len(kept))
			}
		}
	})
	reopen(t, disk)
	t.Log(cuts, "cuts")
}
