//go:build linux

// Package block makes file systems of their own in image files and cuts their
// power: what a process had written and not synced is gone, as after a real cut.
//
// A [Volume] is mounted through a loop device, which needs root and the tools of
// its file system; [Missing] says what is not there. Everything lies in a folder
// of [Scratch], which takes mounts away that a test left behind, also those of
// test processes that were killed.
package block

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scratchPrefix begins the name of every scratch folder; the process id follows.
const scratchPrefix = "weir-block-"

// Scratch makes an empty folder below TMPDIR. remove unmounts what is mounted in
// it and deletes it; call it also when the test failed. Folders of processes that
// do not live any more are removed on the way.
func Scratch() (dir string, remove func() error, err error) {
	if err := removeStale(); err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	if err != nil {
		return "", nil, fmt.Errorf("block: %w", err)
	}
	return dir, func() error { return removeScratch(dir) }, nil
}

func removeStale() error {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*"))
	if err != nil {
		return fmt.Errorf("block: %w", err)
	}
	var errs []error
	for _, dir := range old {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue // not ours to judge, or its process lives
		}
		errs = append(errs, removeScratch(dir))
	}
	return errors.Join(errs...)
}

func removeScratch(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range points {
		if unix.Unmount(point, 0) != nil {
			// Busy or dead: out of the tree now, gone when its last user is.
			if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("block: unmount %s: %w", point, err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

// mountsBelow lists the mount points in dir, those mounted last first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("block: %w", err)
	}
	defer f.Close()
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options - type source options
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	return points, lines.Err()
}
