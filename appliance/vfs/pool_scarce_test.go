package vfs_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
)

// scarce is a file system of a process that may have few files open.
type scarce struct {
	vfs.FS
	left *atomic.Int64
}

type scarceFile struct {
	vfs.File
	left *atomic.Int64
}

func (s scarce) Create(name string) (vfs.File, error) { return s.take(name, s.FS.Create) }
func (s scarce) Open(name string) (vfs.File, error)   { return s.take(name, s.FS.Open) }

func (s scarce) take(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if s.left.Add(-1) < 0 {
		s.left.Add(1)
		return nil, fmt.Errorf("vfs: open %s: %w", name, syscall.EMFILE)
	}
	f, err := open(name)
	if err != nil {
		s.left.Add(1)
		return nil, err
	}
	return scarceFile{f, s.left}, nil
}

func (f scarceFile) Close() error {
	f.left.Add(1)
	return f.File.Close()
}

// Connections and other programs take descriptors, too: where none is left for a file of
// the pool, it closes others, and reads and writes go on.
func TestPoolDoesWithFewerDescriptors(t *testing.T) {
	left := new(atomic.Int64)
	left.Store(10)
	pool := vfs.NewPool(scarce{vfs.OS(t.TempDir()), left}, 100)
	var files []vfs.File
	for i := range 30 {
		f, err := pool.Create(fmt.Sprint(i))
		if err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
		if _, err := f.WriteAt([]byte{byte(i)}, 0); err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
		files = append(files, f)
	}
	left.Add(-5) // somebody else's now; the pool has up to ten
	for i, f := range files {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 0); err != nil || b[0] != byte(i) {
			t.Fatalf("file %d reads %v, %v", i, b, err)
		}
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if left.Load() != 5 {
		t.Errorf("%d descriptors are left of 5", left.Load())
	}
}
