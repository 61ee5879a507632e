package vfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free implements Space with what statfs says is left for this user.
func (o *osFS) Free() (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(o.root, &st); err != nil {
		return 0, 0, fmt.Errorf("vfs: statfs %s: %w", o.root, err)
	}
	size := int64(st.Bsize)
	return int64(st.Bavail) * size, int64(st.Blocks) * size, nil
}
