package topic

import (
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
			if err := p.retain(s.opts.Now()); err != nil {
				s.opts.Log.Error("retention", "partition", p.tp.String(), "err", err)
			}
		}
	}
}

func (p *Partition) retain(now time.Time) error {
	segments, err := p.log.Segments()
	if err != nil || len(segments) == 0 {
		return err
	}
	start := max(p.expired(segments, now), p.surplus(segments))
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

// expired is the offset up to which segments are older than retention.ms.
func (p *Partition) expired(segments []commitlog.SegmentInfo, now time.Time) int64 {
	start, retention := int64(0), p.topic.config().retention
	if retention < 0 {
		return start
	}
	for _, s := range segments {
		if s.MaxTimestamp < 0 || now.Sub(time.UnixMilli(s.MaxTimestamp)) <= retention {
			break
		}
		start = s.End
	}
	return start
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
