package topic

import (
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
)

// retentionLoop removes what is too old or too much.
func (s *Set) retentionLoop() {
	defer s.background.Done()
	tick := time.NewTicker(s.opts.RetentionInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Retain()
		case <-s.stop:
			return
		}
	}
}

// Retain applies retention.ms and retention.bytes to all partitions once.
func (s *Set) Retain() {
	for _, t := range s.Topics() {
		if !t.config().delete {
			continue
		}
		for _, p := range t.Partitions() {
			if p.Err() != nil {
				continue
			}
			if err := p.retain(); err != nil {
				s.opts.Log.Error("retention", "partition", p.tp.String(), "err", err)
			}
		}
	}
}

func (p *Partition) retain() error {
	segments := p.log.Bounds()
	if len(segments) == 0 {
		return nil
	}
	_, elapsed := p.set.opts.Clock.Read()
	p.stateMu.Lock()
	p.times.prune(segments)
	p.stateMu.Unlock()
	expired, err := p.expired(segments, elapsed)
	if err != nil {
		return err
	}
	start := max(expired, p.surplus(segments))
	start = min(start, p.expendable()) // what no mirror has carried away yet waits for it
	if start <= p.start.Load() {
		return nil
	}
	if start == segments[len(segments)-1].End {
		p.rollIfIdle(start)
	}
	from := p.start.Load()
	if _, err := p.DeleteRecords(start); err != nil {
		return err
	}
	p.set.opts.Log.Info("retention removed records", "partition", p.tp.String(), "from", from, "to", start-1)
	return nil
}

// expired is the offset up to which segments are older than retention.ms, by when
// they were last appended to. A record's timestamp is its producer's word: neither
// does one of 1970 remove what came just now, nor does one of 2090 keep it for ever.
func (p *Partition) expired(segments []commitlog.SegmentInfo, elapsed time.Duration) (start int64, err error) {
	retention := p.topic.config().retention
	if retention < 0 {
		return 0, nil
	}
	if err := p.knowTimes(segments, elapsed, retention); err != nil {
		return 0, err
	}
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	for _, s := range segments {
		last := p.opened
		if t, ok := p.times.of(s.Base); ok {
			last = t.last
		}
		if s.End == s.Base || elapsed-last <= retention {
			break
		}
		start = s.End
	}
	return start, nil
}

// knowTimes reads the times that were saved before this process, at first, and saves
// them now and then. A start need not wait for 10,000 small files.
func (p *Partition) knowTimes(segments []commitlog.SegmentInfo, elapsed, retention time.Duration) error {
	fsys := p.set.opts.FS
	p.stateMu.Lock()
	loaded := p.times.loaded
	p.stateMu.Unlock()
	if !loaded {
		file, err := loadTimes(fsys, p.dir)
		if err != nil {
			return err
		}
		p.staging.Lock()
		p.stateMu.Lock()
		p.times.adopt(file, segments, p.opened)
		if t, ok := p.times.of(p.at.Segment); ok {
			p.since = min(p.since, t.first)
		}
		p.stateMu.Unlock()
		p.staging.Unlock()
	}
	p.stateMu.Lock()
	var save []appendTime
	if p.times.unsaved && elapsed-p.times.saved >= saveInterval(retention) {
		save = slices.Clone(p.times.segments)
		p.times.unsaved, p.times.saved = false, elapsed
	}
	p.stateMu.Unlock()
	if save == nil {
		return nil
	}
	return saveTimes(fsys, p.dir, save)
}

// surplus is the offset up to which segments must go so that about
// retention.bytes stay. The active segment always stays.
func (p *Partition) surplus(segments []commitlog.SegmentInfo) int64 {
	start, total, keep := int64(0), int64(0), p.topic.config().retentionBytes
	if keep < 0 {
		return start
	}
	for _, s := range segments {
		total += s.Bytes
	}
	for _, s := range segments[:max(0, len(segments)-1)] {
		if total -= s.Bytes; total < keep {
			break
		}
		start = s.End
	}
	return start
}

// rollIfIdle has the next batch begin a new segment, if nothing was staged since
// end was the end: so a later round of retention can remove the file.
func (p *Partition) rollIfIdle(end int64) {
	p.staging.Lock()
	defer p.staging.Unlock()
	if p.next == end && p.at.Byte > 0 {
		p.at = commitlog.Position{Segment: end}
	}
}
