package upstream_test

import (
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A broker that knows only MQTT 3.1.1 is spoken to in it.
func TestBrokerOf311(t *testing.T) {
	joined(t, func(p *pair) { p.remote.old = true }, func(t *testing.T, p *pair) {
		p.remote.messages("in/a")
		p.local.puback(p.local.got("in/a"), packet.Success, "")
		p.remote.acked(1)
		p.local.messages("out/b")
		p.remote.puback(p.remote.got("out/b"), packet.Success, "")
		p.local.acked(1)
		p.logged(t, "upstream: connected", "mqtt=3.1.1")
		if v := p.remote.version(); v != packet.V311 {
			t.Errorf("version %d", v)
		}
	})
}

// The properties of MQTT 5 and RETAIN go across; what belongs to one connection does not.
func TestPropertiesGoAcross(t *testing.T) {
	joined(t, func(p *pair) {
		p.local.allows = func(a *packet.Connack) { a.Props.SetUint(packet.MaximumPacketSize, 1000) }
	}, func(t *testing.T, p *pair) {
		m := packet.Publish{Topic: []byte("in/a"), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true}
		m.Props.SetBytes(packet.ContentType, []byte("text/plain"))
		m.Props.SetBytes(packet.CorrelationData, []byte("42"))
		m.Props.SetUint(packet.MessageExpiry, 60)
		m.Props.User = []packet.UserProperty{{Name: []byte("unit"), Value: []byte("bar")}}
		m.Props.SubscriptionIDs = []uint32{7}
		p.remote.publish(m)
		got := <-p.local.publishes
		expiry, _ := got.Props.Uint(packet.MessageExpiry)
		kind, _ := got.Props.Bytes(packet.ContentType)
		data, _ := got.Props.Bytes(packet.CorrelationData)
		if !got.Retain || expiry != 60 || string(kind) != "text/plain" || string(data) != "42" || len(got.Props.SubscriptionIDs) != 0 ||
			len(got.Props.User) != 1 || string(got.Props.User[0].Value) != "bar" {
			t.Errorf("%+v", got)
		}
		p.local.puback(got.PacketID, packet.Success, "")
		p.remote.acked(1)
	})
}
