package mqtt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// connect takes the first packet, which must be CONNECT [MQTT-3.1.0-1].
func (c *conn) connect(f packet.Frame) error {
	if c.auth != nil { // until CONNACK the client sends AUTH or DISCONNECT [MQTT-3.1.2-30]
		switch f.Type {
		case packet.TypeAuth:
			return c.authenticate(f)
		case packet.TypeDisconnect:
			return errDone
		}
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.1.2-30", Text: f.Type.String() + " before the end of the authentication"}
	}
	if f.Type != packet.TypeConnect {
		return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.1.0-1", Text: f.Type.String() + " before CONNECT"}
	}
	var p packet.Connect
	err := p.Decode(f)
	if c.version = packet.V311; p.Version > packet.V311 { // 3.1.1 is also the way to tell an older client, 5 a newer one
		c.version = packet.V5
	}
	if v, ok := p.Props.Uint(packet.MaximumPacketSize); ok && err == nil {
		c.maxPacket = int(min(v, math.MaxInt32))
	}
	if err == nil {
		err = c.checkConnect(&p)
	}
	if err != nil {
		return c.deny(err)
	}
	if method, ok := p.Props.Bytes(packet.AuthMethod); ok {
		kept, err := keepConnect(f)
		if err != nil {
			return c.deny(err)
		}
		return c.begin(kept, string(method))
	}
	if err := c.identify(&p); err != nil {
		return c.deny(err)
	}
	return c.accepted(&p, nil)
}

// accepted lets a client in that is known. authData is the end of its enhanced
// authentication.
func (c *conn) accepted(p *packet.Connect, authData []byte) error {
	c.id = string(p.ClientID)
	assigned := c.id == ""
	if assigned {
		c.id = assignID() // [MQTT-3.1.3-6]
	}
	c.settle(p)
	c.rates = c.srv.allowances(c)
	present, err := c.srv.attach(c, p)
	if errors.Is(err, errDone) {
		return err
	}
	if err != nil {
		return c.deny(err)
	}
	c.srv.opts.Log.Debug("mqtt: connected", "client", c.id, "remote", c.remote, "session_present", present)
	ack := packet.Connack{SessionPresent: present}
	if c.version == packet.V5 {
		c.announce(&ack.Props, assigned)
	}
	if c.auth != nil { // [MQTT-4.12.0-5]
		ack.Props.SetBytes(packet.AuthMethod, []byte(c.auth.method))
		if authData != nil {
			ack.Props.SetBytes(packet.AuthData, authData)
		}
	}
	if err := c.answer(func(dst []byte) []byte { return ack.Append(dst, c.version) }); err != nil {
		return err
	}
	c.open = true
	c.enter()
	return nil
}

// enter lets messages come: nothing may come before CONNACK [MQTT-3.2.0-1].
func (c *conn) enter() {
	s := c.sess
	c.served.Store(s)
	s.mu.Lock()
	s.conn = c
	if s.behind > 0 || len(s.resend) > 0 || len(s.releases) > 0 || len(s.retain) > 0 {
		s.startPump(c)
	}
	subs := s.sharedSubs()
	s.mu.Unlock()
	for _, sub := range subs {
		sub.share.mu.Lock()
		sub.share.enter(sub)
		sub.share.mu.Unlock()
	}
}

func (c *conn) checkConnect(p *packet.Connect) error {
	opts := &c.srv.opts
	switch {
	case len(p.ClientID) == 0 && p.Version == packet.V311 && !p.CleanStart:
		return &packet.Error{Reason: packet.ClientIDNotValid, Clause: "MQTT-3.1.3-8", Text: "empty client identifier without clean session"}
	case len(p.ClientID) > opts.MaxClientIDBytes:
		return &packet.Error{Reason: packet.ClientIDNotValid, Text: fmt.Sprintf("client identifier of %d bytes, the limit is %d (max_client_id_bytes)", len(p.ClientID), opts.MaxClientIDBytes)}
	case p.HasWill && (len(p.Will.Topic) > opts.MaxTopicBytes || packet.Depth(p.Will.Topic) > opts.MaxTopicLevels || hasPrefix(p.Will.Topic, "$SYS/")):
		return &packet.Error{Reason: packet.TopicNameInvalid, Text: "will topic is too long, too deep or the server's own"}
	}
	return nil
}

