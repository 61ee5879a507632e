package vfs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// counting counts the files of a file system that are open, and fails syncs.
type counting struct {
	vfs.FS
	mu          sync.Mutex
	open, most  int
	syncs       int
	failSyncs   bool
	dirtyClosed int
}

var errDisk = errors.New("disk failure")

func (c *counting) Create(name string) (vfs.File, error) { return c.wrap(c.FS.Create(name)) }
func (c *counting) Open(name string) (vfs.File, error)   { return c.wrap(c.FS.Open(name)) }

func (c *counting) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.most = max(c.most, c.open)
	return &countedFile{File: f, c: c}, nil
}

type countedFile struct {
	vfs.File
	c     *counting
	dirty bool
}

func (f *countedFile) WriteAt(b []byte, at int64) (int, error) {
	f.c.mu.Lock()
	f.dirty = true
	f.c.mu.Unlock()
	return f.File.WriteAt(b, at)
}

func (f *countedFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.syncs++
	if f.c.failSyncs {
		return errDisk
	}
	f.dirty = false
	return nil
}

func (f *countedFile) Close() error {
	f.c.mu.Lock()
	f.c.open--
	if f.dirty {
		f.c.dirtyClosed++
	}
	f.c.mu.Unlock()
	return f.File.Close()
}

func newPool(t *testing.T, limit int) (*vfs.Pool, *counting) {
	c := &counting{FS: vfs.OS(t.TempDir())}
	return vfs.NewPool(c, limit), c
}

func TestPoolBoundsOpenFiles(t *testing.T) {
	pool, c := newPool(t, 4)
	var files []vfs.File
	for i := range 20 {
		f, err := pool.Create(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	const seed = 7
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	want := make([]byte, len(files))
	for range 2000 {
		i := rnd.IntN(len(files))
		switch rnd.IntN(4) {
		case 0, 1:
			want[i]++
			if _, err := files[i].WriteAt(want[i:i+1], 5); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := files[i].Sync(); err != nil {
				t.Fatal(err)
			}
		case 3:
			if want[i] == 0 {
				continue
			}
			b := make([]byte, 1)
			if _, err := files[i].ReadAt(b, 5); err != nil || b[0] != want[i] {
				t.Fatalf("file %d holds %d, %v; want %d", i, b[0], err, want[i])
			}
		}
	}
	if c.most > 5 { // one is opened before another is closed
		t.Fatalf("%d files were open at a time, the limit is 4", c.most)
	}
	if c.dirtyClosed > 0 {
		t.Fatalf("%d files were closed with writes that no sync covers: an error of the disk would be lost", c.dirtyClosed)
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err == nil {
			t.Fatal("a second Close succeeded")
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); err == nil {
			t.Fatal("a closed file was read")
		}
	}
	if open, _ := pool.Stats(); open != 0 || c.open != 0 {
		t.Fatalf("%d of the pool's files are open, %d in all", open, c.open)
	}
}

func TestPoolKeepsTheErrorOfItsOwnSync(t *testing.T) {
	pool, c := newPool(t, 1)
	f, err := pool.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	c.failSyncs = true
	g, err := pool.Create("b") // closes a, after a sync
	if err != nil {
		t.Fatal(err)
	}
	c.failSyncs = false
	if err := f.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("Sync = %v after the pool's own sync failed: what was written may be lost", err)
	}
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("Sync = %v once the file is open again", err)
	}
	_ = g.Close()
	_ = f.Close()
}

// The sync of everything knows of a sync that failed when a file was closed.
func TestSyncAllKnowsTheErrorOfThePoolsOwnSync(t *testing.T) {
	disk := crashfs.New()
	pool := vfs.NewPool(disk, 1)
	f, err := pool.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			return errDisk
		}
		return nil
	}, nil)
	g, err := pool.Create("b") // closes a, after a sync
	if err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil, nil)
	for range 2 {
		if err := pool.SyncAll(); !errors.Is(err, errDisk) {
			t.Errorf("SyncAll = %v after the pool's own sync failed: what was written may be lost", err)
		}
	}
	_ = g.Close()
	_ = f.Close()
}

func TestPoolClosesDerivedFilesUnsynced(t *testing.T) {
	pool, c := newPool(t, 1)
	f, err := pool.Derived().Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Create("b"); err != nil {
		t.Fatal(err)
	}
	if c.syncs != 0 || c.dirtyClosed != 1 {
		t.Fatalf("%d syncs, %d closed; want the file closed without one", c.syncs, c.dirtyClosed)
	}
}

func TestPinnedFileOutlivesItsName(t *testing.T) {
	pool, c := newPool(t, 1)
	f, err := pool.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{9}, 0); err != nil {
		t.Fatal(err)
	}
	pin := f.(vfs.Pinner)
	pinned, err := pin.Pin()
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := pool.Create(fmt.Sprint(c.open, c.most)); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 1)
	if _, err := pinned.ReadAt(b, 0); err != nil || b[0] != 9 {
		t.Fatalf("pinned file: %v, %v", b, err)
	}
	pin.Unpin()
	if _, err := pin.Pin(); err == nil {
		t.Fatal("a closed file was pinned")
	}
}

func TestPoolConcurrently(t *testing.T) {
	pool, _ := newPool(t, 3)
	var files []vfs.File
	for i := range 8 {
		f, err := pool.Create(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			b := make([]byte, 1)
			for i := range 300 {
				f := files[(i*7+g)%len(files)]
				if _, err := f.WriteAt([]byte{1}, int64(g)); err != nil {
					t.Error(err)
				}
				if _, err := f.ReadAt(b, int64(g)); err != nil || b[0] != 1 {
					t.Error(b, err)
				}
				if err := f.Sync(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if open, _ := pool.Stats(); open != 0 {
		t.Fatalf("%d files are left open", open)
	}
}
