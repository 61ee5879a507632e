package topic

import (
	"cmp"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
)

// Tuning is what of the Options changes while the log is open. A zero field is its
// default, but for CleanerIOBytesPerSecond, where it is no limit.
type Tuning struct {
	CleanerInterval         time.Duration // log.cleaner.backoff.ms
	CleanerMapBytes         int           // log.cleaner.dedupe.buffer.size
	CleanerIOBytesPerSecond int64         // log.cleaner.io.max.bytes.per.second
	ProducerExpiration      time.Duration // producer.id.expiration.ms
}

// DefaultTuning is what holds where nobody says.
func DefaultTuning() Tuning { return Tuning{}.Resolved() }

// Resolved has the defaults in the place of zero fields.
func (t Tuning) Resolved() Tuning {
	t.CleanerInterval = cmp.Or(t.CleanerInterval, DefaultCleanerInterval)
	t.CleanerMapBytes = cmp.Or(t.CleanerMapBytes, commitlog.DefaultMapBytes)
	t.ProducerExpiration = cmp.Or(t.ProducerExpiration, DefaultProducerExpiration)
	return t
}

// tuning is what the options say of it.
func (o *Options) tuning() Tuning {
	return Tuning{o.Cleaner.Interval, o.Cleaner.MapBytes, o.Cleaner.IOBytesPerSecond, o.ProducerExpiration}.Resolved()
}

// Tuning is what is in force.
func (s *Set) Tuning() Tuning {
	if t := s.tuning.Load(); t != nil {
		return *t
	}
	return DefaultTuning()
}

// Tune changes it; the Set does not keep it. A log that is being compacted goes on with
// the memory that it has.
func (s *Set) Tune(t Tuning) {
	t = t.Resolved()
	s.tuning.Store(&t)
	select {
	case s.tuned <- struct{}{}:
	default:
	}
}
