//go:build linux

package powercut_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/testbed/faultfs"
	"github.com/weirmq/weir/testbed/fusedisk"
)

// Whichever of the kernel's calls for one write fails, the writer hears of it.
func TestFailedWriteIsHeardOf(t *testing.T) {
	needs(t, fusedisk.Missing())
	dir := scratch(t)
	f, unmount, err := faultfs.Mount(filepath.Join(dir, "disk"), filepath.Join(dir, "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	}()
	for skip := range 4 {
		file, err := os.Create(filepath.Join(dir, "mnt", "f.log"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(make([]byte, 61), 0); err != nil {
			t.Fatal(err)
		}
		struck := f.Arm(faultfs.Fault{Op: faultfs.Write, Name: "*.log", Skip: skip})
		heard := error(nil)
		for at, hit := int64(61), false; !hit; at += 70_000 {
			_, heard = file.WriteAt(make([]byte, 70_000), at)
			select {
			case <-struck:
				hit = true
			default:
			}
		}
		if !errors.Is(heard, syscall.EIO) {
			t.Errorf("call %d of those that match failed, the writer got %v", skip+1, heard)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}
