package topic_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

// aged is a box with a machine's clocks of its own, in a synctest bubble.
type aged struct {
	*box
	dir        string
	zero, boot time.Time  // the bubble's time when the test began, and at power on
	mu         sync.Mutex // guards boot, offset and synced
	offset     time.Duration
	synced     bool
	clock      *clock.Clock
	set        *topic.Set
}

var truth = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // what time it is when a test begins

func (a *aged) Read() (time.Time, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return truth.Add(time.Since(a.zero)).Add(a.offset), time.Since(a.boot)
}
func (a *aged) Asleep() time.Duration { return 0 }

func (a *aged) Synchronised() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.synced
}

// turn sets the machine's clock off by so much.
func (a *aged) turn(offset time.Duration, synced bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offset, a.synced = offset, synced
}

// spaceless cannot tell how full it is, which would be asked every virtual second.
type spaceless struct{ vfs.FS }

func newAged(t *testing.T) *aged {
	a := &aged{box: newBox(t), dir: t.TempDir(), zero: time.Now()}
	a.fs = spaceless{vfs.OS(a.dir)}
	a.opts.RetentionInterval, a.opts.CheckpointInterval = 5*time.Minute, time.Hour
	return a
}

// start starts the process on a machine that is off by so much.
func (a *aged) start(offset time.Duration) {
	a.t.Helper()
	a.mu.Lock()
	a.boot = time.Now()
	a.mu.Unlock()
	a.turn(offset, false)
	a.clock = clock.Open(clock.Options{FS: a.fs, File: "clock", Source: a})
	a.t.Cleanup(func(c *clock.Clock) func() { return func() { c.Close() } }(a.clock))
	a.opts.Clock = a.clock
	a.set = a.open()
}

func (a *aged) stop() {
	a.t.Helper()
	if err := a.set.Close(); err != nil {
		a.t.Fatal(err)
	}
	if err := a.clock.Close(); err != nil {
		a.t.Fatal(err)
	}
}

// produce appends a record whose producer says it is of that time.
func (a *aged) produce(timestamp time.Time) {
	a.t.Helper()
	b, err := record.NewBatch(record.None, record.Record{Timestamp: timestamp.UnixMilli(), Value: make([]byte, 100)})
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.set.Append(context.Background(), tp, b); err != nil {
		a.t.Fatal(err)
	}
}

// wantKept lets time pass and looks at how many records are left.
func (a *aged) wantKept(after time.Duration, kept int64) {
	a.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	p, err := a.set.Partition(tp)
	if err != nil {
		a.t.Fatal(err)
	}
	if got := p.HighWatermark() - p.LogStartOffset(); got != kept {
		a.t.Errorf("%d records of %d are left, want %d", got, p.HighWatermark(), kept)
	}
}

func (a *aged) create(configs map[string]string) {
	a.t.Helper()
	if _, err := a.set.Create("t", topic.Spec{Configs: configs}); err != nil {
		a.t.Fatal(err)
	}
}

var fourHours = map[string]string{"retention.ms": "14400000"}

// Whatever the producer's clock says: a record stays for retention.ms from when it came.
func TestRetentionIsByAppendTime(t *testing.T) {
	for name, timestamp := range map[string]time.Time{
		"now": truth, "1970": time.UnixMilli(0), "two days ago": truth.Add(-48 * time.Hour), "2090": truth.AddDate(64, 0, 0), "none": time.UnixMilli(-1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAged(t)
				a.start(0)
				a.create(fourHours)
				a.produce(timestamp)
				a.wantKept(2*time.Hour, 1)
				a.produce(timestamp)
				a.wantKept(3*time.Hour+50*time.Minute, 2) // one segment: as old as its youngest record
				a.wantKept(20*time.Minute, 0)
				a.produce(timestamp)
				a.wantKept(time.Hour, 1)
				a.stop()
			})
		})
	}
}

