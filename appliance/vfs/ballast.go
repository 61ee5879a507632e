package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ballastStep is the least that is let go of at once. It is not more because somebody
// else may take what is left of it.
const ballastStep = 256 << 10

// The pauses after which more is let go of, because somebody else took the last.
const (
	firstTheftPause = time.Millisecond
	maxTheftPause   = 64 * time.Millisecond
	maxEnsures      = 2 // how often Ensure lets go: its caller can be refused
)

// Ballast is a file system that keeps a file for bad times. When another one, or
// somebody else on the same disk, has filled it to the last byte, what is written
// here still finds room: the ballast lets go of as much of its file as it takes,
// and the operation is tried again. Only writes, names and sizes are: a Sync that
// failed is never repeated, see the package's rules.
//
// Somebody else may be faster and take what was let go of. Then the ballast shrinks
// until the operation succeeds or nothing is left of it, with longer and longer pauses:
// whoever fills a disk takes all he is given while he tries, and mostly stops when he
// is given nothing.
type Ballast struct {
	FS
	name string
	size int64

	mu   sync.Mutex // one change of the file at a time
	f    File       // nil until there is one
	held atomic.Int64
	gave atomic.Int64 // bytes let go of since it was opened
}

// NewBallast returns fsys with a ballast of up to size bytes in the file name, of
// which Grow has to be called to take some. What an earlier process took is there.
func NewBallast(fsys FS, name string, size int64) (*Ballast, error) {
	b := &Ballast{FS: fsys, name: name, size: max(size, 0)}
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vfs: open the ballast: %w", err)
	}
	held, err := f.Size()
	if err == nil && held > b.size { // it was configured smaller
		held = b.size
		err = f.Truncate(held)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vfs: size of the ballast: %w", err), f.Close())
	}
	b.f = f
	b.held.Store(held)
	return b, nil
}

// Size is how many bytes the ballast is to hold, Held how many it does.
func (b *Ballast) Size() int64 { return b.size }
func (b *Ballast) Held() int64 { return b.held.Load() }

// Released is how many bytes were let go of since NewBallast.
func (b *Ballast) Released() int64 { return b.gave.Load() }

// Free implements Space, without what the ballast holds. It is 0, 0 where the file
// system cannot tell.
func (b *Ballast) Free() (free, total int64, err error) {
	s, ok := b.FS.(Space)
	if !ok {
		return 0, 0, nil
	}
	return s.Free()
}

// CanSyncAll implements AllSyncer.
func (b *Ballast) CanSyncAll() bool {
	s, ok := b.FS.(AllSyncer)
	return ok && s.CanSyncAll()
}

// SyncAll implements AllSyncer. Like every sync it is done once.
func (b *Ballast) SyncAll() error {
	if s, ok := b.FS.(AllSyncer); ok {
		return s.SyncAll()
	}
	return errors.ErrUnsupported
}

// Ensure lets go of ballast until n bytes are free, for a writer that does not write
// through b. It does nothing where the file system cannot tell.
func (b *Ballast) Ensure(n int64) {
	for try := range maxEnsures {
		b.pause(try)
		free, total, err := b.Free()
		if err != nil || total == 0 || free >= n || !b.Release(n-free) {
			return
		}
	}
}

// pause waits before ballast is let go of once more for the same operation.
func (b *Ballast) pause(tries int) {
	if tries > 0 && b.held.Load() > 0 {
		time.Sleep(min(firstTheftPause<<min(tries-1, 16), maxTheftPause))
	}
}

// Release gives at least n bytes back to the disk, or all that is left. It is false
// when there was nothing to give.
func (b *Ballast) Release(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.held.Load()
	if held == 0 {
		return false
	}
	if size, err := b.f.Size(); err == nil && size < held { // another process let go of it
		held = size
	}
	left := max(0, held-max(n, ballastStep))
	// Synced, because file systems with a journal hold freed blocks back until the
	// change is committed.
	if held == 0 || b.f.Truncate(left) != nil || b.f.Sync() != nil {
		b.held.Store(0)
		return false
	}
	b.held.Store(left)
	b.gave.Add(held - left)
	return true
}

