package wal_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// patient lets a round go unsynced until another is synced.
var patient = wal.Relax{Records: 1, Every: 1000, Within: time.Minute}

func replayed(t *testing.T, disk *crashfs.FS) (entries []string) {
	t.Helper()
	l, err := wal.Open(walOptions(disk), func(e []byte) error {
		entries = append(entries, string(e[:min(len(e), 10)]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return entries
}

// A round that waits for the disk in a new file takes along those in the old one
// that did not.
func TestRelaxedRoundsAreSyncedBeforeTheNextFile(t *testing.T) {
	disk := crashfs.New()
	l, err := wal.Open(walOptions(disk), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := trace{make(chan string, 100)}
	for _, e := range []string{"one", "two", "three"} {
		stageRelaxed(t, l, s, e, patient)
		s.next(t, "done "+e)
	}
	large := "large     " + strings.Repeat("x", 50<<10) // does not fit the file
	stageStrict(t, l, s, large)
	for s := range s.events {
		if s == "done "+large {
			break
		}
	}
	left := disk.Clone(crashfs.CloneConfig{})
	if got := replayed(t, left); !slices.Equal(got, []string{"one", "two", "three", large[:10]}) {
		t.Errorf("left on the disk: %q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A power cut takes any of the rounds that were not synced. What it leaves behind a
// hole is no damage, is not replayed, and is never taken for what comes later.
func TestHolesAmongUnsyncedRounds(t *testing.T) {
	holes := 0
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		disk := crashfs.New()
		l, err := wal.Open(walOptions(disk), func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		s := trace{make(chan string, 100)}
		stageStrict(t, l, s, "synced")
		s.next(t, "commit synced", "done synced", "apply synced")
		for _, e := range []string{"one", "two", "three", "four"} {
			stageRelaxed(t, l, s, e, patient)
			s.next(t, "done "+e)
		}
		left := disk.Clone(crashfs.CloneConfig{Keep: 50, Torn: 30, Rand: rnd})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		all := []string{"synced", "one", "two", "three", "four"}
		first := replayed(t, left)
		if n := len(first); n == 0 || !slices.Equal(first, all[:n]) {
			t.Fatalf("seed %d: %q is not how %q began", seed, first, all)
		}
		if len(first) < 5 {
			holes++
		}
		l, err = wal.Open(walOptions(left), func([]byte) error { return nil })
		if err != nil {
			t.Fatalf("seed %d: a second time: %v", seed, err)
		}
		stageStrict(t, l, s, "later")
		for e := range s.events {
			if e == "done later" {
				break
			}
		}
		if got := replayed(t, left.Clone(crashfs.CloneConfig{})); !slices.Equal(got, append(first, "later")) {
			t.Errorf("seed %d: %q, want %q and later", seed, got, first)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if holes == 0 {
		t.Error("no power cut left a hole")
	}
}

// What the earlier life of a file left behind is not taken for its next round, even
// where it has the right number at the right place.
func TestEarlierLifeOfAFileIsNotReplayed(t *testing.T) {
	left := withoutSecondRound(t)
	l, err := wal.Open(walOptions(left), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := trace{make(chan string, 100)}
	if err := l.Checkpoint(l.Applied()); err != nil { // the file is used again
		t.Fatal(err)
	}
	other := "other     " + strings.Repeat("x", 5000) // two blocks: then comes what was round three
	stageStrict(t, l, s, other)
	for e := range s.events {
		if e == "done "+other {
			break
		}
	}
	if got := replayed(t, left.Clone(crashfs.CloneConfig{})); !slices.Equal(got, []string{other[:10]}) {
		t.Errorf("replayed %q, want the other alone", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// withoutSecondRound is a disk on which a power cut left the third round of the
// first file, and not the second.
func withoutSecondRound(t *testing.T) *crashfs.FS {
	t.Helper()
	disk := crashfs.New()
	l, err := wal.Open(walOptions(disk), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := trace{make(chan string, 100)}
	stageStrict(t, l, s, "one")
	s.next(t, "commit one", "done one", "apply one")
	for _, e := range []string{"two", "three"} {
		stageRelaxed(t, l, s, e, patient)
		s.next(t, "done "+e)
	}
	for seed := range uint64(1000) {
		left := disk.Clone(crashfs.CloneConfig{Keep: 50, Rand: rand.New(rand.NewPCG(seed, 0))})
		f, err := left.Open("wal/00000000000000000001.wal")
		if err != nil {
			continue
		}
		second, third := make([]byte, 4), make([]byte, 4)
		_, err2 := f.ReadAt(second, 2*4096)
		_, err3 := f.ReadAt(third, 3*4096)
		f.Close()
		if err2 == nil && err3 == nil && string(second) != "WRND" && string(third) == "WRND" {
			return left
		}
	}
	t.Fatal("no power cut left the third round alone")
	return nil
}

// What Open has replayed is on the disk, also if its sync had failed and the kernel
// took it for written: a power cut in the recovery must not take it from under those
// who have it in their segments by then.
func TestWhatIsReplayedIsOnTheDisk(t *testing.T) {
	disk := crashfs.New()
	l, err := wal.Open(walOptions(disk), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := trace{make(chan string, 100)}
	stageStrict(t, l, s, "synced")
	s.next(t, "commit synced", "done synced", "apply synced")
	for _, e := range []string{"one", "two", "three"} {
		stageRelaxed(t, l, s, e, patient)
		s.next(t, "done "+e)
	}
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			return syscall.EIO
		}
		return nil
	}, nil)
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	left := disk.Killed()
	first := replayed(t, left)
	if again := replayed(t, left.Clone(crashfs.CloneConfig{})); len(first) != 4 || !slices.Equal(again, first) {
		t.Errorf("after a kill %q is replayed, after a power cut in the recovery %q", first, again)
	}
}