// deny answers CONNECT with the reason and ends the connection [MQTT-3.1.4-2].
func (c *conn) deny(err error) error {
	c.srv.refusals.connections.Add(1)
	reason := reasonOf(err)
	ack := packet.Connack{Code: byte(reason)}
	switch {
	case c.version == packet.V5:
		ack.Props.SetBytes(packet.ReasonString, []byte(err.Error()))
		if c.maxPacket > 0 && len(ack.Append(nil, c.version)) > c.maxPacket { // [MQTT-3.2.2-19]
			ack.Props.Reset()
		}
	case reason == packet.MalformedPacket, reason == packet.ProtocolError, reason == packet.TopicNameInvalid:
		return err // of the return codes of 3.1.1 none says that
	default:
		ack.Code = reason.ConnackCode()
	}
	c.out.answer(func(dst []byte) []byte { return ack.Append(dst, c.version) })
	return err
}

// disconnect takes DISCONNECT, the last packet of a client.
func (c *conn) disconnect(f packet.Frame) error {
	var d packet.Disconnect
	if err := d.Decode(f, c.version); err != nil {
		return err
	}
	if expiry, ok := d.Props.Uint(packet.SessionExpiry); ok {
		c.sess.mu.Lock()
		was := c.sess.expiry
		if was != 0 {
			c.sess.expiry = c.srv.expirySeconds(expiry)
		}
		c.sess.mu.Unlock()
		if was == 0 && expiry != 0 {
			return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.14.2-2", Text: "session expiry raised from 0 in DISCONNECT"}
		}
	}
	c.normal = d.Reason != packet.DisconnectWithWill // [MQTT-3.14.4-3]
	return errDone
}

// settle takes over what CONNECT asks for this connection.
func (c *conn) settle(p *packet.Connect) {
	keepAlive := time.Duration(p.KeepAlive) * time.Second
	if most := c.srv.opts.MaxKeepAlive; c.version == packet.V5 && (keepAlive == 0 || keepAlive > most) {
		keepAlive, c.keepAlive = most, most // announced in CONNACK [MQTT-3.1.2-21]
	}
	c.idle = keepAlive * 3 / 2 // [MQTT-3.1.2-22]
	c.window = c.srv.opts.MaxInflight
	if v, ok := p.Props.Uint(packet.ReceiveMaximum); ok {
		c.window = min(c.window, int(v))
	}
	if v, ok := p.Props.Uint(packet.TopicAliasMaximum); ok {
		c.given.most = min(int(v), c.srv.opts.TopicAliasMaximum)
	}
	v, ok := p.Props.Uint(packet.RequestProblemInfo)
	c.problems = c.version == packet.V5 && (!ok || v == 1)
}

// announce says in CONNACK what this server does and does not.
func (c *conn) announce(p *packet.Properties, assigned bool) {
	opts := &c.srv.opts
	p.SetUint(packet.ReceiveMaximum, uint32(opts.ReceiveMaximum))
	p.SetUint(packet.MaximumPacketSize, uint32(opts.MaxPacketBytes))
	p.SetUint(packet.TopicAliasMaximum, uint32(opts.TopicAliasMaximum))
	p.SetUint(packet.SessionExpiry, c.sess.expiry) // the server may have shortened it
	if c.keepAlive > 0 {
		p.SetUint(packet.ServerKeepAlive, uint32(c.keepAlive/time.Second))
	}
	if assigned {
		p.SetBytes(packet.AssignedClientID, []byte(c.id))
	}
}

// assignID makes an identifier that no client has.
func assignID() string {
	var b [12]byte
	rand.Read(b[:])
	return "weir-" + hex.EncodeToString(b[:])
}

// expirySeconds bounds what a client asks for by MaxSessionExpiry.
func (srv *Server) expirySeconds(asked uint32) uint32 {
	return uint32(min(int64(asked), int64(srv.opts.MaxSessionExpiry/time.Second)))
}