// Grow takes up to n bytes more, as far as the ballast is short of them. The
// caller has seen that the disk has them to spare.
func (b *Ballast) Grow(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.held.Load()
	n = min(n, b.size-held)
	if n <= 0 {
		return nil
	}
	if b.f == nil {
		f, err := b.FS.Create(b.name)
		if err != nil {
			return fmt.Errorf("vfs: make the ballast: %w", err)
		}
		b.f = f
	}
	err := allocate(b.f, held, n)
	if err == nil {
		err = b.f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("vfs: grow the ballast to %d bytes: %w", held+n, err), b.f.Truncate(held))
	}
	b.held.Store(held + n)
	return nil
}

// Close closes the ballast's file, which stays.
func (b *Ballast) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.f == nil {
		return nil
	}
	f := b.f
	b.f = nil
	b.held.Store(0)
	return f.Close()
}

// Allocator is implemented by files that can be given room without being written.
type Allocator interface {
	// Allocate gives the file n bytes at offset at and lets it end behind them. The
	// error wraps errors.ErrUnsupported where the file system cannot do so.
	Allocate(at, n int64) error
}

// allocate gives f real room. Where that cannot be had for nothing it is written.
func allocate(f File, at, n int64) error {
	if a, ok := f.(Allocator); ok {
		if err := a.Allocate(at, n); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	zeros := make([]byte, min(n, 256<<10))
	for end := at + n; at < end; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// again reports whether an operation that wanted n bytes failed for want of room,
// and ballast was let go of so that it is worth another try, after so many.
func (b *Ballast) again(tries int, err error, n int) bool {
	if err == nil || !Full(err) {
		return false
	}
	b.pause(tries)
	return b.Release(2 * int64(n))
}

// Full reports whether err says that the disk, or what its owner may use of it, is full.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (b *Ballast) Create(name string) (File, error) {
	f, err := b.FS.Create(name)
	for try := 0; b.again(try, err, 0); try++ {
		f, err = b.FS.Create(name)
	}
	return b.wrap(f, err)
}

func (b *Ballast) Open(name string) (File, error) { return b.wrap(b.FS.Open(name)) }

func (b *Ballast) wrap(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	if d, ok := f.(Descriptor); ok {
		return ballastDescriptor{ballastFile{f, b}, d}, nil
	}
	return ballastFile{f, b}, nil
}

// Remove and RemoveAll need room too where a change is a copy.
func (b *Ballast) Remove(name string) error {
	err := b.FS.Remove(name)
	for try := 0; b.again(try, err, 0); try++ {
		err = b.FS.Remove(name)
	}
	return err
}

func (b *Ballast) RemoveAll(name string) error {
	err := b.FS.RemoveAll(name)
	for try := 0; b.again(try, err, 0); try++ {
		err = b.FS.RemoveAll(name)
	}
	return err
}

func (b *Ballast) Rename(oldname, newname string) error {
	err := b.FS.Rename(oldname, newname)
	for try := 0; b.again(try, err, 0); try++ {
		err = b.FS.Rename(oldname, newname)
	}
	return err
}

func (b *Ballast) MkdirAll(dir string) error {
	err := b.FS.MkdirAll(dir)
	for try := 0; b.again(try, err, 0); try++ {
		err = b.FS.MkdirAll(dir)
	}
	return err
}

// ballastFile is a file that draws on the ballast.
type ballastFile struct {
	File
	b *Ballast
}

// WriteAt writes the same bytes to the same place again if they did not fit.
func (f ballastFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	for try := 0; f.b.again(try, err, len(p)); try++ {
		n, err = f.File.WriteAt(p, at)
	}
	return n, err
}

// StartWriteback implements WritebackStarter.
func (f ballastFile) StartWriteback(from, n int64) error { return beginWriteback(f.File, from, n) }

func (f ballastFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	for try := 0; f.b.again(try, err, 0); try++ {
		err = f.File.Truncate(size)
	}
	return err
}

type ballastDescriptor struct {
	ballastFile
	Descriptor
}
