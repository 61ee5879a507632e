// Package sparkplug knows which edge nodes and devices of Sparkplug B are alive. A
// Tracker sees their messages in the order in which they are taken and says of each
// whether a reader can rely on it: data can be read only after the birth certificate
// that names its metrics, and only if nothing is missing in between. It decodes of a
// payload no more than that takes; it does no I/O and has no clock.
//
// The rules are those of a host application in Sparkplug 3.0 (chapters 5 and 6), with
// one liberty: MQTT keeps the order of a connection, so a sequence number that is not the
// next one means at once that a message is missing.
package sparkplug

import (
	"cmp"
	"sync"
	"time"
)

// Limits bound a Tracker. The zero value of a field is its default.
type Limits struct {
	MaxNodes   int // edge nodes; 1,000
	MaxDevices int // devices of all edge nodes; 10,000
	// RebirthInterval is how often an edge node is asked for its birth, at most; 10 s.
	RebirthInterval time.Duration
}

// WithDefaults returns the limits that hold.
func (l Limits) WithDefaults() Limits {
	return Limits{cmp.Or(l.MaxNodes, 1_000), cmp.Or(l.MaxDevices, 10_000), cmp.Or(l.RebirthInterval, 10*time.Second)}
}

// Verdict is what follows from one message.
type Verdict struct {
	// Stale says that the message cannot be relied on: its birth is not known, or
	// messages are missing since.
	Stale bool
	// Rebirth says that the edge node is to be asked for its birth now.
	Rebirth bool
	// Full says that the message is of a node or device that there is no room for.
	Full bool
}

// Tracker is the state of all edge nodes. Its methods may be called concurrently.
type Tracker struct {
	limits Limits

	mu      sync.Mutex
	nodes   map[string]*node // by GROUP/NODE
	devices int
	swept   time.Time
	name    []byte // scratch
	counts  Counts
}

// node is an edge node.
type node struct {
	group, name string
	online      bool
	stale       bool // no birth yet, or something is missing since
	seq         byte // of the last message
	timestamp   uint64
	bdSeq       uint64
	hasBdSeq    bool
	born        time.Time
	asked       time.Time // for a birth
	gaps        uint64    // as in Counts
	rebirths    uint64
	devices     map[string]*device
}

type device struct{ online bool }

// Counts is what a Tracker has counted since it was made.
type Counts struct {
	Gaps       uint64 `json:"gaps"`        // sequence numbers that were not the next one
	Unborn     uint64 `json:"unborn"`      // messages without the birth before them
	Rebirths   uint64 `json:"rebirths"`    // births asked for
	Malformed  uint64 `json:"malformed"`   // payloads that are none of Sparkplug B
	LateDeaths uint64 `json:"late_deaths"` // NDEATHs of a connection that another has followed
	Untracked  uint64 `json:"untracked"`   // messages for which the limits left no room
}

// New makes a Tracker that knows of nobody.
func New(l Limits) *Tracker {
	return &Tracker{limits: l.WithDefaults(), nodes: map[string]*node{}}
}

// Observe takes the next message. It keeps no reference to topic and payload.
func (t *Tracker) Observe(now time.Time, topic Topic, body []byte) (v Verdict) {
	p, ok := decode(body, topic.Kind == NBIRTH || topic.Kind == NDEATH)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok {
		t.counts.Malformed++
	}
	n := t.find(now, &topic)
	if n == nil {
		if topic.Kind == NDEATH {
			return v
		}
		t.counts.Untracked++
		return Verdict{Stale: topic.Kind != NBIRTH, Full: true}
	}
	switch {
	case topic.Kind == NDEATH:
		t.death(n, &p)
	case topic.Kind == NBIRTH && ok:
		t.birth(now, n, &p)
	case topic.Kind == NBIRTH: // which nobody can read
		n.stale, v.Stale = true, true
	default:
		v = t.sequenced(n, &topic, &p, ok)
	}
	v.Rebirth = v.Stale && (n.stale || !v.Full) && t.mayAsk(n, now)
	return v
}

