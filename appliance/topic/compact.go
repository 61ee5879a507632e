package topic

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Defaults and limits of the cleaner.
const (
	DefaultCleanerInterval = 15 * time.Second
	// cleanRetry is when a partition that could not be cleaned is tried again.
	cleanRetry = time.Hour
	// cleanLook is how long a partition in which no segment was sealed is not looked at.
	cleanLook = 10 * time.Minute
	// cleanNap bounds one rest under the limit on I/O, so that a stop is noticed.
	cleanNap = 100 * time.Millisecond
)

// CleanerOptions is how logs with cleanup.policy=compact are compacted. One
// goroutine does it for all topics of the box.
type CleanerOptions struct {
	Disabled bool          // log.cleaner.enable=false
	Interval time.Duration // how often there is a look (log.cleaner.backoff.ms); 0: DefaultCleanerInterval
	// MapBytes bounds the memory for keys (log.cleaner.dedupe.buffer.size), 24 bytes
	// each and a third more; 0: commitlog.DefaultMapBytes.
	MapBytes int
	// IOBytesPerSecond bounds what is read and written together
	// (log.cleaner.io.max.bytes.per.second); 0: no limit.
	IOBytesPerSecond int64
}

// CleanerStatus is what the cleaner has done since the start.
type CleanerStatus struct {
	Runs             int64   `json:"runs"` // logs cleaned
	ReadBytes        int64   `json:"read_bytes"`
	WrittenBytes     int64   `json:"written_bytes"`
	RemovedRecords   int64   `json:"removed_records"`
	SegmentsWritten  int64   `json:"segments_written"`
	SegmentsReplaced int64   `json:"segments_replaced"` // by those
	MaxDirtyRatio    float64 `json:"max_dirty_ratio"`   // of all logs, when there last was a look
	Cleaning         string  `json:"cleaning,omitempty"`
	LastError        string  `json:"last_error,omitempty"`
	// Uncleanable names the partitions that could not be cleaned, and why. They serve.
	Uncleanable map[string]string `json:"uncleanable,omitempty"`
}

// cleaner compacts one log after another, the one with the greatest dirty ratio first.
type cleaner struct {
	set *Set
	log commitlog.Cleaner
	own map[string]bool // topics that are left to those who write them

	partition *Partition // that is being cleaned; the cleaner's own
	owed      time.Duration

	mu     sync.Mutex // guards what follows
	points map[partitionID]*cleanPoint
	saved  bool // the file is as points
	status CleanerStatus
}

// partitionID names a partition of a topic that may be made anew.
type partitionID struct {
	topic     ID
	partition int32
}

// cleanPoint is what is known of one log.
type cleanPoint struct {
	dirty   int64 // from here on it was not cleaned
	horizon int64 // when the first tombstone may go, ms; math.MaxInt64 for never

	covered int64     // segments below are checkpointed: the write-ahead log does not write to them
	active  int64     // the active segment when there was nothing to do
	changes uint64    // Set.Changes then
	again   time.Time // look again then, or when the active segment is another
	ratio   float64
	err     error // why it could not be cleaned; tried again at again
}

// work is a log worth cleaning.
type work struct {
	p     *Partition
	point *cleanPoint
	until int64 // the base of the first segment that must stay
	bytes int64 // of the largest segment
	must  bool  // it has waited too long
	ratio float64
}

func newCleaner(s *Set) *cleaner {
	c := &cleaner{set: s, own: map[string]bool{}, saved: true, status: CleanerStatus{Uncleanable: map[string]string{}}}
	c.log = commitlog.Cleaner{Throttle: c.throttle}
	for _, name := range s.opts.OwnCompaction {
		c.own[name] = true
	}
	var err error
	if c.points, err = loadCleanPoints(s.opts.FS); err != nil {
		s.opts.Log.Warn("compacted topics are cleaned from their start, once", "err", err)
		c.points = map[partitionID]*cleanPoint{}
	}
	return c
}

