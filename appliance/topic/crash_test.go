package topic_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirmq/weir/testbed/crashfs"
)

var (
	crashSeed  = flag.Uint64("crash.seed", 0, "the first seed of the crash tests' workloads")
	crashSeeds = flag.Uint64("crash.seeds", 1, "how many seeded workloads the crash tests run")
	crashFull  = flag.Bool("crash.full", false, "crash tests: every operation with every outcome, not a sample")
	crashMin   = flag.Int64("crash.min", 1000, "crash tests: how many disks must have been recovered at the least")
)

func TestMain(m *testing.M) {
	// Thousands of recoveries of small disks: most of their time would go to the
	// garbage collector and its profile.
	runtime.MemProfileRate = 0
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// court recovers disks that power cuts left, as many at a time as there are
// processors, and counts them.
type court struct {
	t       *testing.T
	free    chan struct{}
	pending sync.WaitGroup
	cases   atomic.Int64
	failed  atomic.Int32
}

const maxFailures = 4 // that are reported

func newCourt(t *testing.T) *court {
	return &court{t: t, free: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

func (c *court) over() bool { return c.failed.Load() >= maxFailures }

func (c *court) fail(format string, args ...any) {
	if c.failed.Add(1) <= maxFailures {
		c.t.Errorf(format, args...)
	}
}

// try runs a trial as soon as a processor is free.
func (c *court) try(trial func()) {
	c.free <- struct{}{}
	c.pending.Go(func() {
		defer func() { <-c.free }()
		trial()
	})
}

// crash checks one power cut, with deep set also cuts in the recovery from it and
// the life after it.
func (c *court) crash(w *world, disk *crashfs.FS, s snapshot, deep bool, rnd *rand.Rand) error {
	c.cases.Add(1)
	var inRecovery error
	if deep {
		var mu sync.Mutex // partitions are recovered at the same time
		disk.OnOp(nil, func(op crashfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			if inRecovery == nil && op.Changes() {
				inRecovery = c.recovering(w, disk, s, op, rnd)
			}
		})
	}
	set, err := w.reopen(disk, s)
	disk.OnOp(nil, nil)
	if err == nil && inRecovery != nil {
		err = set.Close()
	}
	if err = errors.Join(inRecovery, err); err != nil {
		return err
	}
	if deep {
		c.cases.Add(1)
		err = w.goOn(disk, set, s, rnd)
	}
	if err = errors.Join(err, set.Close()); err == nil && deep {
		c.cases.Add(1)
		err = s.restore(disk)
	}
	return err
}

// recovering is a power cut in the recovery, after op.
func (c *court) recovering(w *world, disk *crashfs.FS, s snapshot, op crashfs.Op, rnd *rand.Rand) error {
	c.cases.Add(1)
	s.catalog = maps.Clone(s.catalog)
	all := crashfs.Outcomes(op, rnd)
	o := all[rnd.IntN(len(all))]
	set, err := w.reopen(o.Of(disk, op, rnd), s)
	if err == nil {
		err = set.Close()
	}
	if err != nil {
		return fmt.Errorf("power cut in the recovery, after %s, %s: %w", op, o, err)
	}
	return nil
}

// A power cut after every operation of the workload, and inside every write,
// whatever it leaves of what was not synced: all that was acknowledged or could be
// read is there, at its offset, once.
func TestPowerCutAfterEveryOperation(t *testing.T) {
	c := newCourt(t)
	for seed := *crashSeed; seed < *crashSeed+*crashSeeds && !t.Failed(); seed++ {
		w := newWorld(t, seed)
		cuts := 0
		var one sync.Mutex // at a time
		w.after = func(index int, op crashfs.Op) {
			if !op.Changes() || c.over() {
				return
			}
			one.Lock()
			defer one.Unlock()
			rnd := rand.New(rand.NewPCG(seed, uint64(index)))
			all, deep := crashfs.Outcomes(op, rnd), 12
			if !*crashFull {
				at := rnd.IntN(len(all))
				all, deep = all[at:at+1], 40
			}
			for _, o := range all {
				rnd := rand.New(rand.NewPCG(seed, rnd.Uint64()))
				disk, s := w.cut(func(disk *crashfs.FS) *crashfs.FS { return o.Of(disk, op, rnd) })
				s = s.lose(rnd)
				cuts++
				c.try(func() {
					if err := c.crash(w, disk, s, rnd.IntN(deep) == 0, rnd); err != nil {
						c.fail("seed %d, operation %d, cut after %s, %s: %v", seed, index, op, o, err)
					}
				})
			}
		}
		w.run()
		c.pending.Wait()
		w.quiet.Store(true)
		if n := w.fs.OpenFiles(); n != 0 {
			t.Errorf("seed %d: %d files open after Close", seed, n)
		}
		t.Logf("seed %d: %d operations, %d power cuts in the workload, %d disks recovered so far", seed, w.ops.Load(), cuts, c.cases.Load())
	}
	if n := c.cases.Load(); n < *crashMin && !t.Failed() {
		t.Errorf("%d disks recovered, want %d at the least", n, *crashMin)
	}
}

// Whatever operation fails, in whatever way, nothing is acknowledged that a power
// cut then takes, and after a failed sync nothing is acknowledged at all.
func TestErrorAtEveryOperation(t *testing.T) {
	c := newCourt(t)
	runs := atomic.Int64{}
	for seed := *crashSeed; seed < *crashSeed+*crashSeeds; seed++ {
		rnd, stride := rand.New(rand.NewPCG(seed, 2)), 40
		if *crashFull {
			stride = 1
		}
		reached := atomic.Bool{} // by the last error tried
		reached.Store(true)
		for at := 0; reached.Load() && !c.over(); at += 1 + rnd.IntN(stride) {
			for _, f := range faults {
				c.try(func() {
					if !c.fault(newWorld(t, seed), at, f) {
						reached.Store(false)
					}
					runs.Add(1)
				})
				if !*crashFull {
					break
				}
			}
			rnd.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		c.pending.Wait()
	}
	t.Logf("%d workloads with an error, %d disks recovered", runs.Load(), c.cases.Load())
}

// fault is a way in which operations fail.
type fault struct {
	name    string
	err     syscall.Errno
	short   bool // a write writes a part
	forever bool // all operations after it fail too
}

var faults = []fault{
	{"EIO", syscall.EIO, false, false},
	{"ENOSPC in a write", syscall.ENOSPC, true, false},
	{"EIO from then on", syscall.EIO, false, true},
}

// apply is the error of one operation; nil if the fault does not concern it.
func (f fault) apply(op crashfs.Op, rnd *rand.Rand) error {
	if f.err == syscall.ENOSPC {
		switch op.Kind {
		case crashfs.Write, crashfs.Create, crashfs.MkdirAll, crashfs.Rename:
		default:
			return nil
		}
	}
	if f.short && op.Kind == crashfs.Write {
		return crashfs.ShortWrite{Len: rnd.IntN(op.Len + 1), Err: f.err}
	}
	return f.err
}

// fault runs a workload in which operation at fails, and checks what a restart
// finds. It returns false when the workload has fewer operations.
func (c *court) fault(w *world, at int, f fault) bool {
	rnd := rand.New(rand.NewPCG(w.seed, uint64(at)))
	var failed *crashfs.Op
	var guard sync.Mutex
	acksThen, epochThen := 0, int32(0)
	w.before = func(index int, op crashfs.Op) error {
		guard.Lock()
		defer guard.Unlock()
		if index < at || failed != nil && !f.forever {
			return nil
		}
		err := f.apply(op, rnd)
		if err != nil && failed == nil {
			w.mu.Lock()
			failed, acksThen, epochThen = &op, w.acks(), w.epoch.Load()
			w.mu.Unlock()
			w.tolerant.Store(true)
		}
		return err
	}
	w.run()
	w.quiet.Store(true)
	if failed == nil {
		return int(w.ops.Load()) > at
	}
	report := func(err error) { c.fail("seed %d, %s at %d, %s: %v", w.seed, f.name, at, failed, err) }
	if epochThen == w.epoch.Load() {
		if err := w.checkStopped(failed, acksThen, f); err != nil {
			report(err)
		}
	}
	for _, keep := range []int{0, 50, 100, -1} {
		o := crashfs.Outcome{Keep: keep, Prefix: -1}
		disk, s := w.cut(func(disk *crashfs.FS) *crashfs.FS { return o.Of(disk, *failed, rnd) })
		if err := c.crash(w, disk, s.lose(rnd), rnd.IntN(32) == 0, rnd); err != nil {
			report(fmt.Errorf("%s: %w", o, err))
		}
	}
	if set := w.set.Load(); set != nil {
		set.Close()
	}
	return true
}

// checkStopped makes sure that a failed write or sync of the write-ahead log was
// followed by no ack, that a failed sync of anything stopped the set, and that it
// says why. A segment's sync belongs to a checkpoint, beside which a round may
// commit: its entries are durable where they are, but nothing new may be accepted.
func (w *world) checkStopped(op *crashfs.Op, acksThen int, f fault) error {
	set := w.set.Load()
	if set == nil || op.Kind != crashfs.Sync && op.Kind != crashfs.Write {
		return nil
	}
	ofWAL := strings.Contains(op.Name, ".wal") || op.Name == "wal/checkpoint"
	if acks := w.acks(); strings.Contains(op.Name, ".wal") && acks != acksThen {
		return fmt.Errorf("%d acks after it", acks-acksThen)
	}
	if !ofWAL && !(op.Kind == crashfs.Sync && strings.HasSuffix(op.Name, ".log")) {
		return nil
	}
	switch err := set.Err(); {
	case err == nil:
		return errors.New("the set accepts appends after it")
	case !errors.Is(err, f.err):
		return fmt.Errorf("the set stopped with %q, which does not say why", err)
	}
	return nil
}
