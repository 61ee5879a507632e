package vfs_test

import (
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// onDisk is what a power cut that keeps nothing unsynced leaves of name.
func onDisk(disk *crashfs.FS, name string) (text string, there bool) {
	f, err := disk.Clone(crashfs.CloneConfig{}).Open(name)
	if err != nil {
		return "", false
	}
	b := make([]byte, 100)
	n, _ := f.ReadAt(b, 0)
	return string(b[:n]), true
}

func diskWith(t *testing.T, dir, name, text string) (*crashfs.FS, vfs.File) {
	t.Helper()
	disk := crashfs.New()
	if err := disk.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(dir + "/" + name)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	for _, do := range []func() error{func() error { return disk.SyncDir(".") }, func() error { return disk.SyncDir(dir) }, func() error { return f.Sync() }} {
		if err == nil {
			err = do()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return disk, f
}

// At no moment of SetAside is the file nowhere, and after it it is in one place.
func TestSetAsideLosesNothing(t *testing.T) {
	disk, _ := diskWith(t, "from", "x", "bytes")
	disk.OnOp(nil, func(op crashfs.Op) {
		_, before := onDisk(disk, "from/x")
		if _, after := onDisk(disk, "aside/x"); !before && !after {
			t.Errorf("after %s the file is nowhere", op)
		}
	})
	to, err := vfs.SetAside(disk, "from", "x", "aside", "x")
	disk.OnOp(nil, nil)
	if to != "x" || err != nil {
		t.Fatal(to, err)
	}
	if text, _ := onDisk(disk, "aside/x"); text != "bytes" {
		t.Errorf("set aside: %q", text)
	}
	if _, there := onDisk(disk, "from/x"); there {
		t.Error("it is still in its old place")
	}
}

// Keep has its copy on the disk when it returns, a second time too.
func TestKeepIsDurable(t *testing.T) {
	disk, f := diskWith(t, "from", "x", "0123456789")
	for _, n := range []int64{4, 100} { // more than there is
		if err := vfs.Keep(disk, "kept", "x", f, 2, n); err != nil {
			t.Fatal(err)
		}
		want := "23456789"[:min(n, 8)]
		if text, there := onDisk(disk, "kept/x"); text != want || !there {
			t.Errorf("kept: %q", text)
		}
	}
	if names, _ := disk.List("kept"); strings.Join(names, " ") != "x" {
		t.Errorf("kept: %q", names)
	}
}
