package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// Options of a Coordinator. Log and Partition are required; other zero fields
// are defaults.
type Options struct {
	Log       Log
	Partition Partition // of __consumer_offsets; see EnsureTopic
	Limits    Limits
	// OffsetsRetention is offsets.retention.minutes: how long the offsets of a
	// group without members are kept after its last commit (7 days). Negative
	// means for ever.
	OffsetsRetention time.Duration
	// RetentionCheckInterval is offsets.retention.check.interval.ms (10 min).
	RetentionCheckInterval time.Duration
	// SnapshotBytes bounds the offsets topic: after so many bytes of commits it is
	// rewritten (8 MiB).
	SnapshotBytes int64
	// HighWatermark, when set, lets Status show how far groups lag behind.
	HighWatermark func(record.TopicPartition) (offset int64, ok bool)
	// MigrationPolicy is group.consumer.migration.policy: whether groups that have members
	// change between the protocols (MigrateBoth).
	MigrationPolicy string
	// Cluster is the topics that members of the consumer protocol subscribe to; nil: none.
	Cluster Cluster
	// Now is the best wall time known, for commits; nil: time.Now. Age is how long ago
	// Now said so, at least; nil: by Now alone.
	Now func() time.Time
	Age func(time.Time) time.Duration
	// Logger is nil to discard.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	if o.OffsetsRetention == 0 {
		o.OffsetsRetention = 7 * 24 * time.Hour
	}
	if o.RetentionCheckInterval <= 0 {
		o.RetentionCheckInterval = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MigrationPolicy == "" {
		o.MigrationPolicy = MigrateBoth
	}
	if o.Cluster == nil {
		o.Cluster = noCluster{}
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = 8 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	if o.Log == nil || o.Partition == nil {
		return errors.New("group: Options.Log and Options.Partition are required")
	}
	switch o.MigrationPolicy {
	case "", MigrateBoth, MigrateUp, MigrateDown, MigrateNot:
	default:
		return fmt.Errorf("group: group.consumer.migration.policy is %q, there are %s, %s, %s and %s", o.MigrationPolicy, MigrateBoth, MigrateUp, MigrateDown, MigrateNot)
	}
	return o.Limits.Validate()
}

// Coordinator serves all groups of the box. Its methods are safe for concurrent use.
type Coordinator struct {
	opts   Options
	log    *offsetsLog
	opened time.Time

	mu     sync.Mutex
	slots  map[string]*slot // groups of which memory knows more than the log
	closed bool

	done    chan struct{} // closed by Close
	running sync.WaitGroup
	lastRef atomic.Int64

	commits, rebalances, expired atomic.Int64
}

// slot is one group in memory. It lives while the group has members, or
// anything under way; everything else is in the table.
type slot struct {
	id string

	mu       sync.Mutex
	group    *Group
	consumer *ConsumerGroup // nil unless the group is of the consumer protocol
	gone     bool           // no longer in Coordinator.slots: look again
	waiters  map[Ref]chan<- Answer
	timer    *time.Timer
	inflight int        // appends under way
	settled  *sync.Cond // inflight is 0
}

// Open reads the offsets topic and resumes all groups: members find their
// generation and assignment as they were, with sessions that begin anew. If the
// topic cannot be read the coordinator opens all the same, logs it, and answers every
// request with ErrCoordinatorNotAvailable: the rest of the broker works without it.
func Open(o Options) (*Coordinator, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	l := openLog(&o)
	c := &Coordinator{opts: o, log: l, opened: time.Now(), slots: map[string]*slot{}, done: make(chan struct{})}
	if l.down != nil {
		o.Logger.Error("no consumer groups: the offsets topic cannot be read; restore it from a backup, or delete it to begin with no offsets", "err", l.down)
		return c, nil
	}
	for _, id := range l.table.ids() {
		s, err := c.lock(id, false)
		if err != nil {
			o.Logger.Warn("group not resumed, its members must join anew", "group", id, "err", err)
			continue
		}
		c.unlock(s)
	}
	c.running.Go(c.expireOffsets)
	return c, nil
}

// Unavailable returns a coordinator that answers ErrCoordinatorNotAvailable.
func Unavailable() *Coordinator {
	ended := make(chan struct{})
	close(ended)
	l := &offsetsLog{table: newTable(), cancel: func() {}, ended: ended, down: ErrCoordinatorNotAvailable, err: ErrCoordinatorNotAvailable}
	return &Coordinator{opts: Options{}.withDefaults(), log: l, done: make(chan struct{})}
}

// Close ends all waits with ErrCoordinatorNotAvailable and stops the timers. The
// log must still work: close it after.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.running.Wait()
		<-c.log.ended
		return nil
	}
	c.closed = true
	close(c.done)
	slots := c.slots
	c.slots = map[string]*slot{}
	c.mu.Unlock()
	for _, s := range slots {
		s.mu.Lock()
		if s.gone = true; s.timer != nil {
			s.timer.Stop()
		}
		s.mu.Unlock()
	}
	c.running.Wait()
	c.log.close()
	return nil
}

func (c *Coordinator) newRef() Ref { return Ref(c.lastRef.Add(1)) }

// lock returns the group, locked; unlock must follow. A group that neither memory
// nor log know is made if create is set, else it is nil.
func (c *Coordinator) lock(id string, create bool) (*slot, error) {
	for {
		s, err := c.slot(id, create)
		if s == nil || err != nil {
			return nil, err
		}
		s.mu.Lock()
		if !s.gone {
			return s, nil
		}
		s.mu.Unlock()
	}
}

