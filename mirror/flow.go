package mirror

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/weirmq/weir/appliance/record"
)

// A flow mirrors some local topics to one target. Three kinds of goroutines
// work on it: a reader per partition fetches and packs, a courier per target
// broker sends, and one steward asks the target where it stands, claims
// positions and mends what is in trouble. They meet in the lanes, under mu.
type flow struct {
	opt    FlowOptions
	site   string
	deps   Deps
	log    *slog.Logger
	choice choice
	target *target
	budget *semaphore.Weighted
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // wakes the steward
	steward

	mu       sync.Mutex
	lanes    map[record.TopicPartition]*lane
	couriers map[int32]*courier
	linkErr  string // why the target cannot be worked with, "" when it can
	events   []Event
	counts   counts
}

type counts struct {
	records, bytes, requests, retries, gaps int64
	events                                  map[Kind]int64
}

// A lane is one partition of the flow. Guarded by the flow's mutex.
type lane struct {
	tp       record.TopicPartition
	sourceID hexID
	remote   string
	win      window
	started  bool // win has a position
	courier  *courier
	queued   bool          // stands in courier.ready
	wake     chan struct{} // has the reader look again
	reading  int           // which reader is the lane's; an older one is ignored
	stop     context.CancelFunc
	packer   packer // the steward's, for splits
	anchored int64  // source offset of the anchor last written
	attempts int    // troubles since the last acknowledgement
	retryAt  time.Time
	progress time.Time // of the last acknowledgement

	sourceErr string // why the source cannot be read, "" when it can
}

func (l *lane) remotePartition() record.TopicPartition {
	return record.TopicPartition{Topic: l.remote, Partition: l.tp.Partition}
}

func startFlow(site string, opt FlowOptions, deps Deps) (*flow, error) {
	opt = opt.withDefaults()
	t, err := openTarget(opt)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &flow{
		opt: opt, site: site, deps: deps, target: t, ctx: ctx, cancel: cancel,
		log:      deps.Logger.With("flow", opt.Name),
		choice:   choice{site: site, include: opt.Topics, exclude: opt.Exclude, rename: opt.Rename},
		budget:   semaphore.NewWeighted(opt.MaxInFlightBytes),
		kick:     make(chan struct{}, 1),
		lanes:    map[record.TopicPartition]*lane{},
		couriers: map[int32]*courier{},
		linkErr:  "not connected yet",
		counts:   counts{events: map[Kind]int64{}},
	}
	f.wg.Go(f.tendForever)
	return f, nil
}

// close stops all goroutines, after a last try to leave fresh anchors.
func (f *flow) close() {
	f.cancel()
	f.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if f.connected {
		if err := f.refreshAnchors(ctx); err != nil {
			f.log.Warn("mirror: the last positions could not be written; the restart counts on from the ones before", "err", err)
		}
	}
	f.target.close()
}

// answered is told the outcome of a shipment.
func (f *flow) answered(c *courier, s *shipment, resp kmsg.Response, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.requests--
	c.bytes -= s.bytes
	if err != nil {
		c.pace.failed()
		f.linkErr = err.Error()
	} else {
		c.pace.acked(s.bytes)
		f.linkErr = ""
	}
	for i := range s.parcels {
		p := &s.parcels[i]
		f.settle(p.lane, p.wire.id, func() (trouble, int64, string) { return p.outcome(resp, err) })
	}
	f.pump(c)
}

// settle feeds one answer to a lane's window.
func (f *flow) settle(l *lane, id int64, outcome func() (trouble, int64, string)) {
	t, base, reason := outcome()
	f.counts.requests++
	done := l.win.answer(id, t, base, reason)
	if len(done) > 0 {
		l.attempts, l.progress = 0, time.Now()
	}
	f.finish(done)
	f.ready(l)
	if l.win.state == Connecting {
		f.troubled(l)
	}
	signal(l.wake)
}

// troubled leaves the lane to the steward, at once the first time, then later and later.
func (f *flow) troubled(l *lane) {
	if l.win.trouble == unsure {
		f.counts.retries++
		l.retryAt = time.Now().Add(backoff(l.attempts, f.opt.RetryMax))
		l.attempts++
	}
	signal(f.kick)
}

// finish gives back the memory of wires that are done with and counts them.
func (f *flow) finish(done []wire) {
	for i := range done {
		f.release(done[i].credit)
		if done[i].gap == nil {
			f.counts.records += done[i].count
			f.counts.bytes += int64(len(done[i].batch))
		}
	}
}

func (f *flow) release(credit int64) {
	if credit > 0 {
		f.budget.Release(credit)
	}
}

// ready queues a lane with its courier if it has something to send.
func (f *flow) ready(l *lane) {
	if c := l.courier; c != nil && !l.queued && l.win.sendable() {
		l.queued = true
		c.ready = append(c.ready, l)
	}
}

// pump hands the courier all that may go. The queue has room for it: load sees to that.
func (f *flow) pump(c *courier) {
	if f.ctx.Err() != nil {
		return
	}
	for s := c.load(); s != nil; s = c.load() {
		c.queue <- s
	}
}

// assign makes the broker that leads the lane's partition its courier.
func (f *flow) assign(l *lane, leader int32) {
	c := f.couriers[leader]
	if c == nil {
		c = newCourier(leader)
		f.couriers[leader] = c
		f.wg.Go(func() { f.carry(f.ctx, c) })
	}
	if l.courier != c {
		l.courier, l.queued = c, false // the old one drops it when its turn comes
	}
}

// open starts a lane at a known position, with a reader of its own.
func (f *flow) open(l *lane, a anchor, source, end int64) {
	f.shut(l)
	l.win.begin(a, source, end)
	l.started, l.anchored, l.progress = true, -1, time.Now()
	ctx, cancel := context.WithCancel(f.ctx)
	l.stop = cancel
	reading := l.reading
	f.wg.Go(func() { f.read(ctx, l, reading, source) })
}

// shut ends the lane's reader and forgets what is pending.
func (f *flow) shut(l *lane) {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	l.reading++
	for i := range l.win.pending {
		f.release(l.win.pending[i].credit)
	}
	l.win.pending = nil
	l.started = false
}

// haltLane stops a lane for good and says why.
func (f *flow) haltLane(l *lane, kind Kind, detail string) {
	f.note(l, kind, detail, true)
	f.shut(l)
	l.win.halt(string(kind) + ": " + detail)
}

// note records an event and logs it.
func (f *flow) note(l *lane, kind Kind, detail string, halted bool) {
	e := Event{Kind: kind, Topic: l.tp.Topic, Partition: l.tp.Partition, Detail: detail, Halted: halted, Time: time.Now().UTC()}
	if len(f.events) == recentEvents {
		f.events = append(f.events[:0], f.events[1:]...)
	}
	f.events = append(f.events, e)
	f.counts.events[kind]++
	f.log.Warn("mirror: "+string(kind), "topic", e.Topic, "partition", e.Partition, "detail", detail, "halted", halted)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// backoff is the pause before attempt n, with jitter so that a fleet does not
// come back in step. The first retry is immediate.
func backoff(n int, most time.Duration) time.Duration {
	if n == 0 {
		return 0
	}
	d := min(most, retryMin<<min(n-1, 20))
	return d/2 + rand.N(d/2+1)
}
