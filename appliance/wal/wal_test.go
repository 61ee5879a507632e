package wal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// sink collects what the log applies and completes.
type sink struct {
	mu      sync.Mutex
	applied []string
	ch      chan error
}

func newSink() *sink { return &sink{ch: make(chan error, 10_000)} }

func (s *sink) Commit([]byte) {}

func (s *sink) Apply(e []byte, _ wal.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = append(s.applied, string(e))
	return nil
}

func (s *sink) Done(_ []byte, _ any, err error) { s.ch <- err }

func stage(l *wal.Log, s *sink, e string) error {
	if err := l.Begin(1, len(e)); err != nil {
		return err
	}
	copy(l.Add(len(e), s, nil), e)
	l.End()
	return nil
}

func open(t testing.TB, fs vfs.FS, o wal.Options) (*wal.Log, []string) {
	t.Helper()
	o.FS, o.Dir = fs, "wal"
	if o.FileBytes == 0 {
		o.FileBytes = 64 << 10
	}
	var replayed []string
	l, err := wal.Open(o, func(e []byte) error { replayed = append(replayed, string(e)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, replayed
}

func write(t testing.TB, l *wal.Log, from, to int) (all []string) {
	t.Helper()
	s := newSink()
	for i := from; i < to; i++ {
		e := fmt.Sprintf("entry %d %0*d", i, i%3000, 0)
		all = append(all, e)
		if err := stage(l, s, e); err != nil {
			t.Fatal(err)
		}
		if err := <-s.ch; err != nil {
			t.Fatal(err)
		}
	}
	l.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.applied, all) {
		t.Fatal("applied something else than was staged")
	}
	return all
}

func TestReplayIsWhatWasCommittedSinceTheCheckpoint(t *testing.T) {
	fs := vfs.OS(t.TempDir())
	l, replayed := open(t, fs, wal.Options{})
	if replayed != nil {
		t.Fatal(replayed)
	}
	all := write(t, l, 0, 50)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // a replay that is not checkpointed comes again
		l, replayed = open(t, fs, wal.Options{})
		if !slices.Equal(replayed, all) {
			t.Fatalf("replayed %d entries, want %d", len(replayed), len(all))
		}
		l.Close()
	}
	l, _ = open(t, fs, wal.Options{})
	if err := checkpoint(l); err != nil {
		t.Fatal(err)
	}
	tail := write(t, l, 50, 80)
	l.Close()
	if _, replayed = open(t, fs, wal.Options{}); !slices.Equal(replayed, tail) {
		t.Fatalf("replayed %d entries, want the %d since the checkpoint", len(replayed), len(tail))
	}
}

func TestRingIsRecycled(t *testing.T) {
	fs := vfs.OS(t.TempDir())
	l, _ := open(t, fs, wal.Options{MaxFiles: 3})
	var last []string
	for i := range 30 {
		last = write(t, l, i*20, i*20+20)
		if err := checkpoint(l); err != nil {
			t.Fatal(err)
		}
	}
	names, _ := fs.List("wal")
	if len(names) > 4 {
		t.Fatalf("%d files in a ring of 3: %v", len(names)-1, names)
	}
	last = append(last[:0:0], write(t, l, 0, 10)...)
	l.Close()
	if _, replayed := open(t, fs, wal.Options{MaxFiles: 3}); !slices.Equal(replayed, last) {
		t.Fatalf("replayed %d entries, want %d", len(replayed), len(last))
	}
}

// A checkpoint that lags behind another would bring back what was used again since.
func TestCheckpointsDoNotGoBack(t *testing.T) {
	l, err := wal.Open(wal.Options{FS: vfs.OS(t.TempDir()), Dir: "wal", FileBytes: 64 << 10}, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newSink()
	for range 3 {
		if err := stage(l, s, "entry"); err != nil {
			t.Fatal(err)
		}
		if err := <-s.ch; err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Checkpoint(2); err != nil {
		t.Fatal(err)
	}
	if err := l.Checkpoint(1); err == nil {
		t.Error("a checkpoint went back")
	}
	if err := l.Checkpoint(2); err != nil {
		t.Error(err)
	}
}

func TestGroupIsOneRound(t *testing.T) {
	l, _ := open(t, crashfs.New(), wal.Options{})
	s := newSink()
	if err := l.Begin(3, 6); err != nil {
		t.Fatal(err)
	}
	for _, e := range []string{"aa", "bb", "cc"} {
		copy(l.Add(2, s, nil), e)
	}
	l.End()
	for range 3 {
		if err := <-s.ch; err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Stats().Rounds.Load(); n != 1 {
		t.Fatalf("%d rounds", n)
	}
}

func TestFailedSyncIsNeverAnAck(t *testing.T) {
	fs := crashfs.New()
	l, _ := open(t, fs, wal.Options{})
	write(t, l, 0, 3)
	broken := errors.New("broken disk")
	fs.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			return broken
		}
		return nil
	}, nil)
	s := newSink()
	if err := stage(l, s, "x"); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ch; !errors.Is(err, broken) {
		t.Fatalf("acknowledged with %v", err)
	}
	fs.OnOp(nil, nil) // the disk seems to work again; that proves nothing
	<-l.Failed()
	if err := stage(l, s, "y"); !errors.Is(err, broken) {
		t.Fatalf("accepted after a failure: %v", err)
	}
	if s.applied != nil {
		t.Fatal("applied what is not durable")
	}
}

func TestLingerSharesRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, crashfs.New(), wal.Options{Linger: 20 * time.Millisecond, LingerWaiters: 8})
		defer l.Close()
		s := newSink()
		send := func(n int) {
			for range n {
				if err := stage(l, s, "e"); err != nil {
					t.Error(err)
				}
			}
		}
		rounds := func(want uint64) {
			t.Helper()
			synctest.Wait()
			if n := l.Stats().Rounds.Load(); n != want {
				t.Fatalf("%d rounds, want %d", n, want)
			}
		}
		time.Sleep(time.Second)
		send(1)
		rounds(1) // an idle box does not wait
		send(1)
		time.Sleep(19 * time.Millisecond)
		send(1)
		rounds(1)
		time.Sleep(time.Millisecond)
		rounds(2)
		send(8)
		rounds(3) // enough waiters end the linger
	})
}

