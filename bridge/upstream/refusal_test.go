package upstream_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/bridge/upstream"
)

// directions runs a test with messages coming in and going out.
func directions(t *testing.T, prepare func(to *side), test func(t *testing.T, p *pair, name string, from, to *side, counts func() upstream.Direction)) {
	for _, name := range []string{"in", "out"} {
		t.Run(name, func(t *testing.T) {
			ends := func(p *pair) (from, to *side) {
				if name == "in" {
					return p.remote, p.local
				}
				return p.local, p.remote
			}
			joined(t, func(p *pair) {
				if _, to := ends(p); prepare != nil {
					prepare(to)
				}
			}, func(t *testing.T, p *pair) {
				from, to := ends(p)
				test(t, p, name, from, to, func() upstream.Direction {
					synctest.Wait()
					if st := p.link.Status(); name == "in" {
						return st.In
					} else {
						return st.Out
					}
				})
			})
		})
	}
}

// What the receiver refuses for good is acknowledged, counted and logged, and what is
// behind it passes.
func TestRefusedForGood(t *testing.T) {
	for reason, label := range map[packet.Reason]string{packet.NotAuthorized: "not_authorized", packet.TopicNameInvalid: "topic_name_invalid",
		packet.ImplementationSpecificError: "implementation_specific_error", packet.PayloadFormatInvalid: "payload_format_invalid"} {
		t.Run(label, func(t *testing.T) {
			directions(t, nil, func(t *testing.T, p *pair, name string, from, to *side, counts func() upstream.Direction) {
				from.messages(name+"/bad", name+"/good")
				bad, good := to.got(name+"/bad"), to.got(name+"/good")
				to.puback(bad, reason, "never")
				to.puback(good, packet.Success, "")
				from.acked(1, 2)
				want := map[string]int64{label: 1}
				if d := counts(); !maps.Equal(d.Refused, want) || d.Messages != 1 || d.InFlight != 0 || d.Held != 0 {
					t.Errorf("%+v", d)
				}
				p.logged(t, "level=ERROR", name+"/bad", reason.String(), "never", "mend=")
				p.measures(t, `weir_upstream_refused_total{upstream="plant",direction="`+name+`",reason="`+label+`"} 1`)
				if from.all != 1 || to.all != 1 {
					t.Error("the link connected again")
				}
			})
		})
	}
}

// A packet that is too large for the receiver would cost the connection, for ever
// [MQTT-3.2.2-15]: it is not sent.
func TestTooLarge(t *testing.T) {
	directions(t, func(to *side) {
		to.allows = func(a *packet.Connack) { a.Props.SetUint(packet.MaximumPacketSize, 100) }
	}, func(t *testing.T, p *pair, name string, from, to *side, counts func() upstream.Direction) {
		large := name + "/" + strings.Repeat("x", 60) // topic and payload
		from.messages(large, name+"/small")
		to.puback(to.got(name+"/small"), packet.Success, "")
		from.acked(1, 2)
		if d := counts(); d.Refused["packet_too_large"] != 1 || d.Messages != 1 {
			t.Errorf("%+v", d)
		}
		p.logged(t, large, "packet too large", "the receiver takes 100", "mend=")
	})
}

// What the receiver refuses for now is held, in order and without an end; nothing
// overtakes it, and the status says why nothing moves.
func TestHeld(t *testing.T) {
	for _, reason := range []packet.Reason{packet.QuotaExceeded, packet.UnspecifiedError, packet.PacketIDInUse} {
		t.Run(reason.String(), func(t *testing.T) {
			directions(t, nil, func(t *testing.T, p *pair, name string, from, to *side, counts func() upstream.Direction) {
				topics := []string{name + "/1", name + "/2", name + "/3"}
				from.messages(topics...)
				var ids []uint16
				for _, topic := range topics {
					ids = append(ids, to.got(topic))
				}
				for _, id := range ids {
					to.puback(id, reason, "no room")
				}
				to.silent()
				from.publish(packet.Publish{Topic: []byte(name + "/4"), QoS: 1, PacketID: 4})
				for range 20 {
					to.puback(to.got(name+"/1"), reason, "no room")
				}
				to.silent()
				from.silent()
				p.measures(t, `weir_upstream_held{upstream="plant",direction="`+name+`"} 3`)
				st := p.link.Status()
				if d := counts(); d.Held != 3 || d.InFlight != 3 || st.State != upstream.Stalled || !strings.Contains(st.Error, name+"/1") || !strings.Contains(st.Error, "no room") {
					t.Errorf("%+v, %+v", st, d)
				}
				p.logged(t, "level=WARN", name+"/", reason.String(), "mend=")
				if n := strings.Count(p.log.String(), "held back"); n > 40 {
					t.Errorf("%d lines in the log", n)
				}
				began := time.Now()
				to.puback(to.got(name+"/1"), packet.Success, "")
				if pause := time.Since(began); pause > 10*time.Second {
					t.Errorf("tried again after %v", pause)
				}
				to.puback(to.got(name+"/2"), packet.NotAuthorized, "") // one of them is refused for good by then
				to.puback(to.got(name+"/3"), packet.Success, "")
				to.puback(to.got(name+"/4"), packet.Success, "")
				from.acked(1, 2, 3, 4)
				if d, st := counts(), p.link.Status(); d.Held != 0 || d.InFlight != 0 || d.Messages != 3 || d.Refused["not_authorized"] != 1 || st.State != upstream.Connected || st.Error != "" {
					t.Errorf("%+v", st)
				}
				if from.all != 1 || to.all != 1 {
					t.Error("the link connected again")
				}
			})
		})
	}
}

// While messages are held as many as are allowed in flight are taken from the broker,
// and its connection lives: pings are answered, the other direction moves.
func TestHeldIsBackpressure(t *testing.T) {
	joined(t, nil, func(t *testing.T, p *pair) {
		for id := uint16(1); id <= 8; id++ { // its Receive Maximum
			p.remote.publish(packet.Publish{Topic: []byte("in/x"), QoS: 1, PacketID: id})
			if id == 1 {
				p.local.puback(p.local.got("in/x"), packet.QuotaExceeded, "")
				synctest.Wait()
			}
		}
		for range 100 {
			p.local.puback(p.local.got("in/x"), packet.QuotaExceeded, "")
		}
		p.local.messages("out/y")
		p.remote.puback(p.remote.got("out/y"), packet.Success, "")
		p.local.acked(1)
		for range 8 {
			p.local.puback(p.local.got("in/x"), packet.Success, "")
		}
		p.remote.acked(1, 2, 3, 4, 5, 6, 7, 8)
		if p.remote.all != 1 || p.local.all != 1 {
			t.Error("the link connected again")
		}
	})
}
