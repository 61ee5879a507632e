package mqtt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// session is what the server remembers of one client identifier: subscriptions, how
// far the client has been served in each partition, and which messages it has not
// acknowledged. Messages themselves stay in the log, so a session that is away for
// a week costs no more than one that is away for a second.
type session struct {
	srv *Server
	id  string

	saving sync.Mutex // one save at a time, so that the last one wins

	mu       sync.Mutex
	conn     *conn // nil while offline
	expiry   uint32
	owner    *conn // whose session it is, connected or ending; guarded by Server.mu
	gone     bool  // removed from the server
	timer    *time.Timer
	subs     map[string]*subscription
	retain   []*subscription // whose retained messages are still to be sent
	cursors  []cursor        // by feed.idx
	behind   int             // cursors that are behind
	inflight map[uint16]flight
	resend   []uint16 // of inflight, not sent on this connection yet, in order
	lastID   uint16
	seq      uint64
	dirty    bool // differs from what is stored
	stored   bool // is in the sessions topic
	pumping  bool
	wake     chan struct{}

	counted bool        // in Server.live
	starved atomic.Bool // the pump waits for room
}

// cursor is a session's place in one partition: all below next has been sent or did
// not match. A cursor that is not behind moves with the feed.
type cursor struct {
	next   int64
	behind bool
}

// flight is a message that was sent with QoS 1 and is not acknowledged.
type flight struct {
	feed   *feed // nil: a retained message
	offset int64
	topic  string // of a retained message
	seq    uint64 // order of sending
}

func newSession(srv *Server, id string) *session {
	return &session{srv: srv, id: id, subs: map[string]*subscription{}, wake: make(chan struct{}, 1)}
}

// persistent reports whether the session outlives its connection.
func (s *session) persistent() bool { return s.expiry > 0 }

// cursorOf returns the place in f, live by default.
func (s *session) cursorOf(f *feed) *cursor {
	for len(s.cursors) <= f.idx {
		s.cursors = append(s.cursors, cursor{})
	}
	return &s.cursors[f.idx]
}

func (s *session) fallBehind(cur *cursor, next int64) {
	if !cur.behind {
		cur.behind = true
		s.behind++
	}
	cur.next = next
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
	cur := s.cursorOf(f)
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

// send hands one message to the connection; false when a QoS 1 message has no room.
// A QoS 0 message without room is dropped and counted. s.mu is held.
func (s *session) send(c *conn, f *feed, m *message, o *offer) bool {
	if !o.local && string(m.client) == s.id { // [MQTT-3.8.3-3]
		return true
	}
	d := delivery{version: c.version, qos: min(o.qos, m.qos), retain: o.rap && m.retain, subIDs: o.subIDs}
	if c.maxPacket > 0 && m.size(&d) > c.maxPacket { // [MQTT-3.1.2-24]
		s.srv.drops.tooLarge.Add(1)
		return true
	}
	if d.qos == 0 {
		if c.out.publish(m, &d) {
			s.srv.sent[0].Add(1)
		} else {
			s.srv.drops.slow.Add(1)
		}
		return true
	}
	if s.unacked() >= c.window || !c.out.room() {
		return false
	}
	fl := flight{feed: f, offset: m.offset}
	if f == nil {
		fl.topic = string(m.topic)
	}
	d.id = s.launch(fl)
	s.srv.sent[1].Add(1)
	c.out.publish(m, &d)
	return true
}

// unacked is how many messages this connection has been sent and has not
// acknowledged, which the client's Receive Maximum bounds [MQTT-3.3.4-9].
func (s *session) unacked() int { return len(s.inflight) - len(s.resend) }

// launch gives a message a packet identifier that is not in use [MQTT-2.2.1-3].
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
	fl.seq = s.seq
	s.inflight[s.lastID] = fl
	s.dirty = true
	return s.lastID
}

// acked takes a PUBACK from the client. An identifier that is not in flight is
// ignored: the client may answer what an earlier connection sent.
func (s *session) acked(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inflight, id)
	s.dirty = true
	if s.starved.Load() && s.conn != nil && s.unacked() <= s.conn.window/2 {
		s.rouse()
	}
}

// drained is told by the writer that output has left the box.
func (s *session) drained() {
	if s.starved.Load() {
		s.rouse()
	}
}

func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// startPump starts the goroutine that serves the session from the log; it ends when
// the session is live again everywhere. s.mu is held.
func (s *session) startPump(c *conn) {
	if s.pumping || s.conn != c {
		return
	}
	s.pumping = true
	c.tasks.Add(1)
	go s.pump(c)
}

