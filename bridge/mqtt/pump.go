package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// startPump starts the goroutine that serves the session from the log; it ends when
// the session is live again everywhere. s.mu is held.
func (s *session) startPump(c *conn) {
	if s.pumping || s.conn != c {
		return
	}
	if s.pumping = true; s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
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
	s    *session
	c    *conn
	dec  record.Decoder
	seek seeker
	msg  message
	read digester
	want []uint64 // beginnings of the filters

	kept    []*retainedMessage // still to be sent to the subscription keptFor
	keptFor *subscription
}

// step does a bounded piece of work; more is false when there is none left, and the
// pump is then over.
func (p *pump) step() (more bool, err error) {
	s := p.s
	s.mu.Lock()
	switch {
	case s.conn != p.c:
	case len(s.releases) > 0:
		return true, p.release()
	case len(s.resend) > 0:
		return true, p.resend()
	case len(s.retain) > 0:
		return true, p.retained()
	case s.behind > 0:
		idx, next := s.hindmost()
		s.mu.Unlock()
		return true, p.catchUp(s.srv.feedAt(idx), next)
	}
	s.pumping = false
	s.mu.Unlock()
	return false, nil
}

// wait is called with s.mu held and returns without it, once there may be room. What
// can be sent without room for it is sent first: the room may depend on it.
func (p *pump) wait() error {
	s := p.s
	if len(s.releases) > 0 || len(s.resend) > 0 && p.room() {
		s.mu.Unlock()
		return nil
	}
	s.starved.Store(true)
	defer s.starved.Store(false)
	s.mu.Unlock()
	p.c.out.flush()
	select {
	case <-s.wake:
		return nil
	case <-p.c.ctx.Done():
		return p.c.ctx.Err()
	}
}

// room reports whether the client takes another message of QoS 1 or 2. s.mu is held.
func (p *pump) room() bool { return p.s.unacked < p.c.window && p.c.out.room() }

// persist stores the session. It is called with s.mu held and returns without it.
func (p *pump) persist() error {
	p.s.dirty = true
	p.s.mu.Unlock()
	p.c.out.flush()
	return p.s.srv.save(p.c.ctx, p.s)
}

// undurable reports whether a flight must be stored before more of it is sent.
func (s *session) undurable(fl *flight) bool {
	return fl.qos == 2 && s.persistent() && fl.mark > s.durable
}

// release sends the PUBRELs that are due, in the order of the PUBRECs [MQTT-4.6.0-4].
// s.mu is held on entry.
func (p *pump) release() error {
	s := p.s
	for len(s.releases) > 0 {
		id := s.releases[0]
		fl, ok := s.inflight[id]
		if ok && s.undurable(&fl) {
			return p.persist()
		}
		if s.releases = s.releases[1:]; !ok {
			continue
		}
		a := packet.Ack{Type: packet.TypePubrel, PacketID: id}
		if !p.c.out.answer(func(dst []byte) []byte { return a.Append(dst, p.c.version) }) {
			s.releases = append(s.releases, id) // the next connection's
			s.mu.Unlock()
			return context.Canceled
		}
	}
	s.mu.Unlock()
	return nil
}

// resend sends the messages that are in flight and were not sent on this connection:
// again, by their old packet identifiers and with DUP, or, stored by now, for the
// first time. s.mu is held on entry.
func (p *pump) resend() error {
	s := p.s
	for len(s.resend) > 0 && s.conn == p.c {
		id := s.resend[0]
		fl, ok := s.inflight[id]
		switch {
		case !ok || fl.released: // answered meanwhile
			s.resend = s.resend[1:]
			continue
		case s.undurable(&fl):
			return p.persist()
		case len(s.releases) > 0:
			s.mu.Unlock()
			return nil
		case !p.room():
			return p.wait()
		}
		s.mu.Unlock()
		found, err := p.recall(&fl)
		if err != nil {
			return err
		}
		s.mu.Lock()
		p.again(id, found)
	}
	s.mu.Unlock()
	p.c.out.flush()
	return nil
}

// again sends the first message of resend, which is the one at hand. s.mu is held.
func (p *pump) again(id uint16, found bool) {
	s := p.s
	fl, ok := s.inflight[id]
	if len(s.resend) == 0 || s.resend[0] != id || s.conn != p.c {
		return
	}
	s.resend = s.resend[1:]
	if !ok || fl.released {
		return
	}
	if !found {
		s.land(id) // retention or expiry has removed it
		s.srv.drops.retention.Add(1)
		return
	}
	d := delivery{version: p.c.version, qos: fl.qos, dup: fl.tried, id: id, retain: fl.feed == nil}
	if fl.feed != nil {
		var o offer
		if s.remakeFor(&fl, &p.msg, &o) {
			d.retain, d.subIDs = o.rap && p.msg.retain, o.subIDs
		}
	}
	if p.c.tooLarge(&p.msg, &d) {
		s.land(id)
		return
	}
	fl.sent, fl.tried = true, true
	s.inflight[id] = fl
	s.unacked++
	s.publish(p.c, &p.msg, &d)
}

