package mqtt

import (
	"bytes"
	"net"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// will is the message that is published when a connection ends without DISCONNECT
// [MQTT-3.1.2-8]: at once, or, while the session lives on, once the Will Delay Interval
// has passed without another connection [MQTT-3.1.3-9]. A will that waits is a part of
// the session's record, and so is that of a connected client: a box that restarts
// publishes the will of a client that does not come back.
type will struct {
	client string
	delay  uint32 // seconds
	msg    packet.Publish
}

// willGrace is the least time that clients have to come back to a box that restarted.
const willGrace = time.Minute

func newWill(client string, w *packet.Will) *will {
	m := &will{client: client, msg: packet.Publish{QoS: w.QoS, Retain: w.Retain, Topic: bytes.Clone(w.Topic), Payload: bytes.Clone(w.Payload)}}
	m.delay, _ = w.Props.Uint(packet.WillDelay)
	for _, id := range []packet.Property{packet.PayloadFormat, packet.MessageExpiry} {
		if v, ok := w.Props.Uint(id); ok {
			m.msg.Props.SetUint(id, v)
		}
	}
	for _, id := range []packet.Property{packet.ContentType, packet.ResponseTopic, packet.CorrelationData} {
		if v, ok := w.Props.Bytes(id); ok {
			m.msg.Props.SetBytes(id, bytes.Clone(v))
		}
	}
	for _, u := range w.Props.User {
		m.msg.Props.User = append(m.msg.Props.User, packet.UserProperty{Name: bytes.Clone(u.Name), Value: bytes.Clone(u.Value)})
	}
	return m
}

// encode is the will as a part of a stored session: the PUBLISH that it will be.
func (w *will) encode() string {
	m := w.msg
	if m.QoS > 0 {
		m.PacketID = 1
	}
	return string(m.Append(nil, packet.V5))
}

func decodeWill(client string, delay uint32, b string) (*will, error) {
	f, n, err := packet.Split([]byte(b), len(b))
	if err != nil || n != len(b) || f.Type != packet.TypePublish {
		return nil, errSession
	}
	w := &will{client: client, delay: delay}
	return w, w.msg.Decode(f, packet.V5)
}

// publishWill sends a will the way of any message. Nobody waits for its commit, but
// a failure is counted and logged.
func (srv *Server) publishWill(w *will) {
	srv.traffic.wills.Add(1)
	m := w.msg
	m.PacketID = 1
	if err := srv.publishFor(w.client, &m); err != nil {
		srv.opts.Log.Error("mqtt: will cannot be published", "client", w.client, "topic", string(m.Topic), "err", err)
	}
}

// publishFor takes a message that comes by no connection, as if client had sent it.
func (srv *Server) publishFor(client string, m *packet.Publish) error {
	c := &conn{srv: srv, id: client, version: packet.V5, out: outbox{failed: true}} // nobody reads an answer
	c.acks.init()
	c.sitDown()
	defer c.standUp()
	c.in.begin()
	err := c.accept(m, m.Topic)
	if err != nil {
		srv.countRefused(err, 1, 0)
	}
	c.in.stage()
	return err
}

// Publish takes a message of the server's own. Its routes, subscribers and limits are
// those of any message; no access rule is asked. Nobody waits for its commit, but a
// failure is counted and logged.
func (srv *Server) Publish(m *packet.Publish) error {
	srv.mu.Lock()
	if srv.closed {
		srv.mu.Unlock()
		return net.ErrClosed
	}
	srv.wg.Add(1)
	srv.mu.Unlock()
	defer srv.wg.Done()
	return srv.publishFor("", m)
}

// bequeath decides what becomes of the will of a connection that is over, and returns
// it if it is to be published now. s.mu is held.
func (s *session) bequeath(c *conn, lives bool) (now *will) {
	w := s.will
	switch {
	case w == nil:
		return nil
	case c.normal: // [MQTT-3.14.4-3]
		s.will, s.dirty = nil, true
		return nil
	case s.srv.ctx.Err() != nil: // the client is not dead, the server is
		return nil
	case lives && w.delay > 0:
		s.startWill(time.Duration(w.delay) * time.Second)
		return nil
	}
	s.will, s.dirty = nil, true
	return w
}

// startWill starts the time after which the will is published. s.mu is held.
func (s *session) startWill(delay time.Duration) {
	s.willTimer = time.AfterFunc(delay, func() {
		srv := s.srv
		srv.mu.Lock()
		if srv.closed {
			srv.mu.Unlock()
			return
		}
		srv.wg.Add(1)
		srv.mu.Unlock()
		defer srv.wg.Done()
		if w := s.takeWill(); w != nil {
			srv.publishWill(w)
			srv.store.save(s, func(error) {})
		}
	})
}

// takeWill takes the will that waits out of the session; nil when there is none, or
// another connection has come.
func (s *session) takeWill() *will {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.willTimer == nil {
		return nil
	}
	w := s.will
	s.stopWill()
	s.will, s.dirty = nil, true
	return w
}

// stopWill ends the wait. s.mu is held.
func (s *session) stopWill() {
	if s.willTimer != nil {
		s.willTimer.Stop()
		s.willTimer = nil
	}
}