func (c *Coordinator) slot(id string, create bool) (*slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrCoordinatorNotAvailable
	case c.log.down != nil:
		return nil, c.log.down
	}
	if s := c.slots[id]; s != nil {
		return s, nil
	}
	value, known := c.log.table.metadata(id)
	groups, _ := c.log.table.size()
	switch {
	case !known && !create:
		return nil, nil
	case !known && groups >= c.opts.Limits.MaxOffsets:
		return nil, fmt.Errorf("%w: the broker keeps %d groups; delete those that are not used", ErrGroupMaxSizeReached, groups)
	case len(c.slots) >= c.opts.Limits.MaxGroups:
		return nil, fmt.Errorf("%w: %d groups are active", ErrGroupMaxSizeReached, len(c.slots))
	}
	s := &slot{id: id, group: c.restore(id, value), consumer: c.restoreConsumers(id), waiters: map[Ref]chan<- Answer{}}
	s.settled = sync.NewCond(&s.mu)
	c.slots[id] = s
	return s, nil
}

// restore makes the group that the log tells of; a nil value is a group without metadata.
func (c *Coordinator) restore(id string, value []byte) *Group {
	empty := NewGroup(&c.opts.Limits, time.Time{}) // for ever, as far as we know
	if value == nil {
		return empty
	}
	g, err := Restore(&c.opts.Limits, value, time.Now())
	if err != nil {
		c.opts.Logger.Error("group metadata ignored, members must join anew", "group", id, "err", err)
		return empty
	}
	return g
}

// unlock arms the group's timer, and lets go of the group if the log knows it all.
func (c *Coordinator) unlock(s *slot) {
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	if s.inflight == 0 && s.disposable() {
		c.forget(s)
		return
	}
	at, ok := s.deadline()
	switch {
	case !ok && s.timer != nil:
		s.timer.Stop()
	case ok && s.timer != nil:
		s.timer.Reset(time.Until(at))
	case ok:
		s.timer = time.AfterFunc(time.Until(at), func() { c.tick(s) })
	}
}

// forget takes the locked group out of memory.
func (c *Coordinator) forget(s *slot) {
	if s.gone = true; s.timer != nil {
		s.timer.Stop()
	}
	c.mu.Lock()
	if c.slots[s.id] == s {
		delete(c.slots, s.id)
	}
	c.mu.Unlock()
}

// tick runs on a timer's goroutine.
func (c *Coordinator) tick(s *slot) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.running.Add(1)
	c.mu.Unlock()
	defer c.running.Done()
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return
	}
	if s.consumer != nil {
		c.tickConsumers(s)
		return
	}
	c.step(s, Tick{})
}

// step feeds the locked group an event, does what follows and unlocks it. Who
// steps a group carries out its stores: step returns once they are in the log.
func (c *Coordinator) step(s *slot, ev Event) {
	type storing struct {
		seq int64
		a   *appending
	}
	var queue []storing
	for {
		before := s.group.Generation()
		for _, e := range s.group.Step(time.Now(), ev) {
			switch e := e.(type) {
			case Answer:
				if ch := s.waiters[e.Ref]; ch != nil {
					delete(s.waiters, e.Ref)
					ch <- e
				}
			case Store:
				r := encodeGroup(s.id, e.Value, c.opts.Now().UnixMilli())
				queue = append(queue, storing{e.Seq, c.log.append([]record.Record{r})})
				s.inflight++
			}
		}
		if g := s.group; g.Generation() != before {
			c.rebalances.Add(1)
			c.opts.Logger.Info("group rebalanced", "group", s.id, "generation", g.Generation(), "members", len(g.members), "state", g.State().String())
		}
		if len(queue) == 0 {
			c.unlock(s)
			return
		}
		c.unlock(s)
		err := c.log.wait(queue[0].a)
		if err != nil {
			c.opts.Logger.Error("group metadata not stored", "group", s.id, "err", err)
		}
		s.mu.Lock()
		s.landed()
		ev, queue = Stored{Seq: queue[0].seq, Err: err}, queue[1:]
	}
}

// landed ends one append.
func (s *slot) landed() {
	if s.inflight--; s.inflight == 0 {
		s.settled.Broadcast()
	}
}

// settle waits until no append of the locked group is under way.
func (s *slot) settle() {
	for s.inflight > 0 {
		s.settled.Wait()
	}
}

// ask feeds a request to a group and waits for its answer, for as long as the
// protocol takes, unless ctx ends first.
func (c *Coordinator) ask(ctx context.Context, s *slot, ref Ref, ev Event) (Answer, error) {
	ch := make(chan Answer, 1)
	s.waiters[ref] = ch
	c.step(s, ev)
	select {
	case a := <-ch:
		return a, a.Err
	default:
	}
	select {
	case a := <-ch:
		return a, a.Err
	case <-c.done:
		return Answer{}, ErrCoordinatorNotAvailable
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.waiters, ref)
		s.mu.Unlock()
		return Answer{}, ctx.Err()
	}
}

// Limits are those in force.
func (c *Coordinator) Limits() Limits { return c.opts.Limits }

// OffsetsRetention is how long the offsets of groups without members are kept.
func (c *Coordinator) OffsetsRetention() time.Duration { return c.opts.OffsetsRetention }
