package topic

import (
	"fmt"
	"math"
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

	// minSlack and maxSlack bound how much room is left when topics begin to let go
	// of their oldest records; they go on until there is twice as much.
	minSlack = 64 << 10
	maxSlack = 64 << 20

	// refusingInterval is how often the log says that appends are refused.
	refusingInterval = time.Minute

	unlimited = math.MaxInt64
)

// space watches how much room there is: on the disk, and below the budget.
type space struct {
	fs      vfs.Space    // nil where the file system cannot tell
	ballast *vfs.Ballast // nil: none
	reserve int64
	bytes   int64        // the budget; 0: all but the reserve
	percent int          // the same, of the disk; 0: all
	sizes   func() int64 // bytes of all segments

	free, total atomic.Int64
	appended    atomic.Int64 // since the disk was asked; an upper bound on what it lost
	used        atomic.Int64 // bytes of all segments
	grown       atomic.Int64 // since they were counted
	refused     atomic.Bool  // the last ordinary append was
	released    atomic.Int64 // by the ballast when the disk was asked

	short chan struct{} // room is running out
}

func newSpace(o *Options, sizes func() int64) *space {
	s := &space{ballast: o.Ballast, reserve: o.ReserveBytes, bytes: o.BudgetBytes, percent: o.BudgetPercent, sizes: sizes, short: make(chan struct{}, 1)}
	s.fs, _ = o.FS.(vfs.Space)
	if s.fs == nil && s.ballast != nil {
		s.fs = s.ballast
	}
	s.measure()
	return s
}

// measure asks the disk and counts what the segments hold.
func (s *space) measure() {
	s.measureDisk()
	s.grown.Store(0)
	s.used.Store(s.sizes())
}

// measureDisk asks the disk. An answer that cannot be had is no reason to refuse.
func (s *space) measureDisk() {
	if s.fs == nil {
		return
	}
	s.appended.Store(0)
	if s.ballast != nil {
		s.released.Store(s.ballast.Released())
	}
	if free, total, err := s.fs.Free(); err == nil {
		s.free.Store(free)
		s.total.Store(total)
	}
}

// held is how much of the reserve the ballast holds: room that the disk does not show.
func (s *space) held() int64 {
	if s.ballast == nil {
		return 0
	}
	return s.ballast.Held()
}

// budget is how many bytes all segments may have; unlimited if only the reserve
// limits them.
func (s *space) budget() int64 {
	limit := int64(unlimited)
	if s.bytes > 0 {
		limit = s.bytes
	}
	if total := s.total.Load(); total > 0 && s.percent > 0 && s.percent < 100 {
		limit = min(limit, total/100*int64(s.percent))
	}
	return limit
}

// diskRoom is how many bytes can be written before less than keep is left of the disk.
func (s *space) diskRoom(keep int64) int64 {
	if s.total.Load() == 0 {
		return unlimited
	}
	return s.free.Load() + s.held() - s.appended.Load() - keep
}

func (s *space) budgetRoom() int64 {
	limit := s.budget()
	if limit == unlimited {
		return unlimited
	}
	return limit - s.used.Load() - s.grown.Load()
}

// room is how many bytes ordinary topics may still append.
func (s *space) room() int64 { return min(s.diskRoom(s.reserve), s.budgetRoom()) }

// slack is the room below which topics let go of records, for a limit.
func slack(limit int64) int64 { return min(max(limit/32, minSlack), maxSlack) }

// lack is how many bytes have to go before there is room again; 0 while there is.
func (s *space) lack() (bytes int64) {
	if room, low := s.diskRoom(s.reserve), slack(s.total.Load()-s.reserve); room < low {
		bytes = 2*low - room
	}
	if room, low := s.budgetRoom(), slack(s.budget()); room < low {
		bytes = max(bytes, 2*low-room)
	}
	return bytes
}

// take asks for room for n bytes, which are written twice: to the write-ahead
// log's recycled files, which cost nothing, and to a segment. Internal topics may
// use three quarters of the reserve, and are not held to the budget.
func (s *space) take(n int, internal bool) error {
	s.grown.Add(int64(n))
	if s.appended.Add(int64(n)) > spaceBytes || s.ballast != nil && s.ballast.Released() != s.released.Load() {
		s.measureDisk()
		s.appended.Add(int64(n))
	}
	if internal {
		if s.diskRoom(s.reserve/4) >= 0 {
			return nil
		}
	} else {
		if s.lack() > 0 {
			s.signal()
		}
		if s.room() >= 0 {
			if s.refused.Load() {
				s.refused.Store(false)
			}
			return nil
		}
		s.refused.Store(true)
		s.signal()
	}
	s.appended.Add(-int64(n))
	s.grown.Add(-int64(n))
	return s.full(n)
}

