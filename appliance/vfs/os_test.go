package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
)

func TestOSFileRoundTrip(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	f := create(t, fsys, "a")
	if _, err := f.WriteAt([]byte("weir"), 3); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Size(); err != nil || n != 7 {
		t.Fatalf("Size = %d, %v; want 7", n, err)
	}
	got := make([]byte, 8)
	if n, err := f.ReadAt(got, 0); n != 7 || err != io.EOF || !bytes.Equal(got[:7], []byte("\x00\x00\x00weir")) {
		t.Fatalf("ReadAt = %d, %v, %q", n, err, got)
	}
	if err := f.Truncate(2); err != nil {
		t.Fatal(err)
	}
	if n, _ := f.Size(); n != 2 {
		t.Fatalf("Size after Truncate = %d, want 2", n)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err == nil {
		t.Fatal("Sync of a closed file succeeded")
	}
}

func TestOSNames(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	if err := fsys.MkdirAll("x/y"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x/b", "x/a"} {
		create(t, fsys, name).Close()
	}
	if err := fsys.Rename("x/a", "x/b"); err != nil {
		t.Fatalf("rename over an existing file: %v", err)
	}
	if got, err := fsys.List("x"); err != nil || !slices.Equal(got, []string{"b", "y"}) {
		t.Fatalf("List = %q, %v", got, err)
	}
	for _, dir := range []string{"x", "", "."} {
		if err := fsys.SyncDir(dir); err != nil {
			t.Fatalf("SyncDir(%q): %v", dir, err)
		}
	}
	if err := fsys.Remove("x"); err == nil {
		t.Fatal("Remove of a folder that is not empty succeeded")
	}
	for range 2 {
		if err := fsys.RemoveAll("x"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := fsys.List(""); err != nil || len(got) != 0 {
		t.Fatalf("List after RemoveAll = %q, %v", got, err)
	}
}

func TestOSErrors(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	create(t, fsys, "a").Close()
	_, createErr := fsys.Create("a")
	_, openErr := fsys.Open("none")
	_, listErr := fsys.List("none")
	for _, c := range []struct {
		what string
		err  error
		want error
	}{
		{"create of an existing file", createErr, fs.ErrExist},
		{"open", openErr, fs.ErrNotExist},
		{"list", listErr, fs.ErrNotExist},
		{"remove", fsys.Remove("none"), fs.ErrNotExist},
		{"rename", fsys.Rename("none", "b"), fs.ErrNotExist},
		{"sync of a folder", fsys.SyncDir("none"), fs.ErrNotExist},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
}

func TestOSRefusesToLeaveRoot(t *testing.T) {
	outer := t.TempDir()
	if err := os.WriteFile(filepath.Join(outer, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fsys := vfs.OS(filepath.Join(outer, "root"))
	if err := fsys.MkdirAll(""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../secret", "a/../../secret", "/etc/passwd", ".."} {
		_, createErr := fsys.Create(name)
		_, openErr := fsys.Open(name)
		_, listErr := fsys.List(name)
		for op, err := range map[string]error{
			"Create": createErr, "Open": openErr, "List": listErr,
			"Remove": fsys.Remove(name), "RemoveAll": fsys.RemoveAll(name),
			"Rename from": fsys.Rename(name, "x"), "Rename to": fsys.Rename("x", name),
			"MkdirAll": fsys.MkdirAll(name), "SyncDir": fsys.SyncDir(name),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%q) = %v, want fs.ErrInvalid", op, name, err)
			}
		}
	}
	for _, name := range []string{"", ".", "a/.."} {
		if err := fsys.RemoveAll(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("RemoveAll(%q), the root, = %v, want fs.ErrInvalid", name, err)
		}
	}
}

func TestOSMakesRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	fsys := vfs.OS(root)
	for range 2 {
		if err := fsys.MkdirAll("c"); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(filepath.Join(root, "c"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("folder: %v, %v; want mode 0700", st.Mode(), err)
	}
}

func TestOSDescriptor(t *testing.T) {
	f := create(t, vfs.OS(t.TempDir()), "a")
	defer f.Close()
	if d, ok := f.(vfs.Descriptor); !ok || d.Fd() == ^uintptr(0) {
		t.Fatal("a file of the operating system has no descriptor")
	}
}

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
