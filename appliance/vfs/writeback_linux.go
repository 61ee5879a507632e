package vfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback is sync_file_range without a wait: that neither waits nor takes away
// the error that the next fdatasync has to return.
func startWriteback(f *os.File, from, n int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var rangeErr error
	if err := conn.Control(func(fd uintptr) { rangeErr = unix.SyncFileRange(int(fd), from, n, unix.SYNC_FILE_RANGE_WRITE) }); err != nil {
		return err
	}
	if rangeErr != nil {
		return fmt.Errorf("vfs: begin to write %s: %w", f.Name(), rangeErr)
	}
	return nil
}
