package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance/console"
)

// diskOf asks the file system that holds dir for its space.
func diskOf(dir string) (console.Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return console.Disk{}, fmt.Errorf("cannot ask the disk of %s for its space: %w", dir, err)
	}
	block := int64(st.Bsize)
	d := console.Disk{TotalBytes: int64(st.Blocks) * block, FreeBytes: int64(st.Bavail) * block}
	d.UsedBytes = d.TotalBytes - int64(st.Bfree)*block
	return d, nil
}
