package wal_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// A file that bears another's name still gives what it holds, and is reported.
func TestFileUnderAnotherName(t *testing.T) {
	disk, all := filled(t)
	a, b := "wal/00000000000000000002.wal", "wal/00000000000000000003.wal"
	for _, step := range [][2]string{{a, "x"}, {b, a}, {"x", b}} {
		if err := disk.Rename(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	r := reopen(t, disk)
	if !slices.Equal(r.replayed, all) {
		t.Errorf("%d of %d entries replayed", len(r.replayed), len(all))
	}
	if len(r.damage) != 2 || !strings.Contains(r.damage[0].Cause, "name of another") {
		t.Errorf("reported: %+v", r.damage)
	}
}

// slow is a sink that takes its time to apply.
type slow struct{ applying, goOn chan struct{} }

func (slow) Commit([]byte)           {}
func (slow) Done([]byte, any, error) {}

func (s slow) Apply([]byte, wal.Context) error {
	s.applying <- struct{}{}
	<-s.goOn
	return nil
}

// A checkpoint covers no round that is still being applied.
func TestAppliedIsWhatWasApplied(t *testing.T) {
	l, _ := open(t, crashfs.New(), wal.Options{})
	s := slow{make(chan struct{}), make(chan struct{})}
	before := l.Applied()
	if err := l.Begin(1, 1); err != nil {
		t.Fatal(err)
	}
	l.Add(1, s, nil)
	l.End()
	<-s.applying
	if n := l.Applied(); n != before {
		t.Errorf("round %d counts as applied while it is being applied", n)
	}
	close(s.goOn)
	l.Settle()
	if n := l.Applied(); n != before+1 {
		t.Errorf("round %d is the last applied, want %d", n, before+1)
	}
}

// After a failure nothing is checkpointed, and the next start replays all.
func TestNoCheckpointAfterAFailure(t *testing.T) {
	disk := crashfs.New()
	l, _ := open(t, disk, wal.Options{})
	all := write(t, l, 0, 5)
	l.Settle()
	l.Fail(syscall.EIO)
	if err := l.Checkpoint(l.Applied()); !errors.Is(err, syscall.EIO) {
		t.Errorf("a checkpoint after a failure: %v", err)
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if r := reopen(t, disk); !slices.Equal(r.replayed, all) {
		t.Errorf("%d of %d entries are replayed", len(r.replayed), len(all))
	}
}

// A file is taken into its next life while it still holds, behind a hole, a round that
// was never synced. If the power goes before it has its new header, that is no damage:
// all that was promised of it is checkpointed.
func TestPowerCutBetweenTwoLivesOfAFile(t *testing.T) {
	left := withoutSecondRound(t)
	l, err := wal.Open(walOptions(left), func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Checkpoint(l.Applied()); err != nil { // the file is used again
		t.Fatal(err)
	}
	var between *crashfs.FS
	left.OnOp(nil, func(op crashfs.Op) {
		if op.Kind == crashfs.Rename && between == nil {
			between = left.Clone(crashfs.CloneConfig{Keep: 100})
		}
	})
	s := trace{make(chan string, 100)}
	stageStrict(t, l, s, "later")
	for e := range s.events {
		if e == "done later" {
			break
		}
	}
	left.OnOp(nil, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if between == nil {
		t.Fatal("no file was taken into its next life")
	}
	if r := reopen(t, between); len(r.damage) > 0 || len(r.replayed) > 0 {
		t.Errorf("after the power cut %q is replayed, and reported: %+v", r.replayed, r.damage)
	}
}
