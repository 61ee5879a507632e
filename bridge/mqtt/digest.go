package mqtt

import "sync"

// A session that was away reads the log from its cursors, and most of what it reads is
// for others. When ten thousand come back at once, each would read what all of them have
// missed. So who reads a stretch of the log notes the topic names in it, in a Bloom
// filter: those who come after pass over the stretches that hold nothing for them.
//
// A stretch is digestSpan offsets, and what has been committed there never changes but
// by removal. A digest knows each topic name by its beginnings, level by level, and is
// asked for the levels of a filter before its first wildcard.

const (
	digestSpan = 128  // offsets
	digestBits = 8192 // 1 KiB for, mostly, less than a thousand beginnings
	maxDigests = 8192 // of a server: 8 MiB, a million messages
	passAtOnce = 64   // how many the lock is held for
	probes     = 4    // bits of one beginning
)

type digest [digestBits / 64]uint64

func (d *digest) add(hash uint64) {
	for i := range uint64(probes) {
		bit := probe(hash, i)
		d[bit/64] |= 1 << (bit % 64)
	}
}

func (d *digest) has(hash uint64) bool {
	for i := range uint64(probes) {
		if bit := probe(hash, i); d[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

func probe(hash, i uint64) uint64 { return (hash + i*(hash>>32|1)) % digestBits }

// addTopic adds all beginnings of a topic name.
func (d *digest) addTopic(topic []byte) {
	h := uint64(hashSeed)
	for _, b := range topic {
		if b == '/' {
			d.add(mix(h))
		}
		h = (h ^ uint64(b)) * hashPrime
	}
	d.add(mix(h))
}

// beginning returns the hash of a filter's levels before its first wildcard; false when
// there are none.
func beginning(filter string) (hash uint64, ok bool) {
	h := uint64(hashSeed)
	for i := range len(filter) {
		switch filter[i] {
		case '+', '#': // a level of its own, always
			return hash, ok
		case '/':
			hash, ok = mix(h), true
		}
		h = (h ^ uint64(filter[i])) * hashPrime
	}
	return mix(h), true
}

// FNV-1a, and a finish that makes all bits depend on all others.
const (
	hashSeed  = 14695981039346656037
	hashPrime = 1099511628211
)

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	return h ^ h>>33
}

// stretch names a digest.
type stretch struct {
	feed   *feed
	number int64 // of digestSpan offsets each
}

// digests is the newest of them.
type digests struct {
	mu    sync.RWMutex
	of    map[stretch]*digest
	order []stretch // a ring, the oldest at next once it is full
	next  int
}

func (ds *digests) put(s stretch, d *digest) {
	if s.feed.eras.mapped.Load() { // its topic names depend on more than the log
		return
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.of == nil {
		ds.of = make(map[stretch]*digest)
	}
	if ds.of[s] != nil {
		return
	}
	if len(ds.order) < maxDigests {
		ds.order = append(ds.order, s)
	} else {
		delete(ds.of, ds.order[ds.next])
		ds.order[ds.next] = s
		ds.next = (ds.next + 1) % maxDigests
	}
	ds.of[s] = d
}

// pass returns the first offset from next on at which there may be a topic name with one
// of the beginnings, or of which nothing is known.
func (ds *digests) pass(f *feed, next int64, beginnings []uint64) int64 {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	for range passAtOnce {
		d := ds.of[stretch{f, next / digestSpan}]
		if d == nil {
			return next
		}
		for _, hash := range beginnings {
			if d.has(hash) {
				return next
			}
		}
		next = (next/digestSpan + 1) * digestSpan
	}
	return next
}

// digester makes digests of what a pump reads.
type digester struct {
	feed *feed
	from int64 // all offsets from here
	next int64 // to here have been read
	made *digest
}

// begin says that reading goes on at an offset.
func (g *digester) begin(f *feed, next int64) {
	if g.feed != f || next < g.from || next > g.next {
		*g = digester{feed: f, from: next, next: next}
	}
}

// add takes the topic name of the message at an offset.
func (g *digester) add(ds *digests, offset int64, topic []byte) {
	if g.reach(ds, offset); len(topic) == 0 { // no message
		return
	}
	if g.made == nil {
		g.made = new(digest)
	}
	g.made.addTopic(topic)
}

// reach says that everything before an offset has been read.
func (g *digester) reach(ds *digests, offset int64) {
	if offset <= g.next {
		return
	}
	if number := g.next / digestSpan; offset >= (number+1)*digestSpan {
		if g.from <= number*digestSpan {
			if g.made == nil {
				g.made = new(digest) // nothing for anybody
			}
			ds.put(stretch{g.feed, number}, g.made)
		}
		g.made = nil
	}
	g.next = offset
}
