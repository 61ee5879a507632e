// Package clock says what time it is on a box whose clock may be wrong: boards
// without a battery boot in 1970, a bad time server jumps by years, a correction
// jumps back.
//
// A [Clock] keeps two times:
//
//   - Now, the best wall time known: the machine's own as long as it is plausible. A
//     jump of more than Options.MaxJump is not followed until it is confirmed; until
//     then Now goes on from the last trusted time by the monotonic clock. At boot it
//     is never before the floor: the time the program was built and the last time
//     that was written down.
//   - Elapsed, the time that is known to have passed since the data folder was made.
//     While the process runs it is the monotonic clock, so no jump, confirmed or not,
//     moves it. Time spent switched off is added once the clock is trusted.
//
// What deletes by age goes by Elapsed, or by [Clock.Age] where only a wall time was
// kept. A jump is confirmed by the kernel, which says that it is synchronised (NTP)
// for Options.Confirm without a break, by an operator ([Clock.Confirm]), or undone by
// a jump back.
//
// All methods are safe for concurrent use. Read takes no lock while the clock is
// trusted, and allocates nothing.
package clock

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// Defaults and limits. Those with a Default have an Options field.
const (
	DefaultMaxJump = time.Hour
	DefaultConfirm = 5 * time.Minute
	// DefaultPersist is rare, as every write costs a few blocks of flash: a crash
	// loses at most so much of what is known, and that on the safe side.
	DefaultPersist = 5 * time.Minute

	// bootGrace is how long after boot a clock that had merely stood still (as
	// fake-hwclock has it) may be corrected by more than MaxJump and that be taken for
	// time switched off. Later it is a jump.
	bootGrace = time.Hour

	pollInterval = 10 * time.Second
	maxSteps     = 8 // of the trusted time, that Age takes into account
)

// earliest is before any version of this program was built.
var earliest = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Options configures Open.
type Options struct {
	// FS holds File, in which the time is written down. Nil FS: nowhere.
	FS   vfs.FS
	File string
	// Built is when the program was built: no time before it can be right.
	Built time.Time
	// MaxJump is the largest jump that is followed without confirmation.
	MaxJump time.Duration
	// Confirm is how long the kernel must say that it is synchronised.
	Confirm time.Duration
	// Persist is how often the time is written down.
	Persist time.Duration
	// Battery says that the board has a battery-backed clock: after any time switched
	// off, what it says is taken, unless it is before the floor.
	Battery bool
	Source  Source       // nil: the machine's clocks
	Log     *slog.Logger // nil: discard
}

// Source is the clocks of a machine.
type Source interface {
	// Read is the wall clock and the monotonic clock, which starts anywhere.
	Read() (wall time.Time, mono time.Duration)
	// Asleep is how long the machine has been suspended, which the monotonic clock
	// does not count. It may start anywhere.
	Asleep() time.Duration
	// Synchronised is whether the kernel says that a time service keeps its clock.
	Synchronised() bool
}

// reference is what Read goes by. It is replaced as a whole.
type reference struct {
	wall    time.Time     // the trusted time
	mono    time.Duration // when it was so
	elapsed time.Duration // Elapsed at mono
	trusted bool
}

func (r *reference) at(mono time.Duration) (wall time.Time, elapsed time.Duration) {
	return r.wall.Add(mono - r.mono), r.elapsed + (mono - r.mono)
}

// step is a change of the trusted time other than by the clock's own going.
type step struct {
	at   time.Duration // Elapsed
	size time.Duration
}

// Clock is the time of one data folder. Open makes it.
type Clock struct {
	opts  Options
	floor time.Time
	ref   atomic.Pointer[reference]

	mu     sync.Mutex    // guards what follows, and every change of ref
	asleep time.Duration // when ref was made
	since  time.Time     // by the trusted time: when trusted changed
	steps  []step        // the oldest first
	// known is the wall time as of Elapsed knownAt, on good authority; zero if there was
	// none yet. While booting it is of an earlier process, and the time switched off
	// since may not be part of Elapsed yet.
	known   time.Time
	knownAt time.Duration
	booting bool
	started time.Duration // monotonic
	// sync is how long, and since which offset of the wall clock from ref, the kernel
	// has said that it is synchronised.
	sync candidate
	last time.Duration // monotonic, of the last write

	stop, ended chan struct{}
	closing     sync.Once
	closeErr    error
}

type candidate struct {
	on     bool
	since  time.Duration // monotonic
	offset time.Duration
}

