package mqtt

import (
	"errors"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// acks is the PUBACKs, PUBRECs and PUBCOMPs that a connection owes, in the order of
// the packets that they answer ([MQTT-4.6.0-2], [MQTT-4.6.0-3]). The read loop adds,
// the committer marks groups as done, the writer takes from the front.
type acks struct {
	mu      sync.Mutex
	room    sync.Cond
	ring    []pendingAck // a power of two long
	head    int
	count   int
	pubacks int // of count
	closed  bool
	free    *group
}

type pendingAck struct {
	group  *group
	id     uint16
	kind   packet.Type   // PUBACK, PUBREC or PUBCOMP
	reason packet.Reason // of what never reached the log
}

// group is the messages of one record batch; it is the batch's Completion. Groups
// are used again: a connection that publishes steadily allocates none.
type group struct {
	c       *conn
	topic   string   // Kafka's
	waits   int      // commits that are still to come
	pending int      // acks in the ring that belong here
	count   int      // messages
	silent  int      // of count: of QoS 0, whose loss nobody is told of
	ids     []uint16 // of its QoS 2 messages
	also    []string // Kafka topics of further ways of its messages
	base    int64    // offset of the first message, once it is committed
	err     error
	patient bool   // a full disk is waited for, not an error
	refused bool   // by a full disk, and to be tried again
	next    *group // in acks.free
}

func (a *acks) init() { a.room.L = &a.mu }

// group returns a group that waits for n commits.
func (a *acks) group(c *conn, topic string, n int) *group {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.free
	if g == nil {
		return &group{c: c, topic: topic, waits: n}
	}
	a.free = g.next
	*g = group{c: c, topic: topic, waits: n, ids: g.ids[:0], also: g.also[:0]}
	return g
}

func (a *acks) recycle(g *group) {
	if g.waits == 0 && g.pending == 0 {
		g.next, a.free = a.free, g
	}
}

// push adds an ack; g is nil when nothing has to be committed for it.
func (a *acks) push(kind packet.Type, id uint16, g *group, reason packet.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == len(a.ring) {
		ring := make([]pendingAck, max(16, 2*len(a.ring)))
		for i := range a.count {
			ring[i] = a.ring[(a.head+i)&(len(a.ring)-1)]
		}
		a.ring, a.head = ring, 0
	}
	a.ring[(a.head+a.count)&(len(a.ring)-1)] = pendingAck{group: g, id: id, kind: kind, reason: reason}
	a.count++
	if kind == packet.TypePuback {
		a.pubacks++
	}
	if g != nil {
		g.pending++
	}
}

// refuse adds an ack that says why a message was not taken.
func (a *acks) refuse(c *conn, kind packet.Type, id uint16, err error) {
	g := a.group(c, "", 0)
	g.err = err
	a.push(kind, id, g, packet.Success)
}

// len returns how many acks are owed, and how many of them are PUBACKs.
func (a *acks) len() (all, pubacks int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count, a.pubacks
}

// await blocks while limit or more acks are owed; false once the connection ends.
func (a *acks) await(limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.count >= limit && !a.closed {
		a.room.Wait()
	}
	return !a.closed
}

func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.room.Broadcast()
}

// shrink lets go of what an idle connection does not need.
func (a *acks) shrink() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == 0 {
		a.ring, a.free, a.head = nil, nil, 0
	}
}

// take calls yield for every ack that is ready, from the front.
func (a *acks) take(yield func(p *pendingAck, err error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	took := false
	for a.count > 0 {
		p := &a.ring[a.head]
		g := p.group
		if g != nil && g.waits > 0 {
			break
		}
		var err error
		if g != nil {
			err = g.err
			g.pending--
			a.recycle(g)
		}
		yield(p, err)
		if p.kind == packet.TypePuback {
			a.pubacks--
		}
		p.group = nil
		a.head = (a.head + 1) & (len(a.ring) - 1)
		a.count--
		took = true
	}
	if took {
		a.room.Signal()
	}
}

// Complete marks one commit of the group as done and starts the writer.
func (g *group) Complete(base int64, err error) {
	if g.patient && errors.Is(err, record.ErrDiskFull) { // on the read loop, which staged it
		g.refused = true
		return
	}
	c := g.c
	if err != nil && len(g.ids) > 0 {
		c.sess.receipts.forget(g.ids) // the client may send them again [MQTT-4.3.3-9]
	}
	if err != nil && errors.Is(err, record.ErrUnknownTopicOrPartition) {
		for _, name := range g.also {
			c.srv.forgetTopic(name)
		}
	}
	a := &c.acks
	a.mu.Lock()
	if g.waits--; base >= 0 {
		g.base = base
	}
	if err != nil && g.err == nil {
		g.err = err
	}
	done, owed, topic, count, silent, failed := g.waits == 0, g.pending > 0, g.topic, g.count, g.silent, g.err
	if done {
		a.recycle(g)
	}
	a.mu.Unlock()
	if done {
		c.committed(topic, count, silent, failed)
		if failed != nil && owed && c.version != packet.V5 {
			if c.ctx.Err() == nil {
				c.srv.refusals.messages.Add(1)
			}
			c.kick() // no answer is the only no that 3.1.1 knows
		}
	}
}
