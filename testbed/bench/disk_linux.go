package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fileSystemType is what statfs says; a type without a name here is its number.
func fileSystemType(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("statfs %s: %w", dir, err)
	}
	names := map[int64]string{
		unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
		unix.BTRFS_SUPER_MAGIC: "btrfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if name, ok := names[int64(uint32(st.Type))]; ok {
		return name, nil
	}
	return fmt.Sprintf("%#x", uint32(st.Type)), nil
}

// flush writes out what the kernel holds of the file system.
func (m *image) flush() error {
	d, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", m.dir, err)
	}
	return nil
}