func TestBeginRefusesWhatFitsNoFile(t *testing.T) {
	l, _ := open(t, crashfs.New(), wal.Options{})
	if err := l.Begin(1, 64<<10); err == nil {
		t.Fatal("accepted")
	}
	if err := stage(l, newSink(), string(make([]byte, 40<<10))); err != nil {
		t.Fatal(err) // larger than a round, smaller than a file
	}
}

func TestClosedLogRefuses(t *testing.T) {
	l, _ := open(t, crashfs.New(), wal.Options{})
	s := newSink()
	stage(l, s, "staged before")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ch; err != nil {
		t.Fatal("lost what was staged before Close:", err)
	}
	if err := stage(l, s, "x"); !errors.Is(err, wal.ErrClosed) {
		t.Fatal(err)
	}
}

// FuzzOpen damages a log's files in any way: Open replays, in order, a part of what
// was committed, and says when it is not all but the end; it never makes entries up.
func FuzzOpen(f *testing.F) {
	fs := crashfs.New()
	l, _ := open(f, fs, wal.Options{})
	all := write(f, l, 0, 12)
	l.Close()
	const name = "wal/00000000000000000001.wal"
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(4096), []byte("WRND"))
	f.Add(uint16(4096+24), binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Add(uint16(8192), make([]byte, 9000))
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		clone := fs.Clone(crashfs.CloneConfig{})
		w, err := clone.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(patch, int64(at)); err != nil {
			t.Fatal(err)
		}
		w.Close()
		var got []string
		told := false
		l, err := wal.Open(wal.Options{FS: clone, Dir: "wal", FileBytes: 64 << 10, Damaged: func(wal.Damage) { told = true }},
			func(e []byte) error { got = append(got, string(e)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if !isPart(got, all) || !told && !slices.Equal(got, all[:len(got)]) {
			t.Fatalf("replayed %d entries that are no part of the %d committed; damage reported: %v", len(got), len(all), told)
		}
	})
}

// follow notes what Apply is told of the entry that comes next.
type follow struct {
	seen []string
	ch   chan error
}

func (f *follow) Apply(e []byte, in wal.Context) error {
	f.seen = append(f.seen, fmt.Sprintf("%s %t", e, in.More))
	return nil
}

func (f *follow) Commit([]byte)                   {}
func (f *follow) Done(_ []byte, _ any, err error) { f.ch <- err }

func TestApplyIsToldWhetherMoreComes(t *testing.T) {
	l, _ := open(t, vfs.OS(t.TempDir()), wal.Options{})
	a, b := &follow{ch: make(chan error, 9)}, &follow{ch: make(chan error, 9)}
	group := []*follow{a, a, b, a, b, b}
	if err := l.Begin(len(group), len(group)); err != nil {
		t.Fatal(err)
	}
	for i, s := range group {
		copy(l.Add(1, s, nil), fmt.Sprint(i))
	}
	l.End()
	for _, s := range group {
		if err := <-s.ch; err != nil {
			t.Fatal(err)
		}
	}
	l.Settle()
	if want := []string{"0 true", "1 false", "3 false"}; !slices.Equal(a.seen, want) {
		t.Errorf("first sink: %q, want %q", a.seen, want)
	}
	if want := []string{"2 false", "4 true", "5 false"}; !slices.Equal(b.seen, want) {
		t.Errorf("second sink: %q, want %q", b.seen, want)
	}
}

// checkpoint claims that all that was staged stands in its place.
func checkpoint(l *wal.Log) error {
	l.Settle()
	return l.Checkpoint(l.Applied())
}

// A round that lingers goes after Linger if it fills a block of the disk, and waits
// for more until BlockLinger if it does not.
func TestRoundsWaitForAFullBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, crashfs.New(), wal.Options{Linger: 20 * time.Millisecond, BlockLinger: 100 * time.Millisecond})
		s := newSink()
		commit := func(entries ...int) time.Duration {
			t.Helper()
			start := time.Now()
			for _, n := range entries {
				if err := stage(l, s, strings.Repeat("x", n)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			for range entries {
				if err := <-s.ch; err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(start)
		}
		commit(10) // the box was idle
		if d := commit(10); d != 100*time.Millisecond {
			t.Errorf("one small entry waited %v, want 100 ms", d)
		}
		if d := commit(5000); d != 20*time.Millisecond {
			t.Errorf("more than a block waited %v, want 20 ms", d)
		}
		if d := commit(700, 700, 700, 700, 700, 700); d != 30*time.Millisecond {
			t.Errorf("a block that was full after 25 ms waited until %v", d)
		}
	})
}
