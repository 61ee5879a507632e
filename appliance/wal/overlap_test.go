package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// overlapping is a log whose syncs of rounds wait to be released, and may fail.
type overlapping struct {
	*wal.Log
	disk    *crashfs.FS
	s       trace
	syncing chan struct{} // a sync has begun
	release chan error    // its outcome
}

// overlap opens the log in a bubble, with one round of it synced.
func overlap(t *testing.T) *overlapping {
	o := &overlapping{disk: crashfs.New(), s: trace{make(chan string, 100)}, syncing: make(chan struct{}, 10), release: make(chan error)}
	options := walOptions(o.disk)
	options.OverlapBytes = 1 << 10
	l, err := wal.Open(options, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	o.Log = l
	stageStrict(t, l, o.s, "first")
	o.s.next(t, "commit first", "done first", "apply first")
	o.disk.OnOp(func(op crashfs.Op) error {
		if op.Kind != crashfs.Sync {
			return nil
		}
		o.syncing <- struct{}{}
		return <-o.release
	}, nil)
	return o
}

// stage stages an entry and waits until the log has come to rest.
func (o *overlapping) stage(t *testing.T, e string) {
	t.Helper()
	stageStrict(t, o.Log, o.s, e)
	synctest.Wait()
}

// close lets all syncs be.
func (o *overlapping) close(t *testing.T) error {
	o.disk.OnOp(nil, nil)
	return o.Log.Close()
}

// written is how the entries begin that a kill would leave.
func (o *overlapping) written(t *testing.T) []string {
	return replayed(t, o.disk.Clone(crashfs.CloneConfig{Keep: 100}))
}

var large = "large     " + strings.Repeat("x", 8<<10)

// A round that is large is written while the one before it is synced; nobody is told
// of either before the syncs are done, and a sync that began before it was written
// does not count for it.
func TestLargeRoundIsWrittenDuringASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := overlap(t)
		o.stage(t, "small")
		<-o.syncing
		o.stage(t, "company")
		if got := o.written(t); !slices.Equal(got, []string{"first", "small"}) {
			t.Errorf("during the sync %q are written: a small round must wait", got)
		}
		o.stage(t, large)
		if got := o.written(t); !slices.Equal(got, []string{"first", "small", "company", large[:10]}) {
			t.Errorf("during the sync %q are written", got)
		}
		if n := len(o.s.events); n != 0 {
			t.Fatalf("%d events before the sync is done, the first %.20q", n, <-o.s.events)
		}
		o.release <- nil
		synctest.Wait()
		o.s.next(t, "commit small", "done small", "apply small")
		if n := len(o.s.events); n != 0 {
			t.Fatalf("%d events of the second round before its sync, the first %.20q", n, <-o.s.events)
		}
		<-o.syncing
		o.release <- nil
		synctest.Wait()
		o.s.next(t, "commit company", "commit "+large, "done company", "done "+large, "apply company", "apply "+large)
		if err := o.close(t); err != nil {
			t.Error(err)
		}
	})
}

// A round that is smaller than the one being synced waits, though it is large:
// otherwise the rounds of a busy box would be many and small.
func TestRoundWaitsUntilItIsAsLargeAsTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := overlap(t)
		o.stage(t, large)
		<-o.syncing
		o.stage(t, "half      "+large[:4<<10])
		if got := o.written(t); len(got) != 2 {
			t.Errorf("during the sync %q are written", got)
		}
		o.stage(t, "rest      "+large)
		if got := o.written(t); len(got) != 4 {
			t.Errorf("during the sync %q are written, want all", got)
		}
		o.disk.OnOp(nil, nil)
		o.release <- nil
		if err := o.close(t); err != nil {
			t.Error(err)
		}
	})
}

// A sync that fails says nothing of what was written since, which is not tried again.
func TestOverlappedRoundFailsWithTheSyncBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := overlap(t)
		s := newSink()
		for _, e := range []string{"small", large} {
			if err := stage(o.Log, s, e); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		<-o.syncing
		o.release <- syscall.EIO
		synctest.Wait()
		if n := len(o.syncing); n != 0 {
			t.Errorf("%d syncs after one that failed", n)
			o.release <- nil
		}
		for range 2 {
			if err := <-s.ch; !errors.Is(err, syscall.EIO) {
				t.Errorf("an entry got %v, want EIO", err)
			}
		}
		if err := o.close(t); !errors.Is(err, syscall.EIO) {
			t.Errorf("Close: %v, want EIO", err)
		}
	})
}

// A power cut during overlapping syncs takes any part of either round. What is left
// is how the log began, and never less than was acknowledged.
func TestPowerCutWhileRoundsOverlap(t *testing.T) {
	const writers, each = 4, 12
	cuts := 0
	for seed := range 3 * *crashSeeds {
		disk, rnd := crashfs.New(), rand.New(rand.NewPCG(seed, 4))
		options := walOptions(disk)
		options.OverlapBytes = 1
		l, err := wal.Open(options, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		j := &journal{t: t}
		var mu sync.Mutex
		disk.OnOp(nil, func(op crashfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			if !op.Changes() || t.Failed() {
				return
			}
			for _, cfg := range []crashfs.CloneConfig{{}, {Keep: 50, Torn: 30, Rand: rnd}, {Keep: 80, Rand: rnd}} {
				j.mu.Lock()
				left, acked, staged := disk.Clone(cfg), j.acked, slices.Clone(j.staged)
				j.mu.Unlock()
				cuts++
				if err := prefix(left, acked, staged); err != nil {
					t.Errorf("seed %d, cut after %s: %v", seed, op, err)
				}
			}
		})
		var running sync.WaitGroup
		for w := range writers {
			sizes := rand.New(rand.NewPCG(seed, uint64(10+w)))
			running.Go(func() {
				for range each {
					if err := j.append(l, w, sizes.IntN(9<<10)); err != nil {
						t.Error(err)
						return
					}
					if w == 0 && sizes.IntN(4) == 0 {
						l.Settle()
					}
				}
			})
		}
		running.Wait()
		disk.OnOp(nil, nil)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d cuts", cuts)
}

// append stages an entry in the order of staged, and does not wait for it if it is odd.
func (j *journal) append(l *wal.Log, writer, size int) error {
	done := make(chan error, 1)
	if err := l.Begin(1, size+20); err != nil {
		return err
	}
	j.mu.Lock()
	e := fmt.Sprintf("%-20d", len(j.staged)) + strings.Repeat("y", size)
	copy(l.Add(len(e), j, done), e)
	j.staged = append(j.staged, e)
	j.mu.Unlock()
	l.End()
	if writer%2 == 1 {
		return nil
	}
	return <-done
}

func prefix(disk *crashfs.FS, acked int, staged []string) error {
	var got []string
	l, err := wal.Open(walOptions(disk), func(e []byte) error { got = append(got, string(e)); return nil })
	if err != nil {
		return err
	}
	if len(got) < acked || len(got) > len(staged) || !slices.Equal(got, staged[:len(got)]) {
		err = fmt.Errorf("%d entries are replayed, acknowledged %d of %d", len(got), acked, len(staged))
	}
	return errors.Join(err, l.Close())
}