func (s *space) signal() {
	select {
	case s.short <- struct{}{}:
	default:
	}
}

// overBudget reports whether the budget, not the disk, is what limits the room.
func (s *space) overBudget() bool { return s.budgetRoom() < s.diskRoom(s.reserve) }

// full says what is used up, so that n more bytes (0: any) have no room, and how to mend it.
func (s *space) full(n int) error {
	more := ""
	if n > 0 {
		more = fmt.Sprintf(" for %d bytes more", n)
	}
	const mend = "remove data, shorten retention or give a topic weir.disk.policy=drop-oldest; appends resume by themselves"
	if total := s.total.Load(); total > 0 && s.reserve >= total {
		return fmt.Errorf("%w%s: the disk has %d KiB and data.reserve is %d KiB: set it lower", record.ErrDiskFull, more, total>>10, s.reserve>>10)
	}
	if s.overBudget() {
		return fmt.Errorf("%w%s: the segments have %d KiB, data.budget allows %d KiB; %s",
			record.ErrDiskFull, more, (s.used.Load()+s.grown.Load())>>10, s.budget()>>10, mend)
	}
	return fmt.Errorf("%w%s: %d KiB left, data.reserve is %d KiB; %s",
		record.ErrDiskFull, more, max(0, s.free.Load()+s.held())>>10, s.reserve>>10, mend)
}

// mayGrow reports whether the disk has room for another file of the write-ahead log.
func (s *space) mayGrow(fileBytes int64) bool { return s.diskRoom(s.reserve) > 2*fileBytes }

// growBallast takes back what the ballast had to let go of, when the disk has it
// to spare. It leaves a little, lest what is let go of at the next write is taken
// back before it.
func (s *space) growBallast() error {
	if s.ballast == nil {
		return nil
	}
	free, total, err := s.fs.Free()
	if err != nil || total == 0 {
		return nil
	}
	spare := free - max(s.ballast.Size()/16, minSlack)
	lacking := s.ballast.Size() - s.ballast.Held()
	if lacking <= 0 || spare < min(lacking, minSlack) {
		return nil
	}
	err = s.ballast.Grow(min(spare, lacking))
	s.measureDisk()
	return err
}

// Disk is the room on the disk in bytes, as last seen; total 0 if unknown.
func (s *Set) Disk() (free, total int64) { return s.space.free.Load(), s.space.total.Load() }

// spaceLoop watches the room, keeps the ballast whole and has topics let go of
// records when there is too little.
func (s *Set) spaceLoop() {
	defer s.background.Done()
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	refused, said := false, time.Time{}
	s.keepBallast()
	for ticks := 0; ; {
		short := s.space.short
		if !s.Reclaim() {
			short = nil // nothing to be had: looked at again when time has passed
		}
		select {
		case <-tick.C:
			s.space.measure()
			s.keepBallast()
			if now := s.space.refused.Load(); now != refused {
				refused = now
				s.logRefusing(now, &said)
				if now { // the less a recovery has to write again the less room it needs
					_ = s.checkpoint() // its error has stopped the write-ahead log
				}
			}
			if ticks++; ticks%int(trendInterval/spaceInterval) == 0 {
				s.trends.observe(time.Now(), s)
			}
		case <-short:
		case <-s.stop:
			return
		}
	}
}

// logRefusing says that appends are refused from now on, or no longer; at most every
// refusingInterval, since at the border small ones find room and large ones do not.
func (s *Set) logRefusing(refusing bool, said *time.Time) {
	switch {
	case refusing && time.Since(*said) >= refusingInterval:
		*said = time.Now()
		s.opts.Log.Warn("appends are refused", "err", s.space.full(0))
	case !refusing && !said.IsZero():
		s.opts.Log.Info("appends are accepted again")
	}
}

// sayNoRoom says, at most every refusingInterval, that what is acknowledged waits in
// the write-ahead log for room.
func (s *Set) sayNoRoom(err error) {
	now, last := time.Now().UnixNano(), s.saidNoRoom.Load()
	if now-last >= int64(refusingInterval) && s.saidNoRoom.CompareAndSwap(last, now) {
		s.opts.Log.Error("the disk is full and the reserve is used up: what is acknowledged waits in the write-ahead log; make room", "err", err)
	}
}

func (s *Set) keepBallast() {
	if err := s.space.growBallast(); err != nil {
		s.opts.Log.Warn("the reserve is not whole", "held", s.space.held(), "err", err)
	}
}

// segmentBytes is the bytes of all segments.
func (s *Set) segmentBytes() (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.topics {
		n += t.size()
	}
	return n
}

// size is the bytes of the topic's segments.
func (t *Topic) size() (n int64) {
	for _, p := range t.Partitions() {
		if p.log != nil { // nil while the box recovers
			n += p.Size()
		}
	}
	return n
}
