package commitlog_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
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

// partition is a log on a crashing disk. Its write-ahead log is perfect: the
// batches from synced on are written again after a crash.
type partition struct {
	fs      *crashfs.FS
	batches []record.Batch
	at      []commitlog.Position

	staged int   // batches that the write-ahead log holds
	synced int   // batches that a Sync has covered
	start  int64 // the log start offset
}

func (p *partition) options(disk *crashfs.FS) commitlog.Options {
	return commitlog.Options{FS: disk, Dir: "p", IndexIntervalBytes: 400}
}

func newPartition(t *testing.T, seed uint64) *partition {
	rnd := rand.New(rand.NewPCG(seed, 0))
	p := &partition{fs: crashfs.New()}
	var at commitlog.Position
	var next int64
	for i := range 60 {
		b, err := record.NewBatch(record.None, record.Record{Timestamp: int64(i), Value: make([]byte, rnd.IntN(5000))}, record.Record{Timestamp: int64(i)})
		if err != nil {
			t.Fatal(err)
		}
		if at.Byte > 30_000 {
			at = commitlog.Position{Segment: next}
		}
		b.SetBaseOffset(next)
		p.batches, p.at = append(p.batches, b), append(p.at, at)
		at.Byte, next = at.Byte+int64(len(b)), b.NextOffset()
	}
	if err := errors.Join(p.fs.MkdirAll("p"), p.fs.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	return p
}

// run writes all batches, with a Sync now and then and the start removed twice.
// It stops at the first error, as the write-ahead log makes its owner do.
func (p *partition) run() (err error) {
	l, err := commitlog.Open(p.options(p.fs))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for i, b := range p.batches {
		p.staged = i + 1
		if err := l.Write(p.at[i], b); err != nil {
			return err
		}
		if i%7 == 6 {
			if err := l.Sync(); err != nil {
				return err
			}
			p.synced = i + 1
		}
		if i == 30 || i == 50 {
			p.start = b.BaseOffset() / 2
			if err := l.RemoveBefore(p.start); err != nil {
				return err
			}
		}
	}
	return nil
}

// recover does after a crash what the owner of the log does, and checks it.
func (p *partition) recover(disk *crashfs.FS) error {
	redo, err := commitlog.NewRedo(p.options(disk))
	if err != nil {
		return err
	}
	for i := p.synced; i < p.staged; i++ {
		if err := redo.Write(p.at[i], p.batches[i]); err != nil {
			redo.Abandon()
			return err
		}
	}
	defer redo.Abandon()
	if err := redo.Finish(p.start, nil); err != nil {
		return err
	}
	o := p.options(disk)
	o.Redo = redo
	l, err := commitlog.Open(o)
	if err != nil {
		return err
	}
	return errors.Join(p.check(l), l.Sync(), l.Close())
}

func (p *partition) check(l *commitlog.Log) error {
	if l.Start() > p.start {
		return fmt.Errorf("starts at %d, records from %d on are wanted", l.Start(), p.start)
	}
	for i, b := range p.batches[:p.staged] {
		if b.LastOffset() < p.start {
			continue
		}
		c, err := l.Read(b.LastOffset(), 1)
		if err != nil {
			return err
		}
		got, err := c.AppendTo(nil)
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return fmt.Errorf("batch %d, at %v, is not what was written: %d bytes, want %d", i, p.at[i], len(got), len(b))
		}
		offset, _, ok, err := l.OffsetForTime(0, b.BaseTimestamp())
		if err != nil || !ok || offset != b.BaseOffset() {
			return fmt.Errorf("batch %d by time: offset %d, %v, %w", i, offset, ok, err)
		}
	}
	want := int64(0)
	if p.staged > 0 {
		want = p.batches[p.staged-1].NextOffset()
	}
	if end, _ := l.End(); end != want {
		return fmt.Errorf("ends at %d, want %d", end, want)
	}
	return nil
}

// crash recovers what a cut left, with cuts in the recovery if deep.
func (p *partition) crash(disk *crashfs.FS, deep bool, rnd *rand.Rand) error {
	var inner error
	if deep {
		disk.OnOp(nil, func(op crashfs.Op) {
			if inner != nil || !op.Changes() {
				return
			}
			all := crashfs.Outcomes(op, rnd)
			o := all[rnd.IntN(len(all))]
			if err := p.recover(o.Of(disk, op, rnd)); err != nil {
				inner = fmt.Errorf("cut in the recovery, after %s, %s: %w", op, o, err)
			}
		})
	}
	err := errors.Join(p.recover(disk), inner)
	disk.OnOp(nil, nil)
	if n := disk.OpenFiles(); err == nil && n != 0 {
		err = fmt.Errorf("%d files open", n)
	}
	if err != nil || !deep {
		return err
	}
	// What a recovery has synced is durable without being written again.
	done := *p
	done.synced = p.staged
	return done.recover(disk.Clone(crashfs.CloneConfig{}))
}

func TestPowerCutAfterEveryOperation(t *testing.T) {
	t.Parallel()
	for seed := range *crashSeeds {
		p := newPartition(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		cuts := 0
		p.fs.OnOp(nil, func(op crashfs.Op) {
			if !op.Changes() || t.Failed() {
				return
			}
			for _, o := range crashfs.Outcomes(op, rnd) {
				cuts++
				if err := p.crash(o.Of(p.fs, op, rnd), rnd.IntN(8) == 0, rnd); err != nil {
					t.Errorf("seed %d, cut after %s, %s: %v", seed, op, o, err)
				}
			}
		})
		if err := p.run(); err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d: %d cuts", seed, cuts)
	}
}

func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	for at := 0; !t.Failed(); at++ {
		p := newPartition(t, 0)
		rnd := rand.New(rand.NewPCG(uint64(at), 2))
		var failed *crashfs.Op
		count := 0
		p.fs.OnOp(func(op crashfs.Op) error {
			if count++; count != at {
				return nil
			}
			failed = &op
			if op.Kind == crashfs.Write && rnd.IntN(2) == 0 {
				return crashfs.ShortWrite{Len: rnd.IntN(op.Len + 1), Err: syscall.ENOSPC}
			}
			return syscall.EIO
		}, nil)
		_ = p.run()
		p.fs.OnOp(nil, nil)
		if at > 0 && failed == nil {
			break
		}
		for _, keep := range []int{0, 50, 100, -1} {
			o := crashfs.Outcome{Keep: keep, Prefix: -1}
			if err := p.crash(o.Of(p.fs, crashfs.Op{}, rnd), rnd.IntN(3) == 0, rnd); err != nil {
				t.Errorf("%s failed, keep %d: %v", failed, keep, err)
			}
		}
	}
}
