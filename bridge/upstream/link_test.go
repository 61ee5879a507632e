package upstream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/bridge/upstream"
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

// A link's health is its progress: how long there was none of what is in flight.
func TestStalled(t *testing.T) {
	joined(t, nil, func(t *testing.T, p *pair) {
		const out = `weir_upstream_stalled_seconds{upstream="plant",direction="out"} `
		time.Sleep(time.Hour)
		p.measures(t, out+"0")
		p.local.messages("out/a")
		id := p.remote.got("out/a")
		time.Sleep(15 * time.Second)
		p.measures(t, out+"15")
		if st := p.link.Status(); st.State != upstream.Connected {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Second)
		if st := p.link.Status(); st.State != upstream.Stalled {
			t.Errorf("%+v", st)
		}
		p.remote.puback(id, packet.Success, "")
		p.local.acked(1)
		p.measures(t, out+"0")
		if st := p.link.Status(); st.State != upstream.Connected {
			t.Errorf("%+v", st)
		}
	})
}

// The status says that a broker does not answer, not that the link has closed the connection.
func TestHungBrokerIsNamed(t *testing.T) {
	joined(t, nil, func(t *testing.T, p *pair) {
		p.remote.hung.Store(true)
		for p.link.Status().State == upstream.Connected {
			time.Sleep(100 * time.Millisecond)
		}
		if st := p.link.Status(); !strings.Contains(st.Error, "mqtt://127.0.0.1") || !strings.Contains(st.Error, "PINGREQ") {
			t.Errorf("%+v", st)
		}
		p.remote.hung.Store(false)
		<-p.remote.filters
		<-p.local.filters
		synctest.Wait()
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
