package vfs

import (
	"math"

	"golang.org/x/sys/unix"
)

// OpenFileLimit is how many files and sockets the process may have open
// (RLIMIT_NOFILE). Go raises it to the hard limit at the start.
func OpenFileLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return defaultOpenFileLimit
	}
	return int(min(uint64(r.Cur), math.MaxInt32))
}
