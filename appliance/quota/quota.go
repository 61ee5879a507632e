// Package quota bounds what clients may take of the broker: bytes per second to
// produce and to fetch, a share of request handling time, new connections per second,
// and partitions made or removed per second, by Kafka's entities (user, client id, ip) and keys.
//
// A quota throttles, it refuses nothing but connections and what [Quotas.Admit] is asked of: what goes beyond it is served, the answer
// says for how long the client is to be silent (throttle_time_ms), and for that long
// nothing is read from it (KIP-219). [Quotas.Charge] says how long that is. It is a
// token bucket of a quota's worth of the window: a client that was idle may take that
// much at once, and in the long run takes no more than its quota.
//
// Quotas are set by Kafka's tools (AlterClientQuotas) and kept in a [Store].
package quota

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what a quota is of.
type Kind int8

const (
	// ProduceBytes is producer_byte_rate, bytes of batches received per second.
	ProduceBytes Kind = iota
	// FetchBytes is consumer_byte_rate, bytes of batches sent per second.
	FetchBytes
	// RequestTime is request_percentage: 100 is all the time of one processor.
	RequestTime
	// Connections is connection_creation_rate, new connections per second of an ip.
	Connections
	// Mutations is controller_mutation_rate, partitions made or removed per second (KIP-599).
	Mutations
)

var keys = [...]string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "connection_creation_rate", "controller_mutation_rate"}

// Kinds is how many there are.
const Kinds = Kind(len(keys))

// String is Kafka's key.
func (k Kind) String() string { return keys[k] }

// unit makes of a quota what Charge counts per second: a percentage is of a second.
func (k Kind) unit() float64 {
	if k == RequestTime {
		return 1.0 / 100
	}
	return 1
}

// Limits and defaults.
const (
	// DefaultWindow is what a client may have saved up: Kafka's quota.window.num
	// times quota.window.size.seconds.
	DefaultWindow = 11 * time.Second
	// MaxThrottle bounds one throttle; what is owed beyond stays owed.
	MaxThrottle = 30 * time.Second
	// DefaultMaxEntities bounds the entities that have quotas.
	DefaultMaxEntities = 1000
	// DefaultMaxClients bounds the clients whose use is remembered. Those idle long enough are
	// forgotten; who comes beyond that shares one bucket with all others.
	DefaultMaxClients = 10_000
	// MaxNameBytes bounds the name of an entity.
	MaxNameBytes = 255
)

var (
	// ErrInvalid is of an entity, a key or a value that makes no sense.
	ErrInvalid = errors.New("invalid quota")
	// ErrTooMany is of quotas for more than Options.MaxEntities entities.
	ErrTooMany = errors.New("too many quotas")
)

// Store keeps quotas; *metadata.Bucket is one. What a method returns from is durable.
type Store interface {
	All() (map[string][]byte, error)
	Put(key string, value []byte) error
	Delete(key string) error
}

// Options of Quotas; zero fields are defaults.
type Options struct {
	Store       Store         // nil: quotas are forgotten at the end
	Window      time.Duration // what may be saved up and taken at once; DefaultWindow
	MaxEntities int           // that have quotas; DefaultMaxEntities
	MaxClients  int           // whose use is remembered; DefaultMaxClients
}

// Quotas is all quotas of a broker. Its methods may be called concurrently.
type Quotas struct {
	o Options
	// set has a bit for each kind of which there is a quota: where there is none, a
	// request costs one load.
	set atomic.Uint32

	changing sync.Mutex // one change of limits at a time

	mu       sync.Mutex
	limits   map[Entity]Values
	buckets  map[bucketKey]*bucket
	sweepAt  int // buckets at which the idle ones are looked for
	swept    time.Time
	throttle [len(keys)]int64
}

// Values are the quotas of one entity.
type Values map[Kind]float64

// Open reads the quotas of the store.
func Open(o Options) (*Quotas, error) {
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.MaxEntities == 0 {
		o.MaxEntities = DefaultMaxEntities
	}
	if o.MaxClients == 0 {
		o.MaxClients = DefaultMaxClients
	}
	q := &Quotas{o: o, limits: map[Entity]Values{}, buckets: map[bucketKey]*bucket{}, sweepAt: firstSweep}
	if o.Store == nil {
		return q, nil
	}
	all, err := o.Store.All()
	if err != nil {
		return nil, fmt.Errorf("quotas: %w", err)
	}
	for key, value := range all {
		e, vs, err := decode(key, value)
		if err != nil {
			return nil, err
		}
		q.limits[e] = vs
	}
	q.noteSet()
	return q, nil
}

// noteSet notes which kinds have a quota.
func (q *Quotas) noteSet() {
	var set uint32
	for _, vs := range q.limits {
		for kind := range vs {
			set |= 1 << kind
		}
	}
	q.set.Store(set)
}

// Has reports whether there is any quota of the kind.
func (q *Quotas) Has(kind Kind) bool { return q.set.Load()&(1<<kind) != 0 }

// Change is one quota to set, or to remove.
type Change struct {
	Kind   Kind
	Value  float64
	Remove bool
}

// Alter changes the quotas of one entity, durably, or with validateOnly says whether it could.
func (q *Quotas) Alter(e Entity, changes []Change, validateOnly bool) error {
	if err := e.check(changes); err != nil {
		return err
	}
	q.changing.Lock()
	defer q.changing.Unlock()
	q.mu.Lock()
	old, known := q.limits[e]
	vs, full := maps.Clone(old), !known && len(q.limits) >= q.o.MaxEntities
	q.mu.Unlock()
	if vs == nil {
		vs = Values{}
	}
	for _, c := range changes {
		if vs[c.Kind] = c.Value; c.Remove {
			delete(vs, c.Kind)
		}
	}
	switch {
	case full && len(vs) > 0:
		return fmt.Errorf("%w: %d entities have some, no more are kept; remove those that are not used", ErrTooMany, q.o.MaxEntities)
	case validateOnly:
		return nil
	}
	if err := q.store(e, vs); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limits[e] = vs; len(vs) == 0 {
		delete(q.limits, e)
	}
	q.noteSet()
	clear(q.buckets) // they begin anew, by other quotas
	return nil
}

func (q *Quotas) store(e Entity, vs Values) error {
	if q.o.Store == nil {
		return nil
	}
	if len(vs) == 0 {
		return q.o.Store.Delete(e.key())
	}
	return q.o.Store.Put(e.key(), encode(vs))
}

// Entry is one entity and its quotas.
type Entry struct {
	Entity Entity
	Values Values
}

// All lists the quotas, in an order that does not change.
func (q *Quotas) All() []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]Entry, 0, len(q.limits))
	for e, vs := range q.limits {
		out = append(out, Entry{e, maps.Clone(vs)})
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Entity.compare(b.Entity) })
	return out
}
