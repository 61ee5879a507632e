package mqtt

import (
	"bytes"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// will is the message that is published when a connection ends without DISCONNECT
// [MQTT-3.1.2-8]: at once, or, while the session lives on, once the Will Delay Interval
// has passed without another connection [MQTT-3.1.3-9]. A will that waits is a part of
// the session's record, and so is that of a connected client: a box that restarts
// publishes the will of a client that does not come back. When its time has come it is
// due, and wills.go sees to it.
type will struct {
	sess  *session // whose it is; of one that is due guarded by wills.publishing
	delay uint32   // seconds
	msg   packet.Publish
	who   Identity // nil: everything is allowed, or was when the will was stored
}

// willGrace is the least time that clients have to come back to a box that restarted.
const willGrace = time.Minute

func newWill(c *conn, s *session, w *packet.Will) *will {
	m := &will{sess: s, who: c.who, msg: packet.Publish{QoS: w.QoS, Retain: w.Retain, Topic: bytes.Clone(w.Topic), Payload: bytes.Clone(w.Payload)}}
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

func decodeWill(s *session, delay uint32, b string) (*will, error) {
	f, n, err := packet.Split([]byte(b), len(b))
	if err != nil || n != len(b) || f.Type != packet.TypePublish {
		return nil, errSession
	}
	w := &will{sess: s, delay: delay}
	return w, w.msg.Decode(f, packet.V5)
}

// same reports whether two wills, or the lack of them, are stored as the same.
func (w *will) same(o *will) bool {
	if w == nil || o == nil {
		return w == o
	}
	return w.delay == o.delay && w.encode() == o.encode()
}

// bequeath decides what becomes of the will of a connection that is over. s.mu is held.
func (s *session) bequeath(c *conn, lives bool) {
	switch {
	case s.will == nil:
	case c.normal: // [MQTT-3.14.4-3]
		s.will, s.dirty = nil, true
	case s.srv.ctx.Err() != nil: // the client is not dead, the server is
	case lives && s.will.delay > 0:
		s.startWill(time.Duration(s.will.delay) * time.Second)
	default:
		s.fallDue()
	}
}

// fallDue notes that the time of the will has come. s.mu is held.
func (s *session) fallDue() {
	if s.will != nil {
		s.due, s.will, s.dirty = append(s.due, s.will), nil, true
	}
	s.stopWill()
}

// startWill starts the time after which the will is due. s.mu is held.
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
		s.mu.Lock()
		waited := s.willTimer != nil // no other connection has come
		if waited {
			s.fallDue()
		}
		s.mu.Unlock()
		if waited {
			srv.execute(s)
			srv.store.save(s, func(error) {})
		}
	})
}

// stopWill ends the wait. s.mu is held.
func (s *session) stopWill() {
	if s.willTimer != nil {
		s.willTimer.Stop()
		s.willTimer = nil
	}
}
