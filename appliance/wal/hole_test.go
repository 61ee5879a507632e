package wal_test

import (
	"math/rand/v2"
	"slices"
	"strings"
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
