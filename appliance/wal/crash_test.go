package wal_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

var crashSeeds = flag.Uint64("crash.seeds", 1, "how many seeded workloads the crash tests run")

func TestMain(m *testing.M) {
	// Thousands of recoveries of small disks: much of their time would go to the
	// garbage collector and its profile.
	runtime.MemProfileRate = 0
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// journal is a log on a crashing disk, a scripted workload, and what was promised.
type journal struct {
	t   *testing.T
	fs  *crashfs.FS
	rnd *rand.Rand
	log *wal.Log

	tolerant bool // an error was injected

	mu     sync.Mutex // guards promise
	staged []string   // all entries, in order
	ends   map[int]bool
	promise
}

// promise is in numbers of entries: how many are acknowledged, and up to which
// checkpoints were begun and the last was finished.
type promise struct {
	acked, finished int
	begun           []int
}

func (j *journal) Commit([]byte)                   {}
func (j *journal) Apply([]byte, wal.Context) error { return nil }

// Done counts: entries are completed in order.
func (j *journal) Done(_ []byte, tag any, err error) {
	if err == nil {
		j.mu.Lock()
		j.acked++
		j.mu.Unlock()
	}
	if done, ok := tag.(chan error); ok {
		done <- err
	}
}

func walOptions(disk *crashfs.FS) wal.Options {
	return wal.Options{FS: disk, Dir: "wal", FileBytes: 64 << 10, MaxFiles: 8}
}

// open opens the log as its owner would: what is replayed is brought to its place
// and checkpointed.
func (j *journal) open() bool {
	l, err := wal.Open(walOptions(j.fs), func([]byte) error { return nil })
	if !j.ok("open", err) {
		return false
	}
	j.log = l
	j.checkpoint()
	return true
}

func (j *journal) ok(what string, err error) bool {
	if err != nil && !j.tolerant {
		j.t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// write commits a group of n entries of about size bytes each.
func (j *journal) write(n, size int) {
	var group []string
	bytes := 0
	for i := range n {
		e := fmt.Sprintf("%d %s", len(j.staged)+i, strings.Repeat("x", j.rnd.IntN(size)))
		group, bytes = append(group, e), bytes+len(e)
	}
	if !j.ok("begin", j.log.Begin(n, bytes)) {
		return
	}
	done := make(chan error, 1)
	j.mu.Lock()
	for i, e := range group {
		var tag any
		if i == n-1 {
			tag = done
		}
		copy(j.log.Add(len(e), j, tag), e)
	}
	j.staged = append(j.staged, group...)
	j.ends[len(j.staged)] = true
	j.mu.Unlock()
	j.log.End()
	j.ok("write", <-done)
}

// mark is a place that a checkpoint may name: all before it is acknowledged.
type mark struct {
	seq     uint64
	entries int
	ok      bool
}

func (j *journal) mark() mark {
	j.log.Settle()
	j.mu.Lock()
	defer j.mu.Unlock()
	// After an injected error only the replay knows whether the last group is there.
	return mark{j.log.Applied(), len(j.staged), j.acked == len(j.staged) || !j.tolerant}
}

func (j *journal) checkpoint() { j.checkpointAt(j.mark()) }

func (j *journal) checkpointAt(m mark) {
	if !m.ok {
		return
	}
	j.mu.Lock()
	j.begun = append(j.begun, m.entries)
	j.mu.Unlock()
	if j.ok("checkpoint", j.log.Checkpoint(m.seq)) {
		j.mu.Lock()
		j.finished = m.entries
		j.mu.Unlock()
	}
}

func (j *journal) run() {
	if !j.open() {
		return
	}
	for round := range 4 {
		for range 3 {
			j.write(1, 3000)
		}
		j.write(3, 2000)
		if round%2 == 1 {
			j.checkpoint()
		}
		before := j.mark()
		for range 12 {
			j.write(1, 12_000)
		}
		j.checkpointAt(before) // what came after must stay
		j.write(2, 6000)
		if round == 1 {
			if j.ok("close", j.log.Close()); j.tolerant || !j.open() {
				return
			}
		}
	}
	j.ok("close", j.log.Close())
}

func (j *journal) cut(o crashfs.Outcome, op crashfs.Op, rnd *rand.Rand) (*crashfs.FS, promise) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return o.Of(j.fs, op, rnd), j.promise
}

// check opens what a cut left: what is replayed is a run of the entries, whole
// groups, that starts at a checkpoint and reaches what was acknowledged.
func (j *journal) check(disk *crashfs.FS, p promise) (*wal.Log, []string, error) {
	var got []string
	l, err := wal.Open(walOptions(disk), func(e []byte) error { got = append(got, string(e)); return nil })
	if err != nil {
		return nil, nil, err
	}
	if err := j.compare(got, p); err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, got, nil
}

func (j *journal) compare(got []string, p promise) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := p.finished
	if len(got) > 0 {
		if _, err := fmt.Sscanf(got[0], "%d", &first); err != nil {
			return err
		}
	}
	end := first + len(got)
	if len(got) == 0 && slices.Contains(p.begun, p.acked) {
		return nil // a begun checkpoint that took effect before anything followed
	}
	known := first == p.finished || slices.Contains(p.begun, first)
	if !known || first < p.finished || end < p.acked || end > len(j.staged) || len(got) > 0 && !j.ends[end] {
		return fmt.Errorf("entries %d to %d are replayed, acknowledged %d, checkpoints %d and %d", first, end, p.acked, p.finished, p.begun)
	}
	for i, e := range got {
		if e != j.staged[first+i] {
			return fmt.Errorf("entry %d is %.20q, want %.20q", first+i, e, j.staged[first+i])
		}
	}
	return nil
}

// crash checks one cut; with deep set also cuts in its recovery and life after it.
func (j *journal) crash(disk *crashfs.FS, p promise, deep bool, rnd *rand.Rand) error {
	var inner error
	if deep {
		disk.OnOp(nil, func(op crashfs.Op) {
			if inner != nil || !op.Changes() {
				return
			}
			all := crashfs.Outcomes(op, rnd)
			o := all[rnd.IntN(len(all))]
			l, _, err := j.check(o.Of(disk, op, rnd), p)
			if err == nil {
				err = l.Close()
			}
			if err != nil {
				inner = fmt.Errorf("cut in the recovery, after %s, %s: %w", op, o, err)
			}
		})
		defer disk.OnOp(nil, nil)
	}
	l, got, err := j.check(disk, p)
	if err = errors.Join(err, inner); err != nil {
		return err
	}
	defer l.Close()
	if !deep {
		return nil
	}
	disk.OnOp(nil, nil)
	s := newSink()
	if err := stage(l, s, "after"); err != nil {
		return err
	}
	if err := <-s.ch; err != nil {
		return err
	}
	var again []string
	l2, err := wal.Open(walOptions(disk.Clone(crashfs.CloneConfig{})), func(e []byte) error { again = append(again, string(e)); return nil })
	if err != nil {
		return fmt.Errorf("second cut: %w", err)
	}
	if len(again) != len(got)+1 || again[len(got)] != "after" {
		err = fmt.Errorf("second cut: %d entries are replayed, want %d and one more", len(again), len(got))
	}
	return errors.Join(err, l2.Close())
}

func newJournal(t *testing.T, seed uint64) *journal {
	return &journal{t: t, fs: crashfs.New(), rnd: rand.New(rand.NewPCG(seed, 0)), ends: map[int]bool{0: true}}
}

func TestPowerCutAfterEveryOperation(t *testing.T) {
	t.Parallel()
	for seed := range *crashSeeds {
		j := newJournal(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		cuts := 0
		var hookMu sync.Mutex
		j.fs.OnOp(nil, func(op crashfs.Op) {
			hookMu.Lock()
			defer hookMu.Unlock()
			if !op.Changes() || t.Failed() {
				return
			}
			for _, o := range crashfs.Outcomes(op, rnd) {
				disk, p := j.cut(o, op, rnd)
				cuts++
				if err := j.crash(disk, p, rnd.IntN(6) == 0, rnd); err != nil {
					t.Errorf("seed %d, cut after %s, %s: %v", seed, op, o, err)
				}
			}
		})
		j.run()
		j.fs.OnOp(nil, nil)
		if n := j.fs.OpenFiles(); n != 0 {
			t.Errorf("seed %d: %d files open after Close", seed, n)
		}
		t.Logf("seed %d: %d cuts, %d entries", seed, cuts, len(j.staged))
	}
}

func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	for at := 0; !t.Failed(); at++ {
		j := newJournal(t, 0)
		rnd := rand.New(rand.NewPCG(uint64(at), 2))
		var failed *crashfs.Op
		acksThen, full := 0, false
		j.fs.OnOp(func(op crashfs.Op) error {
			if op.Index != at {
				return nil
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			failed, acksThen, j.tolerant = &op, j.acked, true
			if op.Kind == crashfs.Write && rnd.IntN(2) == 0 {
				full = true
				return crashfs.ShortWrite{Len: rnd.IntN(op.Len + 1), Err: syscall.ENOSPC}
			}
			return syscall.EIO
		}, nil)
		j.run()
		j.fs.OnOp(nil, nil)
		if failed == nil {
			break
		}
		// A file that there is no room for is none of those that hold anything.
		harmless := failed.Kind == crashfs.Remove || full && strings.HasSuffix(failed.Name, ".new")
		if failed.Changes() && !harmless && j.acked != acksThen {
			t.Errorf("%d acks after %s failed", j.acked-acksThen, failed)
		}
		for _, keep := range []int{0, 50, 100, -1} {
			disk, p := j.cut(crashfs.Outcome{Keep: keep, Prefix: -1}, *failed, rnd)
			if err := j.crash(disk, p, rnd.IntN(2) == 0, rnd); err != nil {
				t.Errorf("%s failed, keep %d: %v", failed, keep, err)
			}
		}
		if j.log != nil {
			j.log.Close()
		}
	}
}
