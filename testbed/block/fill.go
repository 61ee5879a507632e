//go:build linux

package block

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Fill gives a foreign file all the room that is left, but for leave bytes.
func (v *Volume) Fill(leave int64) error {
	f, err := os.OpenFile(v.foreign(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	defer f.Close()
	var size int64
	for chunk := int64(64 << 20); chunk >= 512; {
		err := unix.Fallocate(int(f.Fd()), 0, size, chunk)
		switch {
		case err == nil:
			size += chunk
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("block: fallocate: %w", err)
		}
	}
	if err := f.Truncate(max(0, size-leave)); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

// Drain removes what Fill wrote.
func (v *Volume) Drain() error {
	if err := os.Remove(v.foreign()); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

func (v *Volume) foreign() string { return filepath.Join(v.Dir, "foreign") }