func (c *cleaner) loop() {
	defer c.set.background.Done()
	if c.set.opts.Cleaner.Disabled {
		return
	}
	tick := time.NewTicker(c.set.Tuning().CleanerInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.set.Compact()
		case <-c.set.tuned:
			tick.Reset(c.set.Tuning().CleanerInterval)
		case <-c.set.stop:
			return
		}
	}
}

// Compact cleans all logs that are worth it by their topics' configs, one after
// another, and returns when none is left.
func (s *Set) Compact() {
	s.cleaning.Lock()
	defer s.cleaning.Unlock()
	s.wal.CatchUp() // so that what was acknowledged before the call counts
	c := s.cleaner
	for {
		w := c.dirtiest()
		if w == nil {
			break
		}
		// Whoever deletes a topic waits for the lock.
		c.clean(w)
		s.cleaning.Unlock()
		s.cleaning.Lock()
	}
	err := c.save()
	if errors.Is(err, vfs.ErrUnsynced) {
		s.Fail(err)
	} else if err != nil {
		s.opts.Log.Error("the cleaner's progress was not saved; a restart cleans again", "err", err)
	}
}

// Cleaner is what the cleaner has done.
func (s *Set) Cleaner() CleanerStatus {
	c := s.cleaner
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	st.Uncleanable = map[string]string{}
	for name, why := range c.status.Uncleanable {
		st.Uncleanable[name] = why
	}
	return st
}

