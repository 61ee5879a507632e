//go:build linux

package vfs_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
)

// A FIFO can be opened as a file but not synced: that it says so shows that the
// system was asked.
func TestSyncAsksTheSystem(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Skip("skipped: no FIFO in the temporary folder:", err)
	}
	fsys := vfs.OS(root)
	f, err := fsys.Open("fifo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Sync: %v, want EINVAL", err)
	}
	if err := fsys.SyncDir("fifo"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("SyncDir: %v, want EINVAL", err)
	}
}
