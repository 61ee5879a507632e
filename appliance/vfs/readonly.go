package vfs

import (
	"fmt"
	"io"
	"io/fs"
)

// ReadOnly is fsys for one who only looks: whatever would change it does nothing and
// says that it was done. A file that is created is empty and stays so.
func ReadOnly(fsys FS) FS { return readOnly{fsys} }

type readOnly struct{ FS }

func (r readOnly) Create(name string) (File, error) {
	if f, err := r.FS.Open(name); err == nil {
		return nil, fmt.Errorf("vfs: create %s: %w", name, errJoinClose(fs.ErrExist, f))
	}
	return nothing{}, nil
}

func errJoinClose(err error, c io.Closer) error {
	_ = c.Close() // it was only looked at
	return err
}

func (r readOnly) Open(name string) (File, error) {
	f, err := r.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f}, nil
}

func (r readOnly) Remove(string) error         { return nil }
func (r readOnly) RemoveAll(string) error      { return nil }
func (r readOnly) Rename(string, string) error { return nil }
func (r readOnly) MkdirAll(string) error       { return nil }
func (r readOnly) SyncDir(string) error        { return nil }

type readOnlyFile struct{ File }

func (readOnlyFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (readOnlyFile) Truncate(int64) error                   { return nil }
func (readOnlyFile) Sync() error                            { return nil }

type nothing struct{}

func (nothing) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nothing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nothing) Size() (int64, error)                   { return 0, nil }
func (nothing) Truncate(int64) error                   { return nil }
func (nothing) Sync() error                            { return nil }
func (nothing) Close() error                           { return nil }
