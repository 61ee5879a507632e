package topic

import (
	"math"
	"sync"
	"time"
)

const (
	// trendInterval is how often growth is looked at, trendTime what it is smoothed
	// over, and trendMin how long it must have been seen to say anything.
	trendInterval = 10 * time.Second
	trendTime     = 10 * time.Minute
	trendMin      = time.Minute

	// maxForecast is the longest time that is foretold: beyond it nobody acts on it.
	maxForecast = 10 * 365 * 24 * time.Hour
)

// trend is how fast a figure grows, smoothed: what lies trendTime back counts for
// about a third of what is now.
type trend struct {
	at           time.Time
	value        int64
	rate, weight float64 // of the observations so far
	seen         time.Duration
}

func (t *trend) observe(now time.Time, value int64) {
	dt := now.Sub(t.at)
	if t.at.IsZero() || dt <= 0 {
		t.at, t.value = now, value
		return
	}
	fade := math.Exp(-dt.Seconds() / trendTime.Seconds())
	t.rate = fade*t.rate + (1-fade)*float64(value-t.value)/dt.Seconds()
	t.weight = fade*t.weight + (1 - fade)
	t.at, t.value, t.seen = now, value, t.seen+dt
}

// perSecond is the growth; 0 while it is not known.
func (t *trend) perSecond() float64 {
	if t == nil || t.seen < trendMin {
		return 0
	}
	return t.rate / t.weight
}

// until is how long the figure takes to grow by room; -1 when it does not grow, or
// so slowly that there is no saying.
func (t *trend) until(room int64) time.Duration {
	rate := t.perSecond()
	if room == unlimited || rate <= 0 {
		return -1
	}
	if seconds := float64(max(room, 0)) / rate; seconds < maxForecast.Seconds() {
		return time.Duration(seconds * float64(time.Second)).Round(time.Second)
	}
	return -1
}

// trends is the growth of the log, by topic and in all, and of what the disk holds.
// What the disk policy let go of counts as if it were there still: a forecast is
// of what is to come, and by then it will have to let go of more.
type trends struct {
	mu     sync.Mutex
	topics map[ID]*trend
	log    trend
	disk   trend
}

func (ts *trends) observe(now time.Time, s *Set) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	old := ts.topics
	ts.topics = make(map[ID]*trend, len(old))
	var dropped, log int64
	for _, t := range s.Topics() {
		one := old[t.id]
		if one == nil {
			one = &trend{}
		}
		n := t.droppedBytes.Load()
		dropped += n
		log += t.size() + n
		one.observe(now, t.size()+n)
		ts.topics[t.id] = one
	}
	ts.log.observe(now, log)
	if total := s.space.total.Load(); total > 0 {
		ts.disk.observe(now, total-s.space.free.Load()-s.space.held()+dropped)
	}
}
