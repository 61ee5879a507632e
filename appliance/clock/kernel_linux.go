package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// synchronised asks adjtimex(2) without changing anything. The kernel clears
// STA_UNSYNC when a time service has set the clock, and sets it again when the
// service has been silent for so long that the error may have grown to 16 s.
func synchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// asleep is by how much the clock that counts suspension is ahead of the one that
// does not.
func asleep() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	if d := time.Duration(boot.Nano() - mono.Nano()); d > time.Second {
		return d
	}
	return 0 // the two calls are some microseconds apart
}
