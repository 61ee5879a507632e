package mqtt

import (
	"bytes"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// will is the message that is published when a connection ends without DISCONNECT
// [MQTT-3.1.2-8]. It is sent at once; a Will Delay Interval is not waited for.
type will struct {
	client string
	msg    packet.Publish
}

func newWill(client string, w *packet.Will) *will {
	m := &will{client: client, msg: packet.Publish{QoS: w.QoS, Retain: w.Retain, Topic: bytes.Clone(w.Topic), Payload: bytes.Clone(w.Payload)}}
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

// publishWill sends a will the way of any message. Nobody waits for its commit, but
// a failure is counted and logged.
func (srv *Server) publishWill(w *will) {
	c := &conn{srv: srv, id: w.client, version: packet.V5, out: newOutbox(srv.opts.MaxOutgoingBytes)}
	c.acks.init()
	c.in.c = c
	c.in.begin()
	srv.traffic.wills.Add(1)
	m := w.msg
	m.PacketID = 1
	if err := c.accept(&m, m.Topic); err != nil {
		srv.refusals.storage.Add(1)
		srv.opts.Log.Error("mqtt: will cannot be published", "client", w.client, "topic", string(m.Topic), "err", err)
	}
	c.in.stage()
}
