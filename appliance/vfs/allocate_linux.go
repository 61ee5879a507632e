package vfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Allocate implements Allocator by fallocate, which writes nothing to a flash device.
func (f osFile) Allocate(at, n int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = unix.Fallocate(int(fd), 0, at, n); failed != unix.EINTR {
				return
			}
		}
	})
	if errors.Is(failed, unix.EOPNOTSUPP) || errors.Is(failed, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("vfs: allocate %d bytes of %s: %w", n, f.Name(), err)
	}
	return nil
}
