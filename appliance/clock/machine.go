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

// Built is when the running program was built: text, as the linker was told it
// (RFC 3339), or else the time of the commit it was built from.
func Built(text string) time.Time {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
				return t
			}
		}
	}
	return time.Time{}
}
