package mqtt

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// session is what the server remembers of one client identifier: subscriptions, how
// far the client has been served in each partition, and which messages it has not
// acknowledged, in both directions. Messages themselves stay in the log, so a session that is away for
// a week costs no more than one that is away for a second.
type session struct {
	srv *Server
	id  string

	saving sync.Mutex // one save at a time, so that the last one wins

	mu      sync.Mutex
	conn    *conn // nil while offline
	expiry  uint32
	owner   *conn  // whose session it is, connected or ending; guarded by Server.mu
	arrival uint64 // of its CONNECT; guarded by Server.mu
	gone    bool   // removed from the server
	timer   *time.Timer
	subs    map[string]*subscription
	retain  []*subscription // whose retained messages are still to be sent
	shares  []*share        // that it is a member of
	places
	inflight map[uint16]flight
	resend   []uint16 // of inflight, not sent on this connection yet, in order
	releases []uint16 // of inflight, whose PUBREL is to be sent, in order
	unacked  int      // of inflight, sent on this connection
	lastID   uint16
	seq      uint64 // of the last change of a flight
	durable  uint64 // flights as they were at this seq are stored
	dirty    bool   // differs from what is stored
	promised bool   // of what CONNACK is to promise, something is not stored yet
	stored   bool   // is in the sessions topic
	pumping  bool
	wake     chan struct{} // of the pump; nil before there is one

	will      *will       // of the connection, or waiting for its time
	willTimer *time.Timer // while it waits
	due       []*will     // whose time has come, and which are not in the log yet
	over      bool        // expired, but for the wills that are due

	receipts receipts // of what the client publishes with QoS 2

	counted bool        // in Server.live
	starved atomic.Bool // the pump waits for room
	sharing atomic.Bool // it has shares
	gap     []byte      // what was lost, until the client has been told; guarded by mu
}

// flight is a message of QoS 1 or 2 that the client has not acknowledged. One of QoS 2
// in a session that outlives its connection is stored before it is sent, and again
// before PUBREL is: only then can no crash make the client see it twice.
type flight struct {
	feed     *feed // nil: a retained message
	offset   int64
	topic    string // of a retained message
	qos      byte
	seq      uint64 // order of sending
	mark     uint64 // session.seq when it last changed
	sent     bool   // on this connection
	tried    bool   // on an earlier one: DUP
	share    *share // whose message it is; nil: the session's own
	released bool   // PUBREC came; what is left is PUBREL
}

func newSession(srv *Server, id string) *session {
	return &session{srv: srv, id: id}
}

// persistent reports whether the session outlives its connection.
func (s *session) persistent() bool { return s.expiry > 0 }

// lasts is persistent with the lock, and for how many seconds.
func (s *session) lasts() (bool, uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persistent(), s.expiry
}

// offer is called by a feed with a message that matches. It returns the connection
// whose output has grown, if any.
func (s *session) offer(f *feed, m *message, o *offer) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	if c == nil || o.best.ended && !s.remake(f, m, o) {
		return nil
	}
	cur := s.cursorOf(f.idx)
	if cur.behind || m.offset < cur.next {
		return nil
	}
	if s.send(c, f, m, o) {
		cur.next = m.offset + 1
		return c
	}
	s.fallBehind(cur, m.offset)
	s.startPump(c)
	return nil
}

// remake collects the subscriptions anew when one was ended or replaced after the
// feed found it. s.mu is held.
func (s *session) remake(f *feed, m *message, o *offer) bool {
	*o = offer{}
	for _, sub := range s.subs {
		if sub.matches(f, m) {
			o.merge(sub)
		}
	}
	return o.best != nil
}

// send hands one message to the connection; false when it is of QoS 1 or 2 and there is no room.
// A QoS 0 message without room is dropped and counted. s.mu is held.
func (s *session) send(c *conn, f *feed, m *message, o *offer) bool {
	if !o.local && string(m.client) == s.id { // [MQTT-3.8.3-3]
		return true
	}
	d := delivery{version: c.version, qos: min(o.qos, m.qos), retain: o.rap && m.retain, subIDs: o.subIDs}
	if c.tooLarge(m, &d) {
		return true
	}
	if d.qos == 0 {
		if !s.publish(c, m, &d) {
			s.srv.drops.slow.Add(1)
		}
		return true
	}
	fl := flight{feed: f, offset: m.offset, qos: d.qos, share: o.share}
	if f == nil {
		fl.topic = string(m.topic)
	}
	if d.qos == 2 && s.persistent() { // the pump stores it, then sends it
		if len(s.inflight) >= c.window {
			return false
		}
		s.resend = append(s.resend, s.launch(fl))
		s.startPump(c)
		s.rouse()
		return true
	}
	if s.unacked >= c.window || !c.out.room() {
		return false
	}
	fl.sent = true
	s.unacked++ // what the client's Receive Maximum bounds [MQTT-3.3.4-9]
	d.id = s.launch(fl)
	s.publish(c, m, &d)
	return true
}

// publish appends a message to the connection's output, with an alias for its topic
// name if the client takes one, and with what was lost before it. s.mu is held.
func (s *session) publish(c *conn, m *message, d *delivery) bool {
	fresh := c.given.take(m, d)
	if d.lost = s.gap; d.version != packet.V5 {
		d.lost = nil
	}
	if !c.out.publish(m, d) {
		if fresh {
			c.given.undo(m)
		}
		return false
	}
	s.gap = nil
	s.srv.sent[d.qos].Add(1)
	return true
}

