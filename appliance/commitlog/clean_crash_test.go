package commitlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// cleanRun is a log that is cleaned twice, with tombstones going the second time.
// What was appended since the last checkpoint is in a perfect write-ahead log.
type cleanRun struct {
	*kept
	redo      []placedBatch
	appending bool // what is being appended is not in redo yet
}

type placedBatch struct {
	at commitlog.Position
	b  record.Batch
}

func newCleanRun(t testing.TB, seed uint64) *cleanRun {
	r := &cleanRun{kept: newKept(t, seed)}
	r.segment = 3000
	for range 50 {
		r.batch(1+r.rnd.IntN(5), 8)
	}
	if err := r.log.Sync(); err != nil {
		t.Fatal(err)
	}
	return r
}

// append appends what no checkpoint covers.
func (r *cleanRun) append(n int) {
	r.appending = true
	defer func() { r.appending = false }()
	for range n {
		next := r.next
		r.batch(2, 8)
		at := r.at
		at.Byte -= int64(len(r.raw[next]))
		r.redo = append(r.redo, placedBatch{at, r.raw[next]})
	}
}

// run cleans up to the active segment of the last checkpoint.
func (r *cleanRun) run() error {
	var c commitlog.Cleaner
	for i := range 2 {
		o := r.cleaning()
		r.append(5 * i)
		done, err := c.Clean(r.log, o)
		if err != nil {
			return err
		}
		r.dirty = done.Dirty
		r.now += 2 * deleteRetention
		if err := r.log.Sync(); err != nil {
			return err
		}
		r.redo = nil
	}
	return r.log.Close()
}

// recover does after a crash what the owner of the log does, checks it, and cleans.
func (r *cleanRun) recover(disk *crashfs.FS, clean bool) error {
	o := r.opts
	o.FS = vfs.NewPool(disk, 3)
	if len(r.redo) > 0 {
		redo, err := commitlog.NewRedo(o)
		if err != nil {
			return err
		}
		for _, p := range r.redo {
			if err := redo.Write(p.at, p.b); err != nil {
				redo.Abandon()
				return err
			}
		}
		if err := redo.Finish(0, nil); err != nil {
			return err
		}
		o.Redo = redo
	}
	l, err := commitlog.Open(o)
	if err != nil {
		return err
	}
	err = r.check(l, 0)
	if err == nil && clean {
		var c commitlog.Cleaner
		again := r.cleaning()
		again.Dirty = 0
		if _, err = c.Clean(l, again); err == nil {
			err = r.check(l, again.Until)
		}
	}
	return errors.Join(err, l.Close())
}

func (r *cleanRun) crash(keep int, rnd *rand.Rand) error {
	disk := r.fs.Killed()
	if keep >= 0 {
		disk = r.fs.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd})
	}
	var inner error
	deep := rnd.IntN(8) == 0
	if deep {
		disk.OnOp(nil, func(op crashfs.Op) {
			if inner != nil || !op.Changes() {
				return
			}
			again := disk.Clone(crashfs.CloneConfig{Keep: []int{0, 50, 100}[rnd.IntN(3)], Torn: 30, Rand: rnd})
			if err := r.recover(again, false); err != nil {
				inner = fmt.Errorf("cut in the recovery, after %s: %w", op, err)
			}
		})
	}
	err := errors.Join(r.recover(disk, !deep && rnd.IntN(4) == 0), inner)
	disk.OnOp(nil, nil)
	if n := disk.OpenFiles(); err == nil && n != 0 {
		err = fmt.Errorf("%d files open", n)
	}
	return err
}

// A power cut after every operation of two cleanings leaves the old segments or the
// new ones: the last record of every key, and nothing that a tombstone had deleted.
func TestPowerCutAfterEveryOperationOfCleaning(t *testing.T) {
	for seed := range uint64(2) {
		r := newCleanRun(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 3))
		cuts := 0
		r.fs.OnOp(nil, func(op crashfs.Op) {
			if !op.Changes() || t.Failed() || r.appending {
				return
			}
			for _, keep := range []int{0, 25, 50, 75, 100, -1} {
				cuts++
				if err := r.crash(keep, rnd); err != nil {
					t.Errorf("seed %d, cut after %s, keep %d: %v", seed, op, keep, err)
				}
			}
		})
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		r.fs.OnOp(nil, nil)
		t.Logf("seed %d: %d cuts", seed, cuts)
	}
}

// Whatever operation of a cleaning fails, the log goes on as it is, and after the
// next start as well.
func TestErrorAtEveryOperationOfCleaning(t *testing.T) {
	for at := 1; !t.Failed(); at++ {
		r := newCleanRun(t, 1)
		rnd := rand.New(rand.NewPCG(uint64(at), 4))
		o := r.cleaning()
		var failed *crashfs.Op
		count := 0
		r.fs.OnOp(func(op crashfs.Op) error {
			if count++; count != at {
				return nil
			}
			failed = &op
			if op.Kind == crashfs.Write && rnd.IntN(2) == 0 {
				return crashfs.ShortWrite{Len: rnd.IntN(op.Len + 1), Err: syscall.ENOSPC}
			}
			return syscall.EIO
		}, nil)
		var c commitlog.Cleaner
		_, err := c.Clean(r.log, o)
		r.fs.OnOp(nil, nil)
		if failed == nil {
			break
		}
		if err == nil && failed.Kind != crashfs.Size && failed.Kind != crashfs.Read {
			t.Logf("%s failed, and the cleaning did not notice", failed)
		}
		if _, again := c.Clean(r.log, o); err == nil && again != nil {
			t.Errorf("%s failed: the next cleaning: %v", failed, again)
		}
		r.append(2)
		if err := r.check(r.log, 0); err != nil {
			t.Errorf("%s failed: %v", failed, err)
		}
		for _, keep := range []int{0, 50, 100, -1} {
			if err := r.crash(keep, rnd); err != nil {
				t.Errorf("%s failed, keep %d: %v", failed, keep, err)
			}
		}
		if err := r.log.Close(); err != nil {
			t.Errorf("%s failed: close: %v", failed, err)
		}
		if n := r.fs.OpenFiles(); n != 0 {
			t.Errorf("%s failed: %d files open", failed, n)
		}
	}
}