func (s *session) pump(c *conn) {
	defer c.tasks.Done()
	p := pump{s: s, c: c}
	for {
		more, err := p.step()
		switch {
		case c.ctx.Err() != nil || errors.Is(err, context.Canceled):
			s.mu.Lock()
			s.pumping = false
			s.mu.Unlock()
			return
		case err != nil:
			s.srv.opts.Log.Error("mqtt: session cannot be served from the log", "client", s.id, "err", err)
			sleep(c.ctx, retryAfter)
		case !more:
			return
		}
	}
}

// pump serves one session from the log: first what was sent on an earlier connection
// and not acknowledged [MQTT-4.4.0-1], then retained messages, then what it missed.
type pump struct {
	s   *session
	c   *conn
	dec record.Decoder
	msg message
}

// step does a bounded piece of work; more is false when there is none left, and the
// pump is then over.
func (p *pump) step() (more bool, err error) {
	s := p.s
	s.mu.Lock()
	switch {
	case s.conn != p.c:
	case len(s.resend) > 0:
		return true, p.resend()
	case len(s.retain) > 0:
		return true, p.retained()
	case s.behind > 0:
		for i := range s.cursors {
			if s.cursors[i].behind {
				next := s.cursors[i].next
				s.mu.Unlock()
				return true, p.catchUp(s.srv.feedAt(i), next)
			}
		}
	}
	s.pumping = false
	s.mu.Unlock()
	return false, nil
}

// wait is called with s.mu held and returns without it, once there may be room.
func (p *pump) wait() error {
	p.s.starved.Store(true)
	defer p.s.starved.Store(false)
	p.s.mu.Unlock()
	p.c.out.flush()
	select {
	case <-p.s.wake:
		return nil
	case <-p.c.ctx.Done():
		return p.c.ctx.Err()
	}
}

// resend sends the oldest unacknowledged message again, by its old packet
// identifier and with DUP. s.mu is held on entry.
func (p *pump) resend() error {
	s := p.s
	if s.unacked() >= p.c.window || !p.c.out.room() {
		return p.wait()
	}
	id := s.resend[0]
	fl := s.inflight[id]
	s.mu.Unlock()
	found, err := p.recall(fl)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resend = s.resend[1:]
	if !found {
		delete(s.inflight, id) // retention or expiry has removed it
		s.dirty = true
		s.srv.drops.retention.Add(1)
		return nil
	}
	d := delivery{version: p.c.version, qos: 1, dup: true, id: id, retain: fl.feed == nil}
	if p.c.maxPacket > 0 && p.msg.size(&d) > p.c.maxPacket {
		delete(s.inflight, id)
		s.srv.drops.tooLarge.Add(1)
		return nil
	}
	p.c.out.publish(&p.msg, &d)
	p.c.out.flush()
	return nil
}

// recall reads the message of a flight again.
func (p *pump) recall(fl flight) (bool, error) {
	if fl.feed != nil {
		return fl.feed.find(p.c.ctx, fl.offset, &p.msg)
	}
	m := p.s.srv.retained.get(fl.topic)
	return m != nil && p.fill(m), nil
}

// fill makes the message at hand a retained one.
func (p *pump) fill(m *retainedMessage) bool {
	r := m.record()
	return p.msg.decode(&r, p.s.srv.opts.Age) && !p.msg.expired
}