// dirtiest is the log to clean next; nil when there is none.
func (c *cleaner) dirtiest() (best *work) {
	select {
	case <-c.set.closing:
		return nil
	default:
	}
	now, greatest := c.set.opts.Now(), 0.0
	failed := map[string]string{}
	for _, t := range c.set.Topics() {
		if !t.config().compact || c.own[t.name] {
			continue
		}
		for _, p := range t.Partitions() {
			if p.Err() != nil {
				continue
			}
			point := c.point(p)
			w := c.look(p, point, now)
			greatest = max(greatest, point.ratio)
			if point.err != nil {
				failed[p.tp.String()] = point.err.Error()
			}
			if w != nil && (best == nil || w.must && !best.must || w.must == best.must && w.ratio > best.ratio) {
				best = w
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.MaxDirtyRatio, c.status.Uncleanable = greatest, failed
	return best
}

func (c *cleaner) point(p *Partition) *cleanPoint {
	id := partitionID{p.topic.id, p.tp.Partition}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.points[id] == nil {
		c.points[id] = &cleanPoint{horizon: math.MaxInt64}
	}
	return c.points[id]
}

// look decides whether a log is worth cleaning. Where nothing can have changed since
// it was not, it does not ask the log.
func (c *cleaner) look(p *Partition, point *cleanPoint, now time.Time) *work {
	_, at := p.log.End()
	same := at.Segment == point.active && c.set.Changes() == point.changes || point.err != nil
	if same && now.Before(point.again) {
		return nil
	}
	config := p.topic.config()
	segments, err := p.log.Segments()
	if err != nil {
		c.failed(p, point, err)
		return nil
	}
	if dirty := point.dirty; dirty < p.start.Load() || dirty > p.hw.Load() {
		point.dirty = p.start.Load()
	}
	w := &work{p: p, point: point}
	dirty, total, again := w.measure(segments, p.LastStableOffset(), config, now)
	if total > 0 {
		w.ratio = float64(dirty) / float64(total)
	}
	point.ratio, point.err = w.ratio, nil
	if dirty > 0 && config.maxLag < math.MaxInt64 {
		due := p.oldest(point.dirty).Add(config.maxLag)
		w.must = !now.Before(due)
		again = earlier(again, due)
	}
	if point.horizon < math.MaxInt64 {
		due := time.UnixMilli(point.horizon)
		w.must = w.must || !now.Before(due)
		again = earlier(again, due)
	}
	if w.until > 0 && (w.must || dirty > 0 && w.ratio > config.minDirtyRatio) {
		return w
	}
	point.active, point.changes, point.again = at.Segment, c.set.Changes(), again
	return nil
}

// measure finds how far the log may be cleaned now, how many bytes of that are
// dirty, and when to look again.
func (w *work) measure(segments []commitlog.SegmentInfo, stable int64, config *config, now time.Time) (dirty, total int64, again time.Time) {
	again = now.Add(cleanLook)
	for i := 0; i+1 < len(segments); i++ {
		s := segments[i]
		if s.End > stable { // whether it counts is not decided
			return dirty, total, earlier(again, now.Add(DefaultCleanerInterval))
		}
		if due := time.UnixMilli(s.MaxTimestamp).Add(config.minLag); config.minLag > 0 && now.Before(due) {
			return dirty, total, earlier(again, due)
		}
		w.until, w.bytes = segments[i+1].Base, max(w.bytes, s.Bytes)
		total += s.Bytes
		if s.End > w.point.dirty {
			dirty += s.Bytes
		}
	}
	return dirty, total, again
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// oldest is the time of the first record from offset on.
func (p *Partition) oldest(offset int64) time.Time {
	section, err := p.log.Read(offset, 1)
	if err != nil || section.Len() == 0 {
		return p.set.opts.Now()
	}
	defer section.Close()
	b, err := section.AppendTo(nil)
	if err != nil || len(b) < record.HeaderLen {
		return p.set.opts.Now()
	}
	h := record.Batch(b)
	if _, ok := h.DeleteHorizon(); ok || h.LogAppendTime() || h.BaseTimestamp() < 0 {
		return time.UnixMilli(h.MaxTimestamp())
	}
	return time.UnixMilli(h.BaseTimestamp())
}

// clean cleans one log and notes what came of it.
func (c *cleaner) clean(w *work) {
	c.note(func(st *CleanerStatus) { st.Cleaning = w.p.tp.String() })
	c.log.MapBytes = c.set.Tuning().CleanerMapBytes
	done, err := c.run(w)
	c.note(func(st *CleanerStatus) {
		st.Cleaning = ""
		st.ReadBytes += done.Read
		st.WrittenBytes += done.Written
		st.RemovedRecords += done.Removed
		st.SegmentsWritten += int64(done.Segments)
		st.SegmentsReplaced += int64(done.Replaced)
	})
	if err != nil {
		c.failed(w.p, w.point, err)
		return
	}
	c.mu.Lock()
	c.status.Runs++
	w.point.dirty, w.point.horizon, c.saved = done.Dirty, done.Horizon, false
	c.mu.Unlock()
	if done.Replaced > 0 {
		c.set.opts.Log.Info("log compacted", slog.String("partition", w.p.tp.String()), slog.Int64("removed", done.Removed),
			slog.Int64("read", done.Read), slog.Int64("written", done.Written), slog.Int64("clean_up_to", done.Dirty))
	}
}

func (c *cleaner) run(w *work) (commitlog.Cleaned, error) {
	config, now := w.p.topic.config(), c.set.opts.Now()
	if err := c.settle(w); err != nil {
		return commitlog.Cleaned{}, err
	}
	aborted, marked := w.p.abortedBelow(w.until)
	if err := c.room(max(w.bytes, config.segmentBytes)); err != nil {
		return commitlog.Cleaned{}, err
	}
	c.partition, c.owed = w.p, 0
	done, err := c.log.Clean(w.p.log, commitlog.Cleaning{
		Dirty: w.point.dirty, Until: w.until, SegmentBytes: config.segmentBytes,
		Now: now.UnixMilli(), DeleteRetention: min(config.deleteRetention.Milliseconds(), math.MaxInt64-now.UnixMilli()),
		Retain: w.p.retained(), Aborted: aborted, Marked: marked,
		BeforeSwap: func(r commitlog.Replacement) error {
			w.p.stateMu.Lock()
			w.p.times.join(r.New.Base, r.New.End)
			w.p.stateMu.Unlock()
			return w.p.Expect(commitlog.Identify(r.New, r.First, true))
		},
	})
	if err == nil && done.Replaced > 0 {
		err = w.p.replaced()
	}
	if err == nil {
		w.p.forgetAborted(done.Dirty) // their records are gone; the markers stay for now
	}
	return done, err
}

// settle makes sure that the write-ahead log will not write to the segments below
// w.until again, whatever crash comes: they are checkpointed. One checkpoint does
// for all logs that the cleaner may come to.
func (c *cleaner) settle(w *work) error {
	if w.until <= w.point.covered {
		return nil
	}
	covered := map[*cleanPoint]int64{w.point: w.until}
	for _, t := range c.set.Topics() {
		if !t.config().compact || c.own[t.name] {
			continue
		}
		for _, p := range t.Partitions() {
			if _, at := p.log.End(); p.Err() == nil {
				point := c.point(p)
				covered[point] = max(covered[point], at.Segment)
			}
		}
	}
	// The round that began those active segments may hold the last batches of the
	// ones before, and a checkpoint covers only rounds that are wholly applied.
	c.set.wal.CatchUp()
	if err := c.set.checkpoint(); err != nil {
		return err
	}
	for point, base := range covered {
		point.covered = base
	}
	return nil
}

// room refuses to begin when a new segment would take what the disk's reserve is for.
func (c *cleaner) room(n int64) error {
	s := c.set.space
	if s.diskRoom(s.reserve/2) > n {
		return nil
	}
	return fmt.Errorf("%w: compaction needs %d MiB for a while, %d MiB are left", record.ErrDiskFull, n>>20, s.free.Load()>>20)
}

// retained tells which batches carry what is known of idempotent producers: were the
// partition's state lost, it is made anew from them.
func (p *Partition) retained() func(h record.Batch) bool {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	bases := map[int64]bool{}
	for _, x := range p.state.producers {
		for _, s := range x.last[:x.n] {
			bases[s.base] = true
		}
	}
	return func(h record.Batch) bool { return bases[h.BaseOffset()] }
}

// errStopped ends a cleaning because the set closes or the topic is gone.
var errStopped = errors.New("topic: cleaning was stopped")

// throttle rests as the limit on I/O demands, and ends what has lost its point.
func (c *cleaner) throttle(n int) error {
	if limit := c.set.Tuning().CleanerIOBytesPerSecond; limit > 0 {
		c.owed += time.Duration(float64(n) / float64(limit) * float64(time.Second))
	}
	for {
		select {
		case <-c.set.closing:
			return errStopped
		default:
		}
		if c.partition.Err() != nil {
			return errStopped
		}
		if c.owed < time.Millisecond {
			return nil
		}
		nap := min(c.owed, cleanNap)
		c.owed -= nap
		t := time.NewTimer(nap)
		select {
		case <-t.C:
		case <-c.set.closing:
			t.Stop()
		}
	}
}

// failed notes why a log was not cleaned. What passes by itself is tried again soon.
func (c *cleaner) failed(p *Partition, point *cleanPoint, err error) {
	now := c.set.opts.Now()
	_, at := p.log.End()
	point.active, point.changes, point.again = at.Segment, c.set.Changes(), now.Add(DefaultCleanerInterval)
	switch {
	case errors.Is(err, errStopped), errors.Is(err, record.ErrClosed), errors.Is(err, commitlog.ErrRemoved), p.Err() != nil:
		point.active = -1 // look at once
		if !errors.Is(err, commitlog.ErrRemoved) {
			point.again = now.Add(cleanLook)
		}
		return
	case errors.Is(err, record.ErrDiskFull):
		c.set.opts.Log.Warn("not compacted for want of room", "partition", p.tp.String(), "err", err)
	case errors.Is(err, commitlog.ErrNames), errors.Is(err, vfs.ErrUnsynced):
		c.set.Fail(err)
	default:
		point.again = now.Add(cleanRetry)
		c.set.opts.Log.Error("partition cannot be compacted; it serves, and grows", "partition", p.tp.String(), "again_in", cleanRetry, "err", err)
	}
	point.err = err
	c.note(func(st *CleanerStatus) {
		st.LastError = p.tp.String() + ": " + err.Error()
		st.Uncleanable[p.tp.String()] = err.Error()
	})
}

func (c *cleaner) note(change func(st *CleanerStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}
