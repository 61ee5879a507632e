package clock

import (
	"runtime/debug"
	"time"
)

// machine is the clocks of this machine.
type machine struct{ start time.Time }

func newMachine() machine { return machine{time.Now()} }

func (m machine) Read() (wall time.Time, mono time.Duration) {
	now := time.Now()
	return now.Round(0), now.Sub(m.start)
}

func (m machine) Asleep() time.Duration { return asleep() }
func (m machine) Synchronised() bool    { return synchronised() }

// Built is when the running program was built, as far as it knows: the time of the
// commit it was built from. Zero if that was not recorded.
func Built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if t, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
			return t
		}
	}
	return time.Time{}
}
