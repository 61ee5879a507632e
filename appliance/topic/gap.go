package topic

import (
	"log/slog"

	"github.com/weirmq/weir/appliance/record"
)

// maxPendingGaps bounds the gap records that wait for the log to take them.
const maxPendingGaps = 1024

// ReportGap says that records were lost to somebody: in the log of the process, in the
// counters, and as a record in record.GapTopic. It does not wait.
func (s *Set) ReportGap(g record.Gap) { s.reportGap(g) }

// reportGap says that records are not to be had any more: in the log of the
// process, in the counters, and as a record in record.GapTopic. It does not wait,
// and may be called before the log accepts anything.
func (s *Set) reportGap(g record.Gap) {
	if g.Time.IsZero() {
		g.Time = s.opts.Now().UTC()
	}
	s.opts.Log.Warn("records are lost", slog.String("topic", g.Topic), slog.Int("partition", int(g.Partition)),
		slog.Int64("first", g.FirstOffset), slog.Int64("last", g.LastOffset), slog.String("reason", g.Reason), slog.String("detail", g.Detail))
	select {
	case s.gaps <- g:
	default: // the log of the process has it
	}
}

// gapLoop makes records of gaps.
func (s *Set) gapLoop() {
	defer s.background.Done()
	for {
		select {
		case g := <-s.gaps:
			if err := s.appendGap(g); err != nil {
				s.opts.Log.Error("gap record not written", "topic", g.Topic, "err", err)
			}
		case <-s.closing:
			return
		}
	}
}

func (s *Set) appendGap(g record.Gap) error {
	if _, err := s.Ensure(record.GapTopic, GapSpec()); err != nil {
		return err
	}
	b, err := g.Batch()
	if err != nil {
		return err
	}
	o := newOutcome()
	s.AppendAsync(record.TopicPartition{Topic: record.GapTopic}, b, o)
	<-o.done
	return o.err
}
