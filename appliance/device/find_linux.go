package device

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Find finds the device that holds dir, which must exist. The error wraps ErrNone
// where there is none.
func Find(dir string) (*Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("device: stat %s: %w", dir, err)
	}
	number := uint64(st.Dev) // its width differs by architecture
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(number), unix.Minor(number))
	target, err := os.Readlink(link)
	if err != nil {
		return nil, fmt.Errorf("device: %s: %w", dir, ErrNone)
	}
	return &Device{Name: filepath.Base(target), stat: link + "/stat"}, nil
}