// retained sends the retained messages of one new subscription [MQTT-3.3.1-9]. s.mu
// is held on entry.
func (p *pump) retained() error {
	s, sub := p.s, p.s.retain[0]
	s.mu.Unlock()
	o := offer{}
	o.merge(sub)
	for _, m := range s.srv.retained.matching(sub.filter) {
		for sent := !p.fill(m); !sent; {
			s.mu.Lock()
			if s.conn != p.c || s.subs[sub.filter] != sub {
				s.mu.Unlock()
				break
			}
			if sent = p.sendRetained(&o); sent {
				s.mu.Unlock()
			} else if err := p.wait(); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	if i := slices.Index(s.retain, sub); i >= 0 {
		s.retain = slices.Delete(s.retain, i, i+1)
	}
	s.mu.Unlock()
	p.c.out.flush()
	return nil
}

// sendRetained is send for a retained message, which has RETAIN set [MQTT-3.3.1-8].
func (p *pump) sendRetained(o *offer) bool {
	own := *o
	own.rap, own.local, p.msg.retain = true, true, true
	return p.s.send(p.c, nil, &p.msg, &own)
}

const catchUpBytes = 64 << 10

// catchUp serves what a session missed in one partition. It joins the live sessions
// under the feed's lock, so that no message falls between the two.
func (p *pump) catchUp(f *feed, next int64) error {
	s := p.s
	if next >= f.next.Load() || f.gone.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if cur := s.cursorOf(f); cur.behind && (cur.next >= f.next.Load() || f.gone.Load()) {
			cur.behind = false
			s.behind--
		}
		return nil
	}
	bs, err := s.srv.log.Fetch(p.c.ctx, f.tp, next, catchUpBytes)
	if errors.Is(err, record.ErrOffsetOutOfRange) {
		return p.skip(f, next)
	}
	if err != nil {
		return err
	}
	p.dec.RawHeaders = f.down == nil
	for b := range bs.All() {
		if full, err := p.batch(f, b, next); err != nil || full {
			return err
		}
	}
	p.c.out.flush()
	return nil
}

// batch serves one batch; full means that the pump had to wait for room, and that
// the batch is to be read again from the cursor.
func (p *pump) batch(f *feed, b record.Batch, next int64) (full bool, err error) {
	s := p.s
	var r record.Record
	if !b.Control() {
		err = p.dec.Reset(b)
	}
	for ok := !b.Control(); ok && err == nil; {
		if ok, err = p.dec.Next(&r); !ok || err != nil {
			break
		}
		if r.Offset < next || !f.read(&r, &p.msg) {
			continue
		}
		s.mu.Lock()
		if s.conn != p.c {
			s.mu.Unlock()
			return true, context.Canceled
		}
		var o offer
		if !s.remake(f, &p.msg, &o) {
			s.mu.Unlock()
			continue
		}
		if s.cursorOf(f).next = r.Offset; !s.send(p.c, f, &p.msg, &o) {
			return true, p.wait()
		}
		s.cursorOf(f).next = r.Offset + 1
		s.mu.Unlock()
	}
	if err != nil {
		s.srv.drops.corrupt.Add(1)
		s.srv.opts.Log.Error("mqtt: batch cannot be delivered", "client", s.id, "partition", f.tp.String(), "offset", b.BaseOffset(), "err", err)
	}
	s.mu.Lock()
	s.cursorOf(f).next = b.NextOffset()
	s.dirty = true
	s.mu.Unlock()
	return false, nil
}

// skip moves the cursor to what the log still has and says what was lost.
func (p *pump) skip(f *feed, next int64) error {
	start, _, err := p.s.srv.log.Offsets(f.tp)
	if err != nil {
		return err
	}
	if next < start {
		f.lost(p.s, next, start)
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.cursorOf(f).next = start
	return nil
}

// subscribed adds or replaces subscriptions. since is the place in each feed at
// which they begin. s.mu is held.
func (s *session) subscribed(sub *subscription) (replaced *subscription) {
	if len(s.subs) == 0 { // nothing before concerned this session
		for i, offset := range sub.since {
			if cur := s.cursorOf(s.srv.feedAt(i)); !cur.behind {
				cur.next = offset
			}
		}
	}
	replaced = s.subs[sub.filter]
	if replaced != nil {
		sub.since = replaced.since
	}
	s.subs[sub.filter] = sub
	s.dirty = true
	return replaced
}

// resume prepares the session for a new connection: everything is served from the
// log until it has been caught up with. s.mu is held.
func (s *session) resume() {
	s.resend = s.resend[:0]
	for id := range s.inflight {
		s.resend = append(s.resend, id)
	}
	slices.SortFunc(s.resend, func(a, b uint16) int { return int(int64(s.inflight[a].seq) - int64(s.inflight[b].seq)) })
	if len(s.subs) == 0 && len(s.resend) == 0 {
		return
	}
	s.behind = 0
	for i, f := range s.srv.feedList() {
		next := f.origin // a feed that began while the session was away
		if i < len(s.cursors) {
			next = s.cursors[i].next
		}
		*s.cursorOf(f) = cursor{next: next, behind: !f.gone.Load()}
		if s.cursors[i].behind {
			s.behind++
		}
	}
}

// suspend fixes the cursors where the feeds are. s.mu is held, and s.conn is nil
// already: no feed will send anything from here on.
func (s *session) suspend() {
	for _, f := range s.srv.feedList() {
		cur := s.cursorOf(f)
		if !cur.behind {
			cur.next = max(cur.next, f.next.Load())
		}
	}
	s.dirty = true
}