// tooLarge reports, and counts, a message that the client does not take: it is done
// with ([MQTT-3.1.2-24], [MQTT-3.1.2-25]).
func (c *conn) tooLarge(m *message, d *delivery) bool {
	if c.maxPacket == 0 {
		return false
	}
	size := m.size(d)
	if c.given.most > 0 {
		size += aliasBytes
	}
	if n := len(c.sess.gap); n > 0 {
		size += lostBytes + n
	}
	if size <= c.maxPacket {
		return false
	}
	c.srv.drops.tooLarge.Add(1)
	return true
}

// What an alias and the news of a loss add to a packet, at most.
const (
	aliasBytes = 3 + 2
	lostBytes  = 5 + len(lostProperty) + 2
)

// launch gives a message a packet identifier that is not in use [MQTT-2.2.1-4].
func (s *session) launch(fl flight) uint16 {
	if s.inflight == nil {
		s.inflight = make(map[uint16]flight)
	}
	for {
		s.lastID++
		if _, used := s.inflight[s.lastID]; s.lastID != 0 && !used {
			break
		}
	}
	s.seq++
	fl.seq, fl.mark = s.seq, s.seq
	s.inflight[s.lastID] = fl
	s.dirty = true
	return s.lastID
}

// land ends a flight. s.mu is held.
func (s *session) land(id uint16) {
	if s.inflight[id].sent {
		s.unacked--
	}
	delete(s.inflight, id)
	s.dirty = true
	if s.conn != nil && s.unacked <= s.conn.window/2 {
		if s.starved.Load() {
			s.rouse()
		}
		s.rouseShares()
	}
}

// acked takes a PUBACK from the client. An identifier that is not in flight is
// ignored: the client may answer what an earlier connection sent. The reason makes no
// difference: a message that the client refuses is not sent again [MQTT-4.8.2-6].
func (s *session) acked(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl, ok := s.inflight[id]; ok && fl.qos == 1 {
		s.land(id)
	}
}

// recorded takes a PUBREC: the client has the message, which is not sent again. PUBREL
// follows once that is stored, or at once where nothing is [MQTT-4.3.3-4].
func (s *session) recorded(c *conn, id uint16, reason packet.Reason) error {
	s.mu.Lock()
	fl, ok := s.inflight[id]
	ok = ok && fl.qos == 2
	switch {
	case ok && reason.Failed(): // the client will not have it [MQTT-4.3.3-4]
		s.land(id)
		s.mu.Unlock()
		return nil
	case ok && s.persistent():
		if !fl.released {
			s.seq++
			fl.released, fl.mark, s.dirty = true, s.seq, true
			s.inflight[id] = fl
			s.releases = append(s.releases, id)
			s.startPump(c)
			s.rouse()
		}
		s.mu.Unlock()
		return nil
	case ok:
		fl.released = true
		s.inflight[id] = fl
	}
	s.mu.Unlock()
	a := packet.Ack{Type: packet.TypePubrel, PacketID: id}
	if !ok {
		a.Reason = packet.PacketIDNotFound
	}
	return c.answer(func(dst []byte) []byte { return a.Append(dst, c.version) })
}

// completed takes a PUBCOMP.
func (s *session) completed(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl, ok := s.inflight[id]; ok && fl.qos == 2 {
		s.land(id)
	}
}

// drained is told by the writer that output has left the box.
func (s *session) drained() {
	if s.starved.Load() {
		s.rouse()
	}
	if s.sharing.Load() {
		s.mu.Lock()
		s.rouseShares()
		s.mu.Unlock()
	}
}

func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// subscribed adds or replaces subscriptions. since is the place in each feed at
// which they begin. s.mu is held.
func (s *session) subscribed(sub *subscription) (replaced *subscription) {
	if len(s.subs) == 0 { // nothing before concerned this session
		for i, offset := range sub.since {
			if cur := s.cursorOf(i); !cur.behind {
				cur.next = offset
			}
		}
	}
	replaced = s.subs[sub.filter]
	if replaced != nil {
		sub.since = replaced.since
	}
	s.keep(sub)
	s.dirty = true
	return replaced
}

func (s *session) keep(sub *subscription) {
	if s.subs == nil {
		s.subs = make(map[string]*subscription)
	}
	s.subs[sub.filter] = sub
}

// resume prepares the session for a new connection: everything is served from the
// log until it has been caught up with. s.mu is held.
func (s *session) resume() {
	s.resend, s.releases, s.unacked = s.resend[:0], s.releases[:0], 0
	for id, fl := range s.inflight {
		fl.tried, fl.sent = fl.tried || fl.sent, false
		s.inflight[id] = fl
		if fl.released {
			s.releases = append(s.releases, id)
		} else {
			s.resend = append(s.resend, id)
		}
	}
	slices.SortFunc(s.resend, func(a, b uint16) int { return cmp.Compare(s.inflight[a].seq, s.inflight[b].seq) })
	slices.SortFunc(s.releases, func(a, b uint16) int { return cmp.Compare(s.inflight[a].mark, s.inflight[b].mark) })
	if len(s.subs) == 0 && len(s.inflight) == 0 {
		return
	}
	s.places.resume(s.srv.feedList())
}

// suspend fixes the cursors where the feeds are. s.mu is held, and s.conn is nil
// already: no feed will send anything from here on.
func (s *session) suspend() {
	s.places.suspend(s.srv.feedList())
	s.dirty = true
}

// shared notes that the session is a member of a share; unshared the opposite.
func (s *session) shared(g *share) {
	if !slices.Contains(s.shares, g) {
		s.shares = append(s.shares, g)
	}
	s.sharing.Store(true)
}

func (s *session) unshared(g *share) {
	for id, fl := range s.inflight {
		if fl.share == g {
			fl.share = nil
			s.inflight[id] = fl
		}
	}
	s.shares = slices.DeleteFunc(s.shares, func(have *share) bool { return have == g })
	s.sharing.Store(len(s.shares) > 0)
}
