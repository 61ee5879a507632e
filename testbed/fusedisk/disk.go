//go:build linux

// Package fusedisk is a disk with a volatile write cache whose power can be cut.
//
// It is a FUSE file system with a single file. Put a loop device on the file and a
// file system on that: what the file system writes stays in the cache, sector by
// sector, until a flush (fsync of the file) makes it stable. A cut keeps a random
// subset of the sectors in the cache and drops the others, so writes come out torn
// and out of order, as they do on real disks.
package fusedisk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// SectorBytes is what a disk writes all or nothing.
	SectorBytes = 512

	// maxDirty bounds the cache, in sectors (32 MiB): a fuller one goes to the
	// platters by itself, as that of a real disk does.
	maxDirty = 64 << 10
)

// ErrPower is what is wrong with a disk without power.
var ErrPower = errors.New("fusedisk: the power is cut")

// Disk is the disk. Its methods are safe for concurrent use.
type Disk struct {
	size int64

	mu     sync.Mutex
	stable *os.File
	dirty  map[int64]*[SectorBytes]byte // by sector number
	dead   bool
	armed  *cut
	lies   bool
	stats  Stats
}

// Stats counts what happened to the disk.
type Stats struct {
	Flushes, Cuts           int64
	Written                 int64 // sectors written to the cache
	Dirty, Kept, Dropped    int64 // sectors in the cache at cuts, and what became of them
	MostDirty, PartialDrops int64 // the most at one cut; cuts that kept some and dropped some
}

// cut is a power cut to come.
type cut struct {
	threshold int // dirty sectors at which it happens
	keep      float64
	rng       *rand.Rand
	done      chan struct{}
}

// New makes a disk whose stable sectors are the file image, which may hold a file
// system already.
func New(image string) (*Disk, error) {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("fusedisk: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("fusedisk: %w", err)
	}
	return &Disk{size: st.Size() / SectorBytes * SectorBytes, stable: f, dirty: map[int64]*[SectorBytes]byte{}}, nil
}

// Close gives the image free. What was not flushed is lost.
func (d *Disk) Close() error { return d.stable.Close() }

// Stats returns the counts so far.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Lie makes the disk answer flushes without doing them, as bad disks do.
func (d *Disk) Lie() {
	d.mu.Lock()
	d.lies = true
	d.mu.Unlock()
}

// Cut cuts the power at the write that brings the cache to dirty sectors, or after
// wait, whatever comes first. Of the sectors in the cache each is kept with
// probability keep. nudge is called meanwhile, again and again, to get writes.
func (d *Disk) Cut(rng *rand.Rand, dirty int, keep float64, wait time.Duration, nudge func()) {
	c := &cut{threshold: max(1, dirty), keep: keep, rng: rng, done: make(chan struct{})}
	d.mu.Lock()
	d.armed = c
	d.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		nudge()
		select {
		case <-c.done:
			return
		case <-timer.C:
			d.mu.Lock()
			if !d.dead {
				d.cut()
			}
			d.mu.Unlock()
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// cut decides the fate of every dirty sector, in their order, so that one seed
// and one cache give one image.
func (d *Disk) cut() {
	c := d.armed
	d.armed, d.dead = nil, true
	numbers := make([]int64, 0, len(d.dirty))
	for n := range d.dirty {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var kept int64
	for _, n := range numbers {
		if c.rng.Float64() < c.keep && d.settle(n) == nil {
			kept++
		}
	}
	clear(d.dirty)
	s, all := &d.stats, int64(len(numbers))
	s.Cuts++
	s.Dirty += all
	s.Kept += kept
	s.Dropped += all - kept
	s.MostDirty = max(s.MostDirty, all)
	if kept > 0 && kept < all {
		s.PartialDrops++
	}
	close(c.done)
}

// Power brings the disk back with what was stable.
func (d *Disk) Power() {
	d.mu.Lock()
	d.dead = false
	d.mu.Unlock()
}

// settle makes one dirty sector stable.
func (d *Disk) settle(n int64) error {
	_, err := d.stable.WriteAt(d.dirty[n][:], n*SectorBytes)
	return err
}

func (d *Disk) flush() syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return syscall.EIO
	}
	d.stats.Flushes++
	if d.lies {
		return 0
	}
	return d.settleAll()
}

func (d *Disk) settleAll() syscall.Errno {
	for n := range d.dirty {
		if d.settle(n) != nil {
			return syscall.EIO
		}
	}
	clear(d.dirty)
	return 0
}

func (d *Disk) write(p []byte, off int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off%SectorBytes != 0 || len(p)%SectorBytes != 0 || off+int64(len(p)) > d.size {
		return 0, syscall.EINVAL // no block device gets this
	}
	for at := 0; at < len(p); at += SectorBytes {
		if d.dead {
			return 0, syscall.EIO
		}
		n := (off + int64(at)) / SectorBytes
		s := d.dirty[n]
		if s == nil {
			s = new([SectorBytes]byte)
			d.dirty[n] = s
		}
		copy(s[:], p[at:])
		d.stats.Written++
		if d.armed != nil && len(d.dirty) >= d.armed.threshold {
			d.cut()
		}
	}
	if len(d.dirty) > maxDirty {
		if errno := d.settleAll(); errno != 0 {
			return 0, errno
		}
	}
	return len(p), 0
}

func (d *Disk) read(p []byte, off int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, syscall.EIO
	}
	if off >= d.size {
		return 0, 0
	}
	p = p[:min(int64(len(p)), d.size-off)]
	if _, err := d.stable.ReadAt(p, off); err != nil {
		return 0, syscall.EIO
	}
	for n := off / SectorBytes; n*SectorBytes < off+int64(len(p)); n++ {
		if s := d.dirty[n]; s != nil {
			at := n*SectorBytes - off // negative when the read begins within the sector
			copy(p[max(0, at):], s[max(0, -at):])
		}
	}
	return len(p), 0
}
