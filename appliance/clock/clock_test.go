package clock_test

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/vfs"
)

const (
	minute = time.Minute
	day    = 24 * time.Hour
	year   = 365 * day
)

var (
	built = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // what time it really is when a test begins
	epoch = time.Unix(0, 0).UTC()                          // where a board without a battery boots
)

// machine is the clocks of a machine in a synctest bubble: real time passes as the
// bubble's, and the wall clock says something else.
type machine struct {
	t      *testing.T
	fs     vfs.FS
	log    bytes.Buffer
	zero   time.Time // the bubble's time when the test began
	boot   time.Time // the bubble's time at power on: the monotonic clock begins anew
	offset time.Duration
	slept  time.Duration
	synced bool
	opts   clock.Options
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, fs: vfs.OS(t.TempDir()), zero: time.Now(), boot: time.Now()}
	m.opts.Built = built
	return m
}

func (m *machine) real() time.Time { return today.Add(time.Since(m.zero)) }

func (m *machine) Read() (time.Time, time.Duration) {
	fence()
	defer fence()
	return m.real().Add(m.offset), time.Since(m.boot) - m.slept
}
func (m *machine) Asleep() time.Duration { fence(); defer fence(); return m.slept }
func (m *machine) Synchronised() bool    { fence(); defer fence(); return m.synced }

// open starts the process, on a machine whose wall clock says wall.
func (m *machine) open(wall time.Time) *clock.Clock {
	m.t.Helper()
	m.boot, m.slept, m.offset, m.synced = time.Now(), 0, wall.Sub(m.real()), false
	o := m.opts
	o.FS, o.File, o.Source, o.Log = m.fs, "clock", m, slog.New(slog.NewTextHandler(&m.log, nil))
	c := clock.Open(o)
	m.t.Cleanup(func() { c.Close() })
	return c
}

// pass lets real time pass, and the watch see it.
func pass(d time.Duration) {
	fence()
	time.Sleep(d)
	synctest.Wait()
	fence()
}

var fenced sync.Mutex

// fence orders what the test sets, while all others sleep, and what the watch reads.
func fence() {
	fenced.Lock()
	defer fenced.Unlock()
}

func wantNow(t *testing.T, c *clock.Clock, want time.Time) {
	t.Helper()
	if got := c.Now(); got.Sub(want).Abs() > time.Second {
		t.Errorf("now is %s, want %s", got.UTC(), want.UTC())
	}
}

func wantElapsed(t *testing.T, c *clock.Clock, want time.Duration) {
	t.Helper()
	if got := c.Elapsed(); (got - want).Abs() > time.Second {
		t.Errorf("elapsed is %v, want %v", got, want)
	}
}

func wantTrusted(t *testing.T, c *clock.Clock, want bool) {
	t.Helper()
	if st := c.Status(); st.Trusted != want || (st.JumpSeconds == 0) != want {
		t.Errorf("trusted: %v with a jump of %v s, want trusted %v", st.Trusted, st.JumpSeconds, want)
	}
}

func TestBootIn1970(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		c := m.open(epoch)
		wantTrusted(t, c, false)
		wantNow(t, c, built)
		pass(2 * time.Hour)
		wantNow(t, c, built.Add(2*time.Hour))
		wantElapsed(t, c, 2*time.Hour)
		stamp := c.Now()

		m.offset, m.synced = 0, true // the network is there
		pass(4 * minute)
		wantTrusted(t, c, false)
		pass(2 * minute)
		wantTrusted(t, c, true)
		wantNow(t, c, m.real())
		wantElapsed(t, c, 2*time.Hour+6*minute)
		if age := c.Age(stamp); (age - 6*minute).Abs() > minute {
			t.Errorf("what was stamped %v ago is %v old", 6*minute, age)
		}
		if c.Status().Since.Before(today) || !strings.Contains(m.log.String(), "the kernel's time service") {
			t.Errorf("since %v, log: %s", c.Status().Since, m.log.String())
		}
	})
}

// The time a box was switched off counts, as soon as it is known how long that was.
func TestTimeSwitchedOff(t *testing.T) {
	for name, c := range map[string]struct {
		wall    time.Duration // what the machine's clock says after three days, from the true time
		battery bool
		trusted bool
		after   time.Duration // elapsed at boot, beyond the hour before
	}{
		"clock right":                    {0, false, false, 0},
		"clock right, and has a battery": {0, true, true, 3 * day},
		"clock in 1970":                  {-56 * year, true, false, 0},
		"clock years ahead":              {60 * year, false, false, 0},
		"clock stood still":              {-3 * day, false, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				m.opts.Battery = c.battery
				before := m.open(today)
				pass(time.Hour)
				wantTrusted(t, before, true)
				if err := before.Close(); err != nil {
					t.Fatal(err)
				}
				pass(3 * day)
				now := m.open(m.real().Add(c.wall))
				wantTrusted(t, now, c.trusted)
				wantElapsed(t, now, time.Hour+c.after)
				if !c.trusted {
					wantNow(t, now, today.Add(time.Hour))
				}
				pass(50 * minute)
				wantElapsed(t, now, time.Hour+50*minute+c.after)
				m.offset, m.synced = 0, true
				pass(6 * minute)
				wantTrusted(t, now, true)
				wantNow(t, now, m.real())
				wantElapsed(t, now, 3*day+time.Hour+56*minute)
				m.offset = year // and from now on a jump is a jump
				pass(6 * minute)
				wantNow(t, now, m.real().Add(m.offset))
				wantElapsed(t, now, 3*day+time.Hour+62*minute)
			})
		})
	}
}

