package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The data is its owner's alone: it may hold what devices sent in confidence.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

// OS is the operating system's file system below the folder root. "" and "."
// name root itself, which MkdirAll("") makes if there is none; a name that leads
// out of root is refused with fs.ErrInvalid. Files implement [Descriptor].
//
// Symbolic links below root are followed: root belongs to Weir, and no name in
// it comes from outside without having been checked as a topic name.
func OS(root string) FS { return &osFS{root: root} }

type osFS struct {
	root string

	mu    sync.Mutex
	whole *os.File // for SyncAll
}

func (o *osFS) Create(name string) (File, error) {
	return o.open("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (o *osFS) Open(name string) (File, error) {
	return o.open("open", name, os.O_RDWR)
}

// open relies on package os for O_CLOEXEC: it sets it on every file.
func (o *osFS) open(op, name string, flag int) (File, error) {
	path, err := o.below(op, name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flag, fileMode)
	if err != nil {
		return nil, fmt.Errorf("vfs: %w", err)
	}
	return osFile{f}, nil
}

func (o *osFS) Remove(name string) error {
	path, err := o.below("remove", name)
	if err != nil {
		return err
	}
	return wrap(os.Remove(path))
}

func (o *osFS) RemoveAll(name string) error {
	path, err := o.below("remove", name)
	if err != nil {
		return err
	}
	return wrap(os.RemoveAll(path))
}

func (o *osFS) Rename(oldname, newname string) error {
	from, err := o.below("rename", oldname)
	if err != nil {
		return err
	}
	to, err := o.below("rename", newname)
	if err != nil {
		return err
	}
	return wrap(os.Rename(from, to))
}

func (o *osFS) MkdirAll(dir string) error {
	path, err := o.path("mkdir", dir)
	if err != nil {
		return err
	}
	if err := makeDurable(o.root); err != nil {
		return err
	}
	return wrap(os.MkdirAll(path, dirMode))
}

func (o *osFS) List(dir string) ([]string, error) {
	path, err := o.path("list", dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, fmt.Errorf("vfs: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (o *osFS) SyncDir(dir string) error {
	path, err := o.path("sync", dir)
	if err != nil {
		return err
	}
	return syncDir(path)
}

// path is where name lies; name may be the root itself.
func (o *osFS) path(op, name string) (string, error) {
	if name == "" || name == "." {
		return o.root, nil
	}
	return o.below(op, name)
}

func (o *osFS) below(op, name string) (string, error) {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) || filepath.Clean(local) == "." {
		return "", fmt.Errorf("vfs: %s %q below %s: %w", op, name, o.root, fs.ErrInvalid)
	}
	return filepath.Join(o.root, local), nil
}

// makeDurable makes the root and what is missing above it. The caller can name no
// folder above the root, so these names are synced here.
func makeDurable(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return wrap(err)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := makeDurable(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("vfs: %w", err)
	}
	return syncDir(parent)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("vfs: %w", err)
	}
	return wrap(errors.Join(d.Sync(), d.Close()))
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vfs: %w", err)
}

// osFile is a File; *os.File brings ReadAt, WriteAt, Close, Truncate and Fd.
type osFile struct{ *os.File }

var (
	_ File       = osFile{}
	_ Descriptor = osFile{}
)

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// StartWriteback implements [WritebackStarter] on Linux.
func (f osFile) StartWriteback(from, n int64) error { return startWriteback(f.File, from, n) }

// Sync is fdatasync where there is one: unlike fsync it leaves out the times of
// the file, which on a journalling file system saves a journal commit per round.
func (f osFile) Sync() error {
	if err := fdatasync(f.File); err != nil {
		return fmt.Errorf("vfs: sync %s: %w", f.Name(), err)
	}
	return nil
}