// remakeFor is remake for a message that has been in flight before. s.mu is held.
func (s *session) remakeFor(fl *flight, m *message, o *offer) bool {
	if fl.share == nil {
		return s.remake(fl.feed, m, o)
	}
	sub := s.subs[fl.share.key]
	if sub != nil {
		o.merge(sub)
	}
	return sub != nil
}

// recall reads the message of a flight again. Flights are mostly recalled in the
// order of the log, so the pump keeps its place in the batch that it read last.
func (p *pump) recall(fl *flight) (bool, error) {
	p.msg.late = fl.tried
	defer func() { p.msg.late = false }()
	if fl.feed == nil {
		m := p.s.srv.retained.get(fl.topic)
		return m != nil && p.fill(m), nil
	}
	return p.seek.find(p.c.ctx, fl.feed, fl.offset, &p.msg)
}

// fill makes the message at hand a retained one.
func (p *pump) fill(m *retainedMessage) bool {
	r := m.record()
	return p.msg.decode(&r, p.s.srv.opts.Age) && (!p.msg.expired || p.msg.late)
}

// retained sends the retained messages of one new subscription [MQTT-3.3.1-9], as far
// as there is room. s.mu is held on entry.
func (p *pump) retained() error {
	s, sub := p.s, p.s.retain[0]
	if p.keptFor != sub {
		s.mu.Unlock()
		p.kept, p.keptFor = append(s.srv.retained.matching(sub.filter), s.srv.sysMatching(sub.filter)...), sub
		s.mu.Lock()
	}
	o := offer{}
	o.merge(sub)
	for len(p.kept) > 0 && s.conn == p.c && s.subs[sub.filter] == sub {
		m := p.kept[0]
		live := m.feed != nil && covers(sub.asked, m.feed, m.offset) // comes, or came, by itself
		if !live && p.fill(m) && !p.sendRetained(&o) {
			return p.wait()
		}
		p.kept = p.kept[1:]
	}
	if i := slices.Index(s.retain, sub); i >= 0 {
		s.retain = slices.Delete(s.retain, i, i+1)
	}
	p.kept, p.keptFor = nil, nil
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

const (
	catchUpBytes = 64 << 10
	maxGapNote   = 1 << 10 // of one user property; further gaps are in the log and in __weir_gaps
)

// noteGap keeps what was lost for the client's next message. s.mu is held.
func (s *session) noteGap(f *feed, from, to int64) {
	if len(s.gap) >= maxGapNote {
		return
	}
	if len(s.gap) > 0 {
		s.gap = append(s.gap, ' ')
	}
	s.gap = fmt.Appendf(s.gap, "%s:%d-%d", f.tp, from, to-1)
}

// catchUp serves what a session missed in one partition. It joins the live sessions
// under the feed's lock, so that no message falls between the two.
func (p *pump) catchUp(f *feed, next int64) error {
	s := p.s
	if next >= f.next.Load() || f.gone.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.overtake(f)
		return nil
	}
	if to := p.pass(f, next); to > next {
		s.mu.Lock()
		s.cursorOf(f.idx).next, s.dirty = to, true
		s.mu.Unlock()
		return nil
	}
	p.read.begin(f, next)
	bs, err := s.srv.log.Fetch(p.c.ctx, f.tp, next, catchUpBytes)
	if errors.Is(err, record.ErrOffsetOutOfRange) {
		return p.skip(f, next)
	}
	if err != nil {
		return err
	}
	p.dec.RawHeaders = true
	for b := range bs.All() {
		if full, err := p.batch(f, b, next); err != nil || full {
			return err
		}
	}
	p.c.out.flush()
	return nil
}

// pass returns the offset from which the session has to read, as far as is known.
func (p *pump) pass(f *feed, next int64) int64 {
	if f.eras.mapped.Load() {
		return next
	}
	p.s.mu.Lock()
	p.want = p.want[:0]
	for _, sub := range p.s.subs {
		if sub.share != nil {
			continue
		}
		hash, ok := beginning(sub.filter)
		if !ok {
			p.s.mu.Unlock()
			return next
		}
		p.want = append(p.want, hash)
	}
	p.s.mu.Unlock()
	return p.s.srv.digests.pass(f, next, p.want)
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
		if r.Offset < next {
			continue
		}
		sound := f.read(&r, &p.msg)
		if p.read.add(&s.srv.digests, r.Offset, p.msg.topic); !sound {
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
		if s.cursorOf(f.idx).next = r.Offset; !s.send(p.c, f, &p.msg, &o) {
			return true, p.wait()
		}
		s.cursorOf(f.idx).next = r.Offset + 1
		s.mu.Unlock()
	}
	if err != nil {
		s.srv.drops.corrupt.Add(1)
		s.srv.opts.Log.Error("mqtt: batch cannot be delivered", "client", s.id, "partition", f.tp.String(), "offset", b.BaseOffset(), "err", err)
	}
	p.read.reach(&s.srv.digests, b.NextOffset())
	s.mu.Lock()
	s.cursorOf(f.idx).next = b.NextOffset()
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
		f.lost(p.s.id, next, start)
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if next < start {
		p.s.noteGap(f, next, start)
	}
	p.s.cursorOf(f.idx).next = start
	return nil
}
