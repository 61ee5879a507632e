//go:build linux

package block

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ImageBytes is enough for each file system here; the image is sparse.
	ImageBytes = 320 << 20

	// unmountTimeout is how long a file system may stay busy after its users ended.
	unmountTimeout = 10 * time.Second

	// FS_IOC_SHUTDOWN of linux/fs.h, and its flag for "throw the journal away".
	shutdownIoctl = 0x8004587d
	noLogFlush    = 2
)

// checks are the commands that judge an unmounted image and change nothing.
var checks = map[string][]string{
	"ext4":  {"fsck.ext4", "-n", "-f"},
	"xfs":   {"xfs_repair", "-n", "-f"},
	"btrfs": {"btrfs", "check", "--readonly"},
}

// makers are the commands that format an image, without what asks or prints.
var makers = map[string][]string{
	// No blocks for root alone: statfs does not count them, and a test that fills the
	// disk as root takes them.
	"ext4":  {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"},
	"xfs":   {"mkfs.xfs", "-q", "-f", "-K"},
	"btrfs": {"mkfs.btrfs", "-q", "-f", "--nodiscard"},
}

// Missing says why no volume of that type can be made here; "" if one can.
func Missing(fsType string) string {
	if os.Geteuid() != 0 {
		return "mounting needs root"
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return "the kernel has no loop devices"
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(known), "\t"+fsType+"\n") {
		return "the kernel has no " + fsType
	}
	for _, tool := range []string{makers[fsType][0], checks[fsType][0], "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	return ""
}

// Volume is a file system in an image file. Its methods are for one goroutine,
// except Shutdown and Writeback.
type Volume struct {
	Type  string // ext4, xfs or btrfs
	Image string // path of the image
	Dir   string // where it is mounted
	// Options of mount, such as "commit=1"; may be empty.
	Options string
}

// Format makes the image, of size bytes, and the empty file system in it.
func (v *Volume) Format(size int64) error {
	f, err := os.Create(v.Image)
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return command(append(makers[v.Type], v.Image)...)
}

// Mount mounts the image at Dir, which is made. A journal left by a cut is
// replayed by that. The loop device goes with Unmount.
func (v *Volume) Mount() error {
	if err := os.MkdirAll(v.Dir, 0o700); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	options := "loop"
	if v.Options != "" {
		options += "," + v.Options
	}
	return command("mount", "-t", v.Type, "-o", options, v.Image, v.Dir)
}

// Unmount unmounts, once nobody has a file open there.
func (v *Volume) Unmount() error {
	deadline := time.Now().Add(unmountTimeout)
	for {
		err := unix.Unmount(v.Dir, 0)
		if err == nil {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return fmt.Errorf("block: unmount %s: %w", v.Dir, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Check judges the unmounted image without changing it.
func (v *Volume) Check() error { return command(append(checks[v.Type], v.Image)...) }

// Shutdown cuts the power: from now on nothing reaches the image, neither data
// in the page cache nor the journal, and everybody gets EIO. Unmount it then.
func (v *Volume) Shutdown() error {
	dir, err := os.Open(v.Dir)
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdownIoctl, noLogFlush); err != nil {
		return fmt.Errorf("block: FS_IOC_SHUTDOWN of %s: %w", v.Type, err)
	}
	return nil
}

// Fail makes an ext4 mounted with errors=remount-ro meet an error of its own: from
// now on it is read-only, under open files too, where mount refuses to do it.
func (v *Volume) Fail() error {
	source, err := v.device()
	if err != nil {
		return err
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(source), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test"), 0o200); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

// Repair mends an unmounted ext4 after Fail.
func (v *Volume) Repair() error {
	err := command("e2fsck", "-f", "-y", v.Image)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // errors were found and corrected
	}
	return err
}

// device is the loop device below the volume.
func (v *Volume) device() (string, error) {
	out, err := exec.Command("findmnt", "-n", "-o", "SOURCE", "--mountpoint", v.Dir).Output()
	if err != nil {
		return "", fmt.Errorf("block: device of %s: %w", v.Dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Recover is what a box does after a power cut: it mounts, which replays the
// journal. On the way the outcome is checked.
func (v *Volume) Recover() error {
	if err := v.Mount(); err != nil {
		return err
	}
	if err := v.Unmount(); err != nil {
		return err
	}
	if err := v.Check(); err != nil {
		return err
	}
	return v.Mount()
}

// Writeback starts writing what is dirty in the page cache of the files below Dir
// to the device, as the kernel does by itself now and then. It flushes no cache of
// the device, so nothing becomes durable by it. Files that go meanwhile are left out.
func (v *Volume) Writeback() {
	_ = filepath.WalkDir(v.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
		return nil
	})
}

// command runs a tool; what it says is in the error.
func command(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("block: %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
