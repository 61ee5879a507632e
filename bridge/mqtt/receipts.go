package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// receipts is the packet identifiers of QoS 2 messages that a client has published
// and not released yet: a message that comes again under one of them is the same
// message [MQTT-4.3.3-10]. The receipts of a session that outlives its connection
// are a record of SessionsTopic, written in one group of the write-ahead log with
// the messages themselves, so that no crash can part the two. A release is committed
// before PUBCOMP says so. The read loop adds and removes; commits that fail remove.
type receipts struct {
	mu     sync.Mutex
	ids    map[uint16]bool // true once staged: what the stored record holds
	stored bool            // SessionsTopic has a record of them
}

// receiptsKey begins the keys of receipts. No client identifier holds U+0000.
const receiptsKey = "\x00received\x00"

// receiptsFormat is the first byte of stored receipts.
const receiptsFormat = 1

func (rs *receipts) len() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.ids)
}

// has reports whether a message is known by the identifier, and whether it is staged.
func (rs *receipts) has(id uint16) (known, staged bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	staged, known = rs.ids[id]
	return known, staged
}

func (rs *receipts) add(id uint16) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.ids == nil {
		rs.ids = make(map[uint16]bool)
	}
	rs.ids[id] = false
}

// stage marks identifiers as staged and returns what is to be stored with them.
func (rs *receipts) stage(ids []uint16, expiry uint32) []byte {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, id := range ids {
		rs.ids[id] = true
	}
	return rs.encode(expiry)
}

// end reports whether the topic has a record that is to go: of a session that is
// gone, or of the one before.
func (rs *receipts) end(gone bool) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !rs.stored || !gone && len(rs.ids) > 0 {
		return false
	}
	rs.stored = false
	return true
}

func (rs *receipts) forget(ids []uint16) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, id := range ids {
		delete(rs.ids, id)
	}
}

// encode returns what is staged as runs: format, session expiry, then for each run the
// distance from the end of the last and its length; nil when there is nothing. At most
// 32,768 runs of two bytes each: 64 KiB. rs.mu is held.
func (rs *receipts) encode(expiry uint32) []byte {
	ids := make([]uint16, 0, len(rs.ids))
	for id, staged := range rs.ids {
		if staged {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		rs.stored = false
		return nil
	}
	rs.stored = true
	slices.Sort(ids)
	dst := binary.AppendUvarint([]byte{receiptsFormat}, uint64(expiry))
	end := 0
	for i := 0; i < len(ids); {
		n := 1
		for i+n < len(ids) && int(ids[i+n]) == int(ids[i])+n {
			n++
		}
		dst = binary.AppendUvarint(dst, uint64(int(ids[i])-end))
		dst = binary.AppendUvarint(dst, uint64(n))
		end = int(ids[i]) + n
		i += n
	}
	return dst
}

var errReceipts = errors.New("mqtt: stored packet identifiers cannot be read: format unknown or bytes damaged")

// decode reads what encode wrote.
func (rs *receipts) decode(b []byte) (expiry uint32, err error) {
	f := fields{b: b}
	if f.byte() != receiptsFormat {
		return 0, errReceipts
	}
	expiry = uint32(f.num())
	rs.ids, rs.stored = map[uint16]bool{}, true
	for end := uint64(0); len(f.b) > 0; {
		start := end + f.num()
		n := f.num()
		if end = start + n; f.bad || n == 0 || start == 0 || end > 1<<16 || end < start {
			return 0, errReceipts
		}
		for id := start; id < end; id++ {
			rs.ids[uint16(id)] = true
		}
	}
	return expiry, nil
}

// received takes a PUBLISH of QoS 2 whose identifier is known already: the message
// is in the log or on its way there, so only the PUBREC is sent again. It waits for a
// commit of its own, because an earlier connection's may be still under way.
func (c *conn) received(id uint16) (again bool) {
	known, staged := c.sess.receipts.has(id)
	if known && !staged {
		c.in.stage() // it may be refused, and is then not known any more
		known, _ = c.sess.receipts.has(id)
	}
	if !known {
		return false
	}
	g := c.acks.group(c, SessionsTopic, 1)
	c.acks.push(packet.TypePubrec, id, g, packet.Success)
	c.storeReceipts(g)
	return true
}

// storeReceipts completes g once the receipts as they are now are durable.
func (c *conn) storeReceipts(g *group) {
	lasts, expiry := c.sess.lasts()
	if !lasts { // the order of the connection is enough
		g.Complete(-1, nil)
		return
	}
	w, err := c.srv.store.receipts(c.sess, nil, expiry, c.in.now, func(err error) { g.Complete(-1, err) })
	if err != nil {
		g.Complete(-1, err)
		return
	}
	c.srv.log.AppendGroup([]record.AsyncWrite{w})
}

// appendTogether stages a batch in one group with those of its messages' other ways, with
// the retained form of its message, if there is one, and with the receipts, if it holds
// messages of QoS 2.
func (in *intake) appendTogether(l *lot, retained *record.Record) {
	c, g := in.c, l.group
	writes := []record.AsyncWrite{{Write: record.Write{TopicPartition: l.feed.tp, Batch: l.batch}, Done: g}}
	for i := range l.more {
		m := &l.more[i]
		writes = append(writes, record.AsyncWrite{Write: record.Write{TopicPartition: m.feed.tp, Batch: m.batch}, Done: (*further)(g)})
	}
	fail := func(err error) {
		for range g.waits {
			g.Complete(-1, err)
		}
	}
	if retained != nil {
		w, err := c.srv.retained.write(retained, g, l.feed)
		if err != nil {
			fail(err)
			return
		}
		writes = append(writes, w)
	}
	if len(g.ids) > 0 {
		if lasts, expiry := c.sess.lasts(); lasts {
			w, err := c.srv.store.receipts(c.sess, g.ids, expiry, in.now, func(error) {})
			if err != nil {
				fail(err)
				return
			}
			writes = append(writes, w)
		} else {
			c.sess.receipts.stage(g.ids, 0)
		}
	}
	if c.testament != nil {
		c.stageWill(writes)
		return
	}
	c.srv.log.AppendGroup(writes)
}

// handshake takes PUBREL, PUBREC or PUBCOMP.
func (c *conn) handshake(f packet.Frame) error {
	var a packet.Ack
	if err := a.Decode(f, c.version); err != nil {
		return err
	}
	switch f.Type {
	case packet.TypePubrel:
		return c.released(a.PacketID)
	case packet.TypePubrec:
		return c.sess.recorded(c, a.PacketID, a.Reason)
	}
	c.sess.completed(a.PacketID)
	return nil
}

// released takes PUBREL: the identifier is free once that is durable, which PUBCOMP
// says [MQTT-4.3.3-11]. One pass of the read loop stores all that it released at once.
func (c *conn) released(id uint16) error {
	known, staged := c.sess.receipts.has(id)
	if known && !staged {
		c.in.stage()
		known, _ = c.sess.receipts.has(id)
	}
	reason := packet.Success
	if limit := 2 * c.srv.opts.ReceiveMaximum; !known {
		if owed, _ := c.acks.len(); owed >= limit { // answers that the client does not read
			c.in.stage()
			if !c.acks.await(limit) {
				return errDone
			}
		}
		// An earlier connection may have released it, and that not be durable yet.
		reason = packet.PacketIDNotFound
	}
	c.sess.receipts.forget([]uint16{id})
	if c.in.releases == nil {
		c.in.releases = c.acks.group(c, SessionsTopic, 1)
	}
	c.acks.push(packet.TypePubcomp, id, c.in.releases, reason)
	return nil
}
