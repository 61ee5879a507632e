package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Options of a Coordinator. Topics, Partition and NextProducerID are required; other
// zero fields are defaults.
type Options struct {
	Topics    *topic.Set
	Partition *topic.Partition // of __transaction_state; see EnsureTopic
	// NextProducerID hands out an id that was never handed out before.
	NextProducerID func() (int64, error)
	// RaiseProducerIDs has NextProducerID go on above an id that the log holds. nil: it does.
	RaiseProducerIDs func(found int64) error
	Limits           Limits
	// Expiration is transactional.id.expiration.ms: how long an id that is not used is
	// known (7 days). Negative means for ever.
	Expiration time.Duration
	// CheckInterval is how often there is a look for transactions that take too long, 1 s.
	CheckInterval time.Duration
	// Clock is the wall time and the time elapsed; nil: time.Now. Age is how long ago a
	// wall time was, at least; nil: by the Clock alone.
	Clock func() (wall time.Time, elapsed time.Duration)
	Age   func(time.Time) time.Duration
	// Epoch is the coordinator's epoch, in markers: the leader epoch.
	Epoch int32
	// Logger is nil to discard.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	if o.Expiration == 0 {
		o.Expiration = 7 * 24 * time.Hour
	}
	if o.CheckInterval <= 0 {
		o.CheckInterval = time.Second
	}
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() (time.Time, time.Duration) { return time.Now(), time.Since(start) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	if o.Topics == nil || o.Partition == nil || o.NextProducerID == nil {
		return errors.New("txn: Options.Topics, Options.Partition and Options.NextProducerID are required")
	}
	return o.Limits.Validate()
}

// Coordinator serves all transactional ids of the box. Its methods are safe for
// concurrent use.
type Coordinator struct {
	opts   Options
	opened Moment

	mu     sync.Mutex
	slots  map[string]*slot
	spare  int64 // a producer id that is not in use yet; -1: none
	closed bool

	down    error // why the log could not be read at open; nothing works then
	done    chan struct{}
	running sync.WaitGroup

	commits, aborts, timeouts, expired atomic.Int64
}

// slot is one transactional id.
type slot struct {
	id string

	mu   sync.Mutex
	t    *Transaction
	gone bool     // no longer in Coordinator.slots: look again
	last *staging // what was staged last: no answer may come before it

	stuck bool // it was logged that a partition has no marker yet
}

// staging is one append under way.
type staging struct {
	done chan struct{}
	err  error
}

func newStaging() *staging { return &staging{done: make(chan struct{})} }

// Complete implements record.Completion.
func (s *staging) Complete(_ int64, err error) {
	s.err = err
	close(s.done)
}

// refused is why nothing was staged; nil if it was.
func (s *staging) refused() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// wait returns once what was staged is on stable storage.
func (s *staging) wait() error {
	if s == nil {
		return nil
	}
	if <-s.done; s.err != nil {
		return fmt.Errorf("%w: append to %s: %w", ErrCoordinatorNotAvailable, TopicName, s.err)
	}
	return nil
}

// Open reads __transaction_state, completes what was decided and aborts what nobody
// knows of. If the topic cannot be read the coordinator opens all the same, logs it,
// and answers every request with ErrCoordinatorNotAvailable.
func Open(o Options) (*Coordinator, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Coordinator{opts: o, slots: map[string]*slot{}, spare: NoProducer, done: make(chan struct{})}
	c.opened = c.now()
	if c.down = c.load(); c.down != nil {
		o.Logger.Error("no transactions: their topic cannot be read; restore it from a backup, or delete it to begin without any", "topic", TopicName, "err", c.down)
		return c, nil
	}
	if o.RaiseProducerIDs != nil {
		if err := o.RaiseProducerIDs(c.maxProducerID()); err != nil {
			return nil, err
		}
	}
	c.tick()
	c.abandonUnknown()
	c.running.Go(c.watch)
	return c, nil
}

// Unavailable returns a coordinator that answers ErrCoordinatorNotAvailable.
func Unavailable() *Coordinator {
	return &Coordinator{opts: Options{}.withDefaults(), slots: map[string]*slot{}, down: ErrCoordinatorNotAvailable, done: make(chan struct{})}
}

// Close stops the timers. The log must still work: close it after.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.done)
	}
	c.mu.Unlock()
	c.running.Wait()
	return nil
}