// Open reads what was written down and begins to watch the clocks. A file that cannot
// be read is as good as none, and one that cannot be written, on a full disk, is tried
// again: both are logged. Close ends the watch.
func Open(o Options) *Clock {
	if o.MaxJump == 0 {
		o.MaxJump = DefaultMaxJump
	}
	if o.Confirm == 0 {
		o.Confirm = DefaultConfirm
	}
	if o.Persist == 0 {
		o.Persist = DefaultPersist
	}
	if o.Built.Before(earliest) {
		o.Built = earliest
	}
	if o.Source == nil {
		o.Source = newMachine()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Clock{opts: o, stop: make(chan struct{}), ended: make(chan struct{})}
	saved, err := load(o.FS, o.File)
	if err != nil {
		o.Log.Warn("the time written down is not known: what is deleted by age stays longer", "err", err)
	}
	c.begin(saved)
	c.logBoot()
	if err := c.save(); err != nil {
		o.Log.Error("the time was not written down", "err", err)
	}
	go c.watch()
	return c
}

// Read is the best wall time known, and the time known to have passed.
func (c *Clock) Read() (now time.Time, elapsed time.Duration) {
	wall, mono := c.opts.Source.Read()
	r := c.ref.Load()
	now, elapsed = r.at(mono)
	if !r.trusted {
		return now, elapsed
	}
	if jump := wall.Sub(now); jump > c.opts.MaxJump || jump < -c.opts.MaxJump {
		return c.suspect()
	}
	return wall, elapsed
}

// Now is the best wall time known.
func (c *Clock) Now() time.Time {
	now, _ := c.Read()
	return now
}

// Elapsed is the time known to have passed since the data folder was made.
func (c *Clock) Elapsed() time.Duration {
	_, mono := c.opts.Source.Read()
	_, elapsed := c.ref.Load().at(mono)
	return elapsed
}

// Age is how long ago Now said at, at least: where the trusted time has been
// corrected since, by the size of the corrections less. Something from the future,
// of a time that was corrected back, is as old as that correction.
func (c *Clock) Age(at time.Time) time.Duration {
	now, elapsed := c.Read()
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(at)
	if age < 0 {
		age = 0
		for _, s := range c.steps {
			if s.size < 0 {
				age = elapsed - s.at
			}
		}
		return age
	}
	for i := len(c.steps) - 1; i >= 0; i-- {
		if since := elapsed - c.steps[i].at; since < age {
			age = max(since, age-max(0, c.steps[i].size))
		}
	}
	return age
}

// Confirm makes the machine's time the trusted one, on an operator's word. It is
// refused while that is before the program was built.
func (c *Clock) Confirm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, mono := c.opts.Source.Read()
	if wall.Before(c.opts.Built) {
		return fmt.Errorf("clock: the machine's clock says %s, which is before this program was built (%s): set it, then confirm",
			wall.UTC().Format(time.RFC3339), c.opts.Built.UTC().Format(time.RFC3339))
	}
	c.accept(wall, mono, "an operator")
	if err := c.save(); err != nil {
		c.opts.Log.Error("the time was not written down", "err", err)
	}
	return nil
}

// Close writes the time down and ends the watch.
func (c *Clock) Close() error {
	c.closing.Do(func() {
		close(c.stop)
		<-c.ended
		c.mu.Lock()
		defer c.mu.Unlock()
		c.judge()
		c.closeErr = c.save()
	})
	return c.closeErr
}

// Status is the clock's part of GET /v1/status.
type Status struct {
	Trusted      bool      `json:"trusted"`
	Synchronised bool      `json:"synchronised"` // the kernel says so
	Now          time.Time `json:"now"`          // the best time known
	Machine      time.Time `json:"machine"`      // what the machine's clock says
	Floor        time.Time `json:"floor"`        // no earlier time was believed at boot
	JumpSeconds  float64   `json:"jump_seconds"` // how far the machine's clock is from the trusted time; 0 while it is trusted
	Since        time.Time `json:"since"`        // when trust was won or lost, by the trusted time
	Elapsed      float64   `json:"elapsed_seconds"`
}

// Status is how the clock is seen now.
func (c *Clock) Status() Status {
	now, elapsed := c.Read()
	wall, _ := c.opts.Source.Read()
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Status{
		Trusted: c.ref.Load().trusted, Synchronised: c.opts.Source.Synchronised(), Now: now.UTC(), Machine: wall.UTC(),
		Floor: c.floor.UTC(), Since: c.since.UTC(), Elapsed: elapsed.Seconds(),
	}
	if !st.Trusted {
		st.JumpSeconds = wall.Sub(now).Seconds()
	}
	return st
}
