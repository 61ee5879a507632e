package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// outbox is a connection's output: feeds, pumps and the read loop append packets, one
// goroutine writes all that has gathered in one write. It is bounded: messages are
// refused over the limit, and a client that does not even take its answers is cut off.
type outbox struct {
	limit   int
	wake    chan struct{}
	touched atomic.Bool

	mu      sync.Mutex
	buf     []byte
	closing bool // write what is left, then end
}

// keepBytes is the output memory that an idle connection may keep.
const keepBytes = 4 << 10

func newOutbox(limit int) *outbox { return &outbox{limit: limit, wake: make(chan struct{}, 1)} }

// publish appends a message; false when there is no room for it.
func (o *outbox) publish(m *message, d *delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.qos == 0 && len(o.buf) >= o.limit || o.closing {
		return false
	}
	o.buf = m.append(o.buf, d)
	return true
}

// room reports whether another message may be appended.
func (o *outbox) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) < o.limit && !o.closing
}

// answer appends an answer to the client and starts the writer; false when the
// client does not read what it is sent.
func (o *outbox) answer(encode func(dst []byte) []byte) bool {
	o.mu.Lock()
	if o.closing || len(o.buf) > 2*o.limit {
		o.mu.Unlock()
		return false
	}
	o.buf = encode(o.buf)
	o.mu.Unlock()
	o.flush()
	return true
}

// flush starts the writer.
func (o *outbox) flush() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// touch reports whether the caller is the one who must untouch.
func (o *outbox) touch() bool { return !o.touched.Swap(true) }

func (o *outbox) untouch() {
	o.touched.Store(false)
	o.flush()
}

// close makes the writer end after what has been appended so far.
func (o *outbox) close() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	o.flush()
}

// write is the writer: it ends after close or when the socket fails. gather adds what
// is ready to be acknowledged; drained is called when output has left.
func (o *outbox) write(nc net.Conn, timeout time.Duration, gather func([]byte) []byte, drained func(n int)) error {
	var spare []byte
	for range o.wake {
		for {
			o.mu.Lock()
			out, closing := gather(o.buf), o.closing
			if len(out) == 0 { // idle: keep little memory
				if cap(out) > keepBytes {
					o.buf = nil
				}
				o.mu.Unlock()
				if spare = nil; closing {
					return nil
				}
				break
			}
			o.buf = spare
			o.mu.Unlock()
			if err := nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
				return err
			}
			if _, err := nc.Write(out); err != nil {
				return err
			}
			drained(len(out))
			spare = out[:0]
		}
	}
	return nil
}

// acks is the PUBACKs that a connection owes, in the order of the PUBLISHes
// [MQTT-4.6.0-2]. The read loop adds, the committer marks groups as done, the writer
// takes from the front.
type acks struct {
	mu     sync.Mutex
	room   sync.Cond
	ring   []pendingAck // a power of two long
	head   int
	count  int
	closed bool
	free   *group
}

type pendingAck struct {
	group  *group
	id     uint16
	reason packet.Reason // of a message that never reached the log
}

// group is the messages of one record batch; it is the batch's Completion. Groups
// are used again: a connection that publishes steadily allocates none.
type group struct {
	c       *conn
	topic   string // Kafka's
	waits   int    // commits that are still to come
	pending int    // acks in the ring that belong here
	count   int    // messages
	err     error
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
	*g = group{c: c, topic: topic, waits: n}
	return g
}

func (a *acks) recycle(g *group) {
	if g.waits == 0 && g.pending == 0 {
		g.next, a.free = a.free, g
	}
}

// push adds an ack; g is nil when nothing has to be committed for it.
func (a *acks) push(id uint16, g *group, reason packet.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == len(a.ring) {
		ring := make([]pendingAck, max(16, 2*len(a.ring)))
		for i := range a.count {
			ring[i] = a.ring[(a.head+i)&(len(a.ring)-1)]
		}
		a.ring, a.head = ring, 0
	}
	a.ring[(a.head+a.count)&(len(a.ring)-1)] = pendingAck{group: g, id: id, reason: reason}
	a.count++
	if g != nil {
		g.pending++
	}
}

func (a *acks) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
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

// take calls yield for every ack that is ready, from the front.
func (a *acks) take(yield func(id uint16, reason packet.Reason, err error)) {
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
		yield(p.id, p.reason, err)
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
func (g *group) Complete(_ int64, err error) {
	c := g.c
	a := &c.acks
	a.mu.Lock()
	g.waits--
	if err != nil && g.err == nil {
		g.err = err
	}
	done, owed, topic, count, failed := g.waits == 0, g.pending > 0, g.topic, g.count, g.err
	if done {
		a.recycle(g)
	}
	a.mu.Unlock()
	if done {
		c.committed(topic, count, failed)
		if failed != nil && owed && c.version != packet.V5 {
			c.kick() // no PUBACK is the only no that 3.1.1 knows
		}
	}
}