// attach gives the connection its session: the one that there is, which another
// connection may have to leave first [MQTT-3.1.4-3], or a new one.
func (srv *Server) attach(c *conn, p *packet.Connect) (present bool, err error) {
	srv.mu.Lock()
	srv.admitted++
	arrival := srv.admitted
	srv.mu.Unlock()
	for {
		srv.mu.Lock()
		s := srv.sessions[c.id]
		if s != nil && s.arrival > arrival { // a later connection was let in while this one waited
			srv.mu.Unlock()
			return false, errDone
		}
		if s == nil || s.owner == nil {
			present, old, err := srv.claim(c, s, p)
			if err == nil {
				c.sess.arrival = arrival
			}
			srv.mu.Unlock()
			if err != nil {
				return false, err
			}
			if err = srv.enter(c, old, present); err != nil {
				c.forsake(present)
			}
			return present, err
		}
		owner := s.owner
		srv.mu.Unlock()
		owner.takingOver.Store(true)
		srv.sessionCounts.takenOver.Add(1)
		owner.kick()
		select {
		case <-owner.done:
		case <-c.ctx.Done():
			return false, c.ctx.Err()
		}
	}
}

// claim makes c the owner of the session; old is a session that ends here. srv.mu is held.
func (srv *Server) claim(c *conn, s *session, p *packet.Connect) (present bool, old *session, err error) {
	if s != nil && (p.CleanStart || s.ended() || !c.mayResume(s)) { // [MQTT-3.1.2-4]
		s, old = nil, s
	}
	present = s != nil
	if s == nil {
		if old == nil && len(srv.sessions) >= srv.opts.MaxSessions {
			return false, nil, &packet.Error{Reason: packet.QuotaExceeded, Text: "too many sessions (max_sessions)"}
		}
		s = newSession(srv, c.id)
		srv.sessions[c.id] = s
	}
	s.owner, c.sess = c, s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	expiry, waiting := s.expiry, s.will
	s.expiry = 0
	if v, ok := p.Props.Uint(packet.SessionExpiry); ok {
		s.expiry = srv.expirySeconds(v)
	} else if c.version == packet.V311 && !p.CleanStart {
		s.expiry = srv.expirySeconds(packet.SessionNeverExpires)
	}
	s.stopWill() // [MQTT-3.1.3-9]
	if s.will = nil; p.HasWill {
		s.will = newWill(c, s, &p.Will)
	}
	s.dirty = true
	s.promised = s.persistent() && (!present || s.expiry != expiry || !s.will.same(waiting))
	if old != nil {
		old.mu.Lock()
		s.stored = old.stored // its record is the new one's to replace
		old.gone, old.stored = true, false
		s.receipts.stored = old.receipts.end(true)
		if old.timer != nil {
			old.timer.Stop()
		}
		old.mu.Unlock()
	}
	return present, old, nil
}

// enter makes the session's subscriptions count again, or ends the one before it. What
// CONNACK says of the session is stored before: that there is one [MQTT-3.1.2-23], for
// how long, and its will [MQTT-3.1.2-7]. One that is resumed as it was left is stored so.
func (srv *Server) enter(c *conn, old *session, present bool) error {
	s := c.sess
	if old != nil { // it ends here, and its will waits no longer [MQTT-3.1.2-8]
		srv.inherit(s, old)
		srv.execute(s)
		srv.leaveShares(old)
	}
	s.mu.Lock()
	unsaved := s.promised || old != nil // whose end is stored before CONNACK
	s.promised, s.dirty = false, s.dirty || unsaved
	s.mu.Unlock()
	if unsaved {
		if err := srv.save(c.ctx, s); err != nil {
			return fmt.Errorf("session cannot be stored: %w", err)
		}
	}
	s.mu.Lock()
	idle := len(s.subs) == 0 && len(s.inflight) == 0
	s.mu.Unlock()
	if !present || idle {
		return nil
	}
	if _, err := srv.horizon(s); err != nil {
		return err
	}
	s.mu.Lock()
	s.resume()
	for _, sub := range s.subs {
		if sub.share == nil {
			srv.subs.add(sub)
		}
	}
	s.mu.Unlock()
	return nil
}