// The machine's clock jumps: nothing is purged for it, and purging goes on at the true pace.
func TestRetentionUnderJumps(t *testing.T) {
	const hour = time.Hour
	for name, jumps := range map[string][]time.Duration{
		"boot in 1970":        {-57 * 365 * 24 * hour},
		"four years ahead":    {0, 4 * 365 * 24 * hour},
		"a day back":          {0, -24 * hour},
		"ahead, back, ahead":  {0, 4 * 365 * 24 * hour, 0, -24 * hour, 0, 300 * 24 * hour},
		"boot years ahead":    {60 * 365 * 24 * hour},
		"in 1970, then ahead": {-57 * 365 * 24 * hour, 10 * 365 * 24 * hour},
	} {
		for _, confirmed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				t.Log(name, "confirmed:", confirmed)
				a := newAged(t)
				a.start(jumps[0])
				a.create(fourHours)
				a.produce(a.clock.Now())
				for _, offset := range jumps {
					a.turn(offset, confirmed)
					a.wantKept(hour/3, 1)
				}
				spent := time.Duration(len(jumps)) * hour / 3
				a.wantKept(hour*7/2-spent, 1)
				a.turn(0, true) // the true time arrives
				a.wantKept(hour/3, 1)
				a.wantKept(hour/3, 0)
				a.stop()
			})
		}
	}
}

// What is older than retention.ms by time the box was off goes once that is known.
func TestRetentionOverARestart(t *testing.T) {
	for name, c := range map[string]struct {
		offset time.Duration
		crash  bool
		atBoot int64
	}{
		"clock right":         {0, false, 2},
		"clock in 1970":       {-57 * 365 * 24 * time.Hour, false, 2},
		"power cut":           {-57 * 365 * 24 * time.Hour, true, 2},
		"clock decades ahead": {60 * 365 * 24 * time.Hour, false, 2},
		"clock stood still":   {-48 * time.Hour, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAged(t)
				a.start(0)
				a.create(fourHours)
				a.produce(truth)
				a.wantKept(30*time.Minute, 1) // long enough for its time to be saved
				a.produce(truth.Add(30 * time.Minute))
				a.wantKept(30*time.Minute, 2)
				if c.crash {
					a.cut()
				} else {
					a.stop()
				}
				time.Sleep(48 * time.Hour)
				a.start(c.offset)
				a.wantKept(30*time.Minute, c.atBoot)
				a.turn(0, true)
				a.wantKept(20*time.Minute, 0)
				a.produce(time.UnixMilli(0))
				a.wantKept(3*time.Hour+50*time.Minute, 1)
				a.wantKept(20*time.Minute, 0)
				a.stop()
			})
		})
	}
}

// A topic that nobody writes to any more expires although the box is off every night.
func TestRetentionOverManyRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t)
		a.start(0)
		a.create(map[string]string{"retention.ms": "259200000"}) // three days
		a.produce(time.UnixMilli(0))
		for range 3 {
			a.wantKept(5*time.Hour, 1) // long enough for its time to be saved
			a.cut()
			time.Sleep(19*time.Hour - time.Minute)
			a.start(-57 * 365 * 24 * time.Hour)
			a.turn(0, true)
			a.wantKept(time.Minute, 1)
		}
		a.wantKept(20*time.Minute, 0)
	})
}

func TestDamagedAppendTimesKeepRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t)
		a.start(0)
		a.create(fourHours)
		a.produce(truth)
		a.wantKept(3*time.Hour, 1)
		a.stop()
		f, err := a.fs.Open("topics/t-0/append.times")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0xff}, 30); err != nil {
			t.Fatal(err)
		}
		a.start(0)
		a.wantKept(3*time.Hour+50*time.Minute, 1)
		a.wantKept(20*time.Minute, 0)
		a.stop()
	})
}

func TestSegmentAgeIsByElapsedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAged(t)
		a.start(0)
		a.create(map[string]string{"segment.ms": "3600000"})
		for i, c := range []struct {
			offset   time.Duration
			segments int
		}{{0, 1}, {math.MaxInt64 / 4, 1}, {0, 1}, {0, 2}} {
			a.turn(c.offset, false)
			a.produce(truth)
			synctest.Wait() // the segment is made after the acknowledgement
			if got := segments(t, a); got != c.segments {
				t.Errorf("append %d: %d segments, want %d", i, got, c.segments)
			}
			time.Sleep(25 * time.Minute)
		}
		a.stop()
	})
}

func segments(t *testing.T, a *aged) int {
	t.Helper()
	names, err := a.fs.List("topics/t-0")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if filepath.Ext(name) == ".log" {
			n++
		}
	}
	return n
}

// cut leaves the folder as it is, as if the process had been killed, and goes on in
// a copy of it.
func (a *aged) cut() {
	a.t.Helper()
	dir := a.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(a.dir)); err != nil {
		a.t.Fatal(err)
	}
	a.dir, a.fs = dir, spaceless{vfs.OS(dir)}
}