// find returns the node of a message and makes it if there is room; a death alone makes none.
func (t *Tracker) find(now time.Time, topic *Topic) *node {
	t.name = append(append(append(t.name[:0], topic.Group...), '/'), topic.Node...)
	if n := t.nodes[string(t.name)]; n != nil || topic.Kind == NDEATH {
		return n
	}
	if len(t.nodes) >= t.limits.MaxNodes {
		t.sweep(now)
	}
	if len(t.nodes) >= t.limits.MaxNodes {
		return nil
	}
	n := &node{group: string(topic.Group), name: string(topic.Node), stale: true}
	t.nodes[string(t.name)] = n
	return n
}

// sweepEvery bounds what a full table costs.
const sweepEvery = time.Minute

// sweep forgets the nodes that are offline: their next birth tells all there is to know.
func (t *Tracker) sweep(now time.Time) {
	if !due(now, t.swept, sweepEvery) {
		return
	}
	t.swept = now
	for key, n := range t.nodes {
		if !n.online && due(now, n.asked, sweepEvery) {
			t.devices -= len(n.devices)
			delete(t.nodes, key)
		}
	}
}

// birth begins a session of a node; its devices have births of their own to come.
func (t *Tracker) birth(now time.Time, n *node, p *payload) {
	n.online, n.stale, n.born = true, false, now
	n.seq, n.timestamp = p.seq, p.timestamp
	n.bdSeq, n.hasBdSeq = p.bdSeq, p.hasBdSeq
	t.devices -= len(n.devices)
	clear(n.devices)
}

// death ends the session that it belongs to: it is the will of a connection, and may come
// after the birth of the next one [tck-id-payloads-ndeath-bdseq].
func (t *Tracker) death(n *node, p *payload) {
	if n.online && n.hasBdSeq && p.hasBdSeq && n.bdSeq != p.bdSeq {
		t.counts.LateDeaths++
		return
	}
	n.online, n.stale = false, true
	for _, d := range n.devices {
		d.online = false
	}
}

// sequenced takes a message that counts on from the node's birth
// [tck-id-payloads-sequence-num-incrementing].
func (t *Tracker) sequenced(n *node, topic *Topic, p *payload, ok bool) (v Verdict) {
	again := ok && p.seq == n.seq && p.timestamp == n.timestamp // QoS 1, sent twice
	switch {
	case !n.online:
		t.counts.Unborn++
		n.stale = true
	case !ok, p.seq != n.seq+1 && !again:
		t.counts.Gaps++
		n.gaps++
		n.stale = true
	}
	if ok {
		n.seq, n.timestamp = p.seq, p.timestamp
	} else {
		n.seq++
	}
	if topic.Kind != NDATA {
		v = t.device(n, topic)
	}
	v.Stale = v.Stale || n.stale
	return v
}

// device takes a device's message.
func (t *Tracker) device(n *node, topic *Topic) (v Verdict) {
	d := n.devices[string(topic.Device)]
	full := d == nil && t.devices >= t.limits.MaxDevices
	switch {
	case topic.Kind == DDEATH:
		if d != nil {
			d.online = false
		}
	case full:
		t.counts.Untracked++
		v = Verdict{Stale: topic.Kind == DDATA, Full: true}
	case topic.Kind == DDATA:
		if v.Stale = d == nil || !d.online; v.Stale && !n.stale {
			t.counts.Unborn++
		}
	default:
		if d == nil {
			d = t.newDevice(n, topic.Device)
		}
		d.online = n.online
	}
	return v
}

func (t *Tracker) newDevice(n *node, name []byte) *device {
	if n.devices == nil {
		n.devices = map[string]*device{}
	}
	d := &device{}
	n.devices[string(name)] = d
	t.devices++
	return d
}

// mayAsk reports whether a node may be asked for its birth, and notes that it is.
func (t *Tracker) mayAsk(n *node, now time.Time) bool {
	if !due(now, n.asked, t.limits.RebirthInterval) {
		return false
	}
	n.asked = now
	t.counts.Rebirths++
	n.rebirths++
	return true
}

// due reports whether every has passed since last, by a clock that may be set back.
func due(now, last time.Time, every time.Duration) bool {
	return last.IsZero() || now.Before(last) || now.Sub(last) >= every
}

// Doubt says that messages which were observed may be missing all the same: no node
// is relied on until it has been born again. Each is asked with its next message.
func (t *Tracker) Doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		n.stale = true
	}
}