// forsake lets go of a session whose client is not let in: it has no will, and nothing
// that the client does not know of is kept.
func (c *conn) forsake(present bool) {
	c.normal = true
	if s := c.sess; !present {
		s.mu.Lock()
		s.expiry = 0
		s.mu.Unlock()
	}
}

// sharedSubs is the shared subscriptions. s.mu is held.
func (s *session) sharedSubs() (subs []*subscription) {
	for _, sub := range s.subs {
		if sub.share != nil {
			subs = append(subs, sub)
		}
	}
	return subs
}

// detach ends delivery to a connection that is over.
func (srv *Server) detach(c *conn) {
	s := c.sess
	s.mu.Lock()
	entered := s.conn == c
	s.conn = nil
	if entered {
		s.suspend()
	}
	back := s.giveUp(false)
	subs := make([]*subscription, 0, len(s.subs))
	for _, sub := range s.subs {
		subs = append(subs, sub)
	}
	s.mu.Unlock()
	for _, sub := range subs {
		if sub.share == nil {
			srv.subs.remove(sub)
			continue
		}
		sub.share.exit(sub, back[sub.share])
		delete(back, sub.share)
	}
	for g, rest := range back { // unsubscribed meanwhile
		g.exit(nil, rest)
	}
	srv.idle(s)
}

// leaveShares ends the memberships of a session that ends.
func (srv *Server) leaveShares(s *session) {
	s.mu.Lock()
	subs, back := s.sharedSubs(), s.giveUp(true)
	s.shares = nil
	s.mu.Unlock()
	for _, sub := range subs {
		sub.share.leave(sub, back[sub.share])
		delete(back, sub.share)
	}
	for g, rest := range back { // unsubscribed meanwhile
		g.exit(nil, rest)
	}
}

// release publishes the will, stores the session, or ends it, and lets go of it.
func (srv *Server) release(c *conn) {
	s := c.sess
	s.mu.Lock()
	keep := s.persistent()
	s.gone = !keep
	s.bequeath(c, keep)
	s.mu.Unlock()
	srv.execute(s)
	if !keep {
		srv.leaveShares(s)
	}
	srv.store.save(s, func(error) {})
	srv.mu.Lock()
	defer srv.mu.Unlock()
	s.owner = nil
	if !keep {
		delete(srv.sessions, s.id)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	srv.startExpiry(s)
}

// startExpiry starts the time that a session without connection has left. s.mu is held.
func (srv *Server) startExpiry(s *session) {
	s.timer = time.AfterFunc(time.Duration(s.expiry)*time.Second, func() { srv.expire(s) })
}

func (srv *Server) expire(s *session) {
	srv.mu.Lock()
	if srv.closed || s.owner != nil || srv.sessions[s.id] != s {
		srv.mu.Unlock()
		return
	}
	srv.wg.Add(1)
	s.mu.Lock()
	s.over = true
	s.fallDue() // the session ends before the delay does
	s.mu.Unlock()
	srv.mu.Unlock()
	defer srv.wg.Done()
	srv.execute(s)
	discarded := srv.discard(s)
	if discarded {
		srv.leaveShares(s)
		srv.sessionCounts.expired.Add(1)
	}
	srv.store.save(s, func(error) {})
	if discarded { // its end is staged: a session that begins now is stored after it
		srv.mu.Lock()
		defer srv.mu.Unlock()
		if srv.sessions[s.id] == s {
			delete(srv.sessions, s.id)
		}
	}
}

// discard ends a session that is over, unless it has wills that wait: they are in its
// record. It is tried again then.
func (srv *Server) discard(s *session) bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.closed || s.owner != nil || srv.sessions[s.id] != s {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.due) > 0 {
		s.timer = time.AfterFunc(willRetry, func() { srv.expire(s) })
		return false
	}
	s.gone, s.dirty = true, true
	return true
}

// ended reports whether the session has expired.
func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}