func (c *Coordinator) now() Moment {
	wall, elapsed := c.opts.Clock()
	return Moment{wall, elapsed}
}

// lock returns the slot of an id, locked; nil when the id is not known and create is
// not set.
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
	switch s := c.slots[id]; {
	case c.closed:
		return nil, ErrCoordinatorNotAvailable
	case c.down != nil:
		return nil, c.down
	case s != nil || !create:
		return s, nil
	case len(c.slots) >= c.opts.Limits.MaxTransactionalIDs:
		return nil, fmt.Errorf("%w: the broker knows %d transactional ids, no more until some have expired", ErrLimit, len(c.slots))
	}
	s := &slot{id: id, t: New(&c.opts.Limits, id, c.now())}
	c.slots[id] = s
	return s, nil
}

// known is lock of an id that a producer claims to have.
func (c *Coordinator) known(id string) (*slot, error) {
	if err := c.opts.Limits.checkID(id); err != nil {
		return nil, err
	}
	s, err := c.lock(id, false)
	if err == nil && s == nil {
		err = fmt.Errorf("%w: %q is not known here", ErrInvalidProducerIDMapping, id)
	}
	return s, err
}

// newID returns a producer id for a step that may need one; took says that it does.
func (c *Coordinator) newID() (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spare == NoProducer {
		id, err := c.opts.NextProducerID()
		if err != nil {
			return NoProducer, fmt.Errorf("%w: no producer id: %w", ErrCoordinatorNotAvailable, err)
		}
		c.spare = id
	}
	id := c.spare
	c.spare = NoProducer
	return id, nil
}

// giveBack takes an id that was not needed.
func (c *Coordinator) giveBack(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = id
}

// step feeds the locked slot an event and does what follows. When something cannot be
// stored the event has not happened.
func (c *Coordinator) step(s *slot, ev Event) Answer {
	next := s.t.clone()
	was := s.t.State()
	a, effects := next.Step(c.now(), ev)
	if len(effects) > 0 {
		if e, ok := effects[0].(Store); ok {
			if err := c.store(s, e.Value); err != nil {
				return next.fail(err)
			}
		}
	}
	s.t = next
	for _, e := range effects {
		if e, ok := e.(Mark); ok {
			c.count(was, s.t)
			c.step(s, Marked{Partitions: c.mark(s, e)})
		}
	}
	return a
}

func (c *Coordinator) count(was State, t *Transaction) {
	switch {
	case was != Ongoing:
	case t.State() == PrepareCommit:
		c.commits.Add(1)
	default:
		c.aborts.Add(1)
	}
}

// store stages the slot's metadata.
func (c *Coordinator) store(s *slot, value []byte) error {
	b, err := record.NewBatch(record.None, record.Record{Timestamp: c.now().Wall.UnixMilli(), Key: encodeKey(s.id), Value: value})
	if err != nil {
		return err
	}
	st := newStaging()
	c.opts.Partition.Append(b, st)
	if err := st.refused(); err != nil {
		return fmt.Errorf("%w: append to %s: %w", ErrCoordinatorNotAvailable, TopicName, err)
	}
	s.last = st
	return nil
}

// mark stages the markers and returns the partitions that have theirs, or are gone.
func (c *Coordinator) mark(s *slot, e Mark) (marked []record.TopicPartition) {
	e.CoordinatorEpoch = c.opts.Epoch
	for _, tp := range e.Partitions {
		st := newStaging()
		p, err := c.opts.Topics.Partition(tp)
		staged := false
		if err == nil {
			staged, err = p.EndTransaction(e.Marker, st)
		}
		switch {
		case err == nil:
			marked = append(marked, tp)
		case errors.Is(err, record.ErrUnknownTopicOrPartition):
			marked = append(marked, tp) // its topic was deleted, and the records with it
		case !s.stuck:
			s.stuck = true
			c.opts.Logger.Warn("a transaction cannot end in a partition, trying again", "transactional_id", s.id, "partition", tp.String(), "err", err)
		}
		if staged {
			s.last = st
		}
	}
	s.stuck = s.stuck && len(marked) < len(e.Partitions)
	return marked
}

// Limits are those in force.
func (c *Coordinator) Limits() Limits { return c.opts.Limits }

// Expiration is how long an id that is not used is known.
func (c *Coordinator) Expiration() time.Duration { return c.opts.Expiration }