// A clock that is about right after boot may have stood still, and what corrects it
// soon is time switched off. Once a time service has agreed with it, or an hour has
// passed, a correction is a jump.
func TestLaterCorrectionIsAJump(t *testing.T) {
	for name, settle := range map[string]func(m *machine){
		"a time service agreed": func(m *machine) { m.synced = true; pass(minute); m.synced = false },
		"an hour has passed":    func(*machine) { pass(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				if err := m.open(today).Close(); err != nil {
					t.Fatal(err)
				}
				c := m.open(m.real())
				settle(m)
				before := c.Elapsed()
				m.offset, m.synced = year, true
				pass(6 * minute)
				wantNow(t, c, m.real().Add(year))
				wantElapsed(t, c, before+6*minute)
			})
		})
	}
}

// A power cut does not write the time down; what is lost of it was known before.
func TestPowerCutLosesMinutesAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.open(today)
		pass(23 * minute)
		left := m.fs
		m.fs = vfs.OS(copyOf(t, left, "clock"))
		c := m.open(epoch)
		wantNow(t, c, today.Add(20*minute))
		wantElapsed(t, c, 20*minute)
		pass(minute)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = m.open(m.real())
		wantElapsed(t, c, 24*minute) // within an hour of what was written down
	})
}

// Boots in 1970, one after the other, must not lose sight of when the time was last known.
func TestManyBootsWithoutTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		c := m.open(today)
		for range 10 {
			pass(time.Hour)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			pass(23 * time.Hour)
			c = m.open(epoch)
		}
		wantElapsed(t, c, 10*time.Hour)
		wantNow(t, c, today.Add(10*time.Hour))
		m.offset, m.synced = 0, true
		pass(6 * minute)
		wantElapsed(t, c, 10*day+6*minute)
		wantNow(t, c, m.real())
	})
}

func TestJumpWhileRunning(t *testing.T) {
	for name, jump := range map[string]time.Duration{"four years ahead": 4 * year, "a day back": -day, "to 1970": -57 * year} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				c := m.open(today)
				pass(time.Hour)
				m.offset = jump
				wantNow(t, c, m.real())
				wantTrusted(t, c, false)
				if !strings.Contains(m.log.String(), "has jumped") {
					t.Errorf("log: %s", m.log.String())
				}
				pass(day)
				wantNow(t, c, m.real())
				wantElapsed(t, c, time.Hour+day)
				if age := c.Age(today); (age - time.Hour - day).Abs() > time.Second {
					t.Errorf("age %v", age)
				}
				m.offset = 0
				pass(minute)
				wantTrusted(t, c, true)
				wantElapsed(t, c, time.Hour+day+minute)
			})
		})
	}
}

func TestSmallJumpsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		c := m.open(today)
		for _, m.offset = range []time.Duration{30 * minute, 0, -59 * minute, 0} {
			wantTrusted(t, c, true)
			wantNow(t, c, m.real().Add(m.offset))
			pass(minute)
		}
		wantElapsed(t, c, 4*minute)
	})
}

func TestConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		c := m.open(today)
		stamp := c.Now()
		m.offset = 4 * year
		for range 10 { // a service that is not sure of itself
			m.synced = true
			pass(4 * minute)
			m.synced = false
			pass(minute)
		}
		for range 10 { // one that steps about
			m.synced, m.offset = true, m.offset+day
			pass(4 * minute)
		}
		wantTrusted(t, c, false)
		wantNow(t, c, m.real())
		pass(2 * minute)
		wantTrusted(t, c, true)
		wantNow(t, c, m.real().Add(m.offset))
		wantElapsed(t, c, 92*minute)
		if age := c.Age(stamp); (age - 92*minute).Abs() > minute {
			t.Errorf("what was stamped 92 minutes ago is %v old", age)
		}

		// That time was wrong: back to the true one, on an operator's word.
		wrong := c.Now()
		m.offset, m.synced = 0, false
		pass(day)
		wantTrusted(t, c, false)
		if err := c.Confirm(); err != nil {
			t.Fatal(err)
		}
		wantTrusted(t, c, true)
		wantNow(t, c, m.real())
		pass(6 * time.Hour)
		if age := c.Age(wrong); (age - 6*time.Hour).Abs() > minute {
			t.Errorf("what was stamped years ahead, 30 hours ago, is %v old, want it counted from the correction", age)
		}
		m.offset = -2 * year
		if err := c.Confirm(); err == nil || !strings.Contains(err.Error(), "before this program was built") {
			t.Errorf("confirmed a time before the program was built: %v", err)
		}
	})
}

func TestSuspendIsNoJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		c := m.open(today)
		pass(time.Hour)
		m.zero, m.boot, m.slept = m.zero.Add(-12*time.Hour), m.boot.Add(-12*time.Hour), 12*time.Hour
		wantNow(t, c, m.real())
		wantTrusted(t, c, true)
		wantElapsed(t, c, 13*time.Hour)
	})
}

func TestDamagedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		if err := m.open(today).Close(); err != nil {
			t.Fatal(err)
		}
		f, err := m.fs.Open("clock")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0xff}, 12); err != nil {
			t.Fatal(err)
		}
		c := m.open(today)
		wantTrusted(t, c, true)
		wantElapsed(t, c, 0)
		if !strings.Contains(m.log.String(), "damaged") {
			t.Errorf("log: %s", m.log.String())
		}
	})
}

func TestReadAllocatesNothing(t *testing.T) {
	c := clock.Open(clock.Options{})
	defer c.Close()
	if n := testing.AllocsPerRun(100, func() { c.Read() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func copyOf(t *testing.T, from vfs.FS, name string) (dir string) {
	t.Helper()
	f, err := from.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	g, err := vfs.OS(dir).Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "57434b31",
		"57434b31ee2b01d9000001a5f6a3c000000001a5f6a3c000000000000000000000",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := clock.Decode(b); err == nil && !bytes.Equal(again, b) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}
