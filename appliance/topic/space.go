package topic

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

const (
	// DefaultReserveBytes is kept free on the disk: what is acknowledged already
	// must find room in its segments, and offset commits and deletes must go on.
	DefaultReserveBytes = 64 << 20

	// spaceInterval and spaceBytes are how often the disk is asked: by time, and by
	// what was appended since.
	spaceInterval = time.Second
	spaceBytes    = 8 << 20
)

// space watches how much room the disk has.
type space struct {
	fs      vfs.Space // nil where the file system cannot tell
	reserve int64

	free, total atomic.Int64
	appended    atomic.Int64 // since the disk was asked; an upper bound on what it lost
}

func newSpace(fs vfs.FS, reserve int64) *space {
	s := &space{reserve: reserve}
	s.fs, _ = fs.(vfs.Space)
	s.measure()
	return s
}

// measure asks the disk. An answer that cannot be had is no reason to refuse.
func (s *space) measure() {
	if s.fs == nil {
		return
	}
	s.appended.Store(0)
	if free, total, err := s.fs.Free(); err == nil {
		s.free.Store(free)
		s.total.Store(total)
	}
}

// take asks for room for n bytes, which are written twice: to the write-ahead
// log's recycled files, which cost nothing, and to a segment. Internal topics may
// use three quarters of the reserve.
func (s *space) take(n int, internal bool) error {
	if s.fs == nil {
		return nil
	}
	appended := s.appended.Add(int64(n))
	if appended > spaceBytes {
		s.measure()
		appended = int64(n)
	}
	keep := s.reserve
	if internal {
		keep /= 4
	}
	if free := s.free.Load() - appended; free < keep && s.total.Load() > 0 {
		return fmt.Errorf("%w: %d MiB left, the reserve is %d MiB; remove data or shorten retention, appends resume by themselves",
			record.ErrDiskFull, max(0, s.free.Load())>>20, s.reserve>>20)
	}
	return nil
}

// Disk is the room on the disk in bytes, as last seen; total 0 if unknown.
func (s *Set) Disk() (free, total int64) { return s.space.free.Load(), s.space.total.Load() }

func (s *Set) spaceLoop() {
	defer s.background.Done()
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.space.measure()
		case <-s.stop:
			return
		}
	}
}
