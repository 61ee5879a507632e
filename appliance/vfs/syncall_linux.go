package vfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// File systems on which syncfs is known to make everything durable. On others it
// may do nothing and say that all is well, as it does on FUSE.
var syncsWhole = map[int64]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.F2FS_SUPER_MAGIC: true,
}

// CanSyncAll implements AllSyncer: the kernel must report through syncfs what it
// could not write (Linux 5.8 and later), and the file system must be one that obeys.
func (o *osFS) CanSyncAll() bool {
	var st unix.Statfs_t
	return syncfsReports() && unix.Statfs(o.root, &st) == nil && syncsWhole[int64(st.Type)]
}

// SyncAll implements AllSyncer by syncfs.
func (o *osFS) SyncAll() (err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.whole == nil {
		// One descriptor for good: errors are reported once to each that was open.
		if o.whole, err = os.Open(o.root); err != nil {
			return fmt.Errorf("vfs: %w", err)
		}
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Syncfs(int(o.whole.Fd()))
	}
	if err != nil {
		return fmt.Errorf("vfs: sync the file system of %s: %w", o.root, err)
	}
	return nil
}

func syncfsReports() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(major)
	n, err2 := strconv.Atoi(strings.TrimRightFunc(minor, func(r rune) bool { return r < '0' || r > '9' }))
	return err == nil && err2 == nil && (m > 5 || m == 5 && n >= 8)
}
