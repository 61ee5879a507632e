package quota

import (
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// Client is who sends a request. User is empty before there is authentication.
type Client struct{ User, ID string }

// bucketKey is who shares a bucket: with a quota of a user all its client ids do,
// with one of a client id all users.
type bucketKey struct {
	Client
	ip   string
	kind Kind
}

// bucket holds what a client may take at once; less than nothing is owed.
type bucket struct {
	tokens float64
	at     time.Time
}

// sweepPause is the least time between two sweeps.
const sweepPause = time.Second

// firstSweep is how many buckets there are before the idle ones are looked for.
const firstSweep = 64

// Charge takes n (bytes, or seconds of handling) of the client's quota and returns for
// how long the client is to be silent: 0 while it keeps to its quota.
func (q *Quotas) Charge(c Client, kind Kind, n float64, now time.Time) time.Duration {
	if !q.Has(kind) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	limit, key, ok := q.limitOf(c, kind)
	if !ok {
		return 0
	}
	wait := q.take(key, limit*kind.unit(), n, now)
	if wait > 0 {
		q.throttle[kind]++
	}
	return wait
}

// Admit takes n of the client's quota, unless it owes something already: then it takes
// nothing and returns for how long. Who is admitted may take more than there is.
func (q *Quotas) Admit(c Client, kind Kind, n float64, now time.Time) (wait time.Duration) {
	if !q.Has(kind) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	limit, key, ok := q.limitOf(c, kind)
	if !ok {
		return 0
	}
	if wait = q.take(key, limit, 0, now); wait > 0 {
		q.throttle[kind]++
		return wait
	}
	q.take(key, limit, n, now)
	return 0
}

// Connect takes one connection of the quota of an ip. False: there are too many.
func (q *Quotas) Connect(ip string, now time.Time) bool {
	if !q.Has(Connections) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	limit, ok := q.limits[Entity{IP: Named(ip)}][Connections]
	if !ok {
		if limit, ok = q.limits[Entity{IP: DefaultName}][Connections]; !ok {
			return true
		}
	}
	key := bucketKey{ip: ip, kind: Connections}
	if b := q.bucket(key, limit, now); b.tokens < 1 {
		q.throttle[Connections]++
		return false
	}
	return q.take(key, limit, 1, now) == 0
}

// Room is how much of a quota of bytes the client may take in one window, so that one
// answer is not throttled for minutes; false: no quota.
func (q *Quotas) Room(c Client, kind Kind) (n int, ok bool) {
	if !q.Has(kind) {
		return 0, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	limit, _, ok := q.limitOf(c, kind)
	return int(min(limit*q.o.Window.Seconds(), 1<<30)), ok
}

// limitOf finds the quota that counts for a client, by Kafka's order: that of the user
// with the client id first, the default client id last.
func (q *Quotas) limitOf(c Client, kind Kind) (limit float64, key bucketKey, ok bool) {
	user, id, none := Named(c.User), Named(c.ID), Name{}
	for _, try := range [...]struct {
		of     Entity
		shared Client
	}{
		{Entity{User: user, ClientID: id}, c},
		{Entity{User: user, ClientID: DefaultName}, c},
		{Entity{User: user, ClientID: none}, Client{User: c.User}},
		{Entity{User: DefaultName, ClientID: id}, c},
		{Entity{User: DefaultName, ClientID: DefaultName}, c},
		{Entity{User: DefaultName, ClientID: none}, Client{User: c.User}},
		{Entity{ClientID: id}, Client{ID: c.ID}},
		{Entity{ClientID: DefaultName}, Client{ID: c.ID}},
	} {
		if limit, ok = q.limits[try.of][kind]; ok {
			return limit, bucketKey{Client: try.shared, kind: kind}, true
		}
	}
	return 0, key, false
}

// take takes n of a bucket that fills at rate per second, and says how long it is until
// nothing is owed.
func (q *Quotas) take(key bucketKey, rate, n float64, now time.Time) time.Duration {
	b := q.bucket(key, rate, now)
	b.tokens -= n
	if b.tokens >= 0 {
		return 0
	}
	return min(time.Duration(-b.tokens/rate*float64(time.Second)), MaxThrottle)
}

// bucket returns a bucket, filled up to now.
func (q *Quotas) bucket(key bucketKey, rate float64, now time.Time) *bucket {
	full := rate * q.o.Window.Seconds()
	if key.kind == Connections {
		full = max(full, 1)
	}
	b := q.buckets[key]
	if b == nil {
		q.sweep(now)
		if len(q.buckets) >= q.o.MaxClients {
			key = bucketKey{kind: key.kind, ip: "*"}
		}
		if b = q.buckets[key]; b == nil {
			b = &bucket{tokens: full, at: now}
			q.buckets[key] = b
		}
	}
	if idle := now.Sub(b.at).Seconds(); idle > 0 {
		b.tokens, b.at = min(full, b.tokens+idle*rate), now
	}
	return b
}

// sweep forgets who has been idle: its bucket is full, or will be as soon as it is
// looked at again. What is owed for longer than a throttle lasts is not forgotten.
func (q *Quotas) sweep(now time.Time) {
	if len(q.buckets) < min(q.sweepAt, q.o.MaxClients) || now.Sub(q.swept) < sweepPause {
		return
	}
	q.swept = now
	for key, b := range q.buckets {
		if idle := now.Sub(b.at); b.tokens >= 0 && idle >= q.o.Window || idle >= q.o.Window+MaxThrottle {
			delete(q.buckets, key)
		}
	}
	q.sweepAt = max(firstSweep, 2*len(q.buckets))
}

// Metrics writes what quotas have done.
func (q *Quotas) Metrics(w *metric.Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(time.Now())
	w.Gauge("weir_quota_entities", "Entities that have a quota.", float64(len(q.limits)))
	w.Gauge("weir_quota_clients", "Clients whose use of a quota is remembered.", float64(len(q.buckets)))
	for kind, n := range q.throttle {
		w.Counter("weir_quota_throttled_total", "Requests throttled and connections refused, by quota.", float64(n), "quota", Kind(kind).String())
	}
}
