package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync goes through SyscallConn, so that a concurrent Close cannot hand the
// descriptor's number to another file meanwhile.
func fdatasync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); syncErr != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return syncErr
}
