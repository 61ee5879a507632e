package mqtt_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// deliveryCases are of what clients are sent.
var deliveryCases = map[string]func(*kit){
	"qos0-bytes": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "t@0")
		k.in("p").send(publish(k.v, 1, "t", "hi"))
		s.next2(func(b []byte) {
			if want := k.pick("\x30\x06\x00\x01t\x00hi", "\x30\x05\x00\x01thi"); string(b) != want {
				k.t.Errorf("%x, want %x", b, want)
			}
		})
	}),
	"property-length": started(func(k *kit) {
		s := k.in("s")
		s.send(subscribe(v5, 1, "t"))
		s.next2(func(b []byte) {
			if string(b) != "\x90\x04\x00\x01\x00\x01" {
				k.t.Errorf("%x", b)
			}
		})
		s.send(publish(v5, 1, "t", ""))
		for range 2 {
			s.next2(func(b []byte) {
				if s := string(b); s != "\x40\x02\x00\x01" && s != "\x32\x06\x00\x01t\x00\x01\x00" {
					k.t.Errorf("%x", b)
				}
			})
		}
	}),
	"server-identifiers": func(k *kit) {
		k.opts.MaxInflight = 20
		k.start()
		s, p := k.in("s"), k.in("p")
		k.sub(s, "t@2")
		open := map[string]bool{}
		for i := range 60 {
			if i%3 == 0 {
				p.send(publish2(k.v, uint16(i+1), "t", "x"))
			} else {
				p.send(publish(k.v, uint16(i+1), "t", "x"))
			}
			p.next()
			m := s.next()
			id := m[strings.Index(m, "#")+1:]
			if open[id] || id == "0" {
				k.t.Fatalf("%s: the identifier is in use", m)
			}
			open[id] = true
			if i%3 != 0 && len(open) > 10 {
				var n uint16
				fmt.Sscan(id, &n)
				s.send(puback(n))
				delete(open, id)
			}
			if i%3 == 0 && len(open) > 10 {
				var n uint16
				fmt.Sscan(id, &n)
				s.send(pubrec(n))
				s.expect("PUBREL #" + id)
				s.send(pubcomp(n))
				delete(open, id)
			}
		}
	},
	"dup-again": started(func(k *kit) {
		s, p := k.in("s", keep), k.in("p")
		k.sub(s, "t")
		p.send(publish(k.v, 1, "t", "a"), publish(k.v, 2, "t", "b"))
		s.expect("PUBLISH t=a q1 #1", "PUBLISH t=b q1 #2")
		s.send(puback(1))
		s.quiet() // and nothing is sent again on the same connection
		s.nc.Close()
		s, _ = k.connect(k.v, "s", keep)
		s.expect("PUBLISH t=b q1 #2 dup")
		s.send(puback(2))
		s.quiet()
	}),
	"dup-own": started(func(k *kit) {
		s, p := k.in("s"), k.in("p")
		k.sub(s, "t@2")
		p.send(again(publish(k.v, 1, "t", "a")), again(publish2(k.v, 2, "t", "b")))
		s.expect("PUBLISH t=a q1 #1", "PUBLISH t=b q2 #2")
	}),
	"qos2-out": started(func(k *kit) {
		for i, change := range []func(*packet.Connect){func(*packet.Connect) {}, keep} {
			s := k.in("s", change)
			k.sub(s, fmt.Sprint("t", i, "@2"))
			k.in("p").send(publish2(k.v, 1, fmt.Sprint("t", i), "x"))
			s.expect(fmt.Sprintf("PUBLISH t%d=x q2 #1", i))
			s.send(pubrec(1))
			s.expect("PUBREL #1")
			s.send(pubcomp(1), pubrec(1))
			s.expect(k.pick("PUBREL #1 92", "PUBREL #1"))
			s.quiet()
		}
	}),
	"qos2-out-again": started(func(k *kit) {
		s, p := k.in("s", keep), k.in("p")
		k.sub(s, "t@2")
		p.send(publish2(k.v, 1, "t", "a"), publish2(k.v, 2, "t", "b"))
		s.expect("PUBLISH t=a q2 #1", "PUBLISH t=b q2 #2")
		s.send(pubrec(1))
		s.expect("PUBREL #1")
		s.nc.Close()
		s, _ = k.connect(k.v, "s", keep)
		s.anyOrder("PUBREL #1", "PUBLISH t=b q2 #2 dup")
		s.send(pubcomp(1), pubrec(2))
		s.expect("PUBREL #2")
		s.nc.Close()
		s, _ = k.connect(k.v, "s", keep)
		s.expect("PUBREL #2")
		s.send(pubcomp(2))
		s.quiet()
	}),
	"qos2-order": started(func(k *kit) {
		s, p := k.in("s", keep), k.in("p")
		k.sub(s, "t@2")
		for i := range 5 {
			p.send(publish2(k.v, uint16(i+1), "t", "x"))
		}
		for i := range 5 {
			s.expect(fmt.Sprintf("PUBLISH t=x q2 #%d", i+1))
		}
		s.send(pubrec(3), pubrec(1), pubrec(5), pubrec(2), pubrec(4))
		s.expect("PUBREL #3", "PUBREL #1", "PUBREL #5", "PUBREL #2", "PUBREL #4")
	}),
	"failed-acks": started(func(k *kit) {
		s, p := k.in("s", keep), k.in("p")
		k.sub(s, "t@2")
		p.send(publish(k.v, 1, "t", "a"), publish2(k.v, 2, "t", "b"))
		s.expect("PUBLISH t=a q1 #1", "PUBLISH t=b q2 #2")
		s.send(reasoned(packet.TypePuback, 1, packet.QuotaExceeded), reasoned(packet.TypePubrec, 2, packet.QuotaExceeded))
		s.quiet()
		s.nc.Close()
		s, _ = k.connect(k.v, "s", keep)
		s.quiet()
	}),
	"expiry-in-flight": inTime(started(func(k *kit) {
		s, p := k.in("s", keep), k.in("p")
		k.sub(s, "t@2")
		m := packet.Publish{QoS: 2, PacketID: 1, Topic: []byte("t"), Payload: []byte("x")}
		m.Props.SetUint(packet.MessageExpiry, 10)
		p.send(m.Append(nil, v5))
		s.expect("PUBLISH t=x q2 #1")
		s.nc.Close()
		time.Sleep(time.Minute)
		s, _ = k.connect(v5, "s", keep)
		s.expect("PUBLISH t=x q2 #1 dup")
	})),
	"maximum-packet-size": started(func(k *kit) {
		s := k.in("s", func(p *packet.Connect) { p.Props.SetUint(packet.MaximumPacketSize, 50) })
		k.sub(s, "t")
		p := k.in("p")
		p.send(publish(v5, 1, "t", strings.Repeat("x", 42)), publish(v5, 2, "t", strings.Repeat("y", 43)), publish(v5, 3, "t", "z"))
		s.expect("PUBLISH t="+strings.Repeat("x", 42)+" q1 #1", "PUBLISH t=z q1 #2")
	}),
	"outgoing-aliases": func(k *kit) { TestOutgoingAliases(k.t) },
	"no-outgoing-aliases": started(func(k *kit) {
		s, p := k.in("s"), k.in("p")
		k.sub(s, "topic")
		for i := range 3 {
			p.send(publish(v5, uint16(i+1), "topic", "x"))
			s.expect(fmt.Sprintf("PUBLISH topic=x q1 #%d", i+1))
		}
	}),
	"send-window": started(func(k *kit) {
		s := k.in("s", func(p *packet.Connect) { p.Props.SetUint(packet.ReceiveMaximum, 2) })
		k.sub(s, "t@2", "z@0")
		p := k.in("p")
		for i := range 4 {
			p.send(publish2(v5, uint16(i+1), "t", fmt.Sprint(i)))
			p.expect(fmt.Sprintf("PUBREC #%d", i+1))
		}
		s.expect("PUBLISH t=0 q2 #1", "PUBLISH t=1 q2 #2")
		s.quiet() // no third, but answers
		s.send(subscribe(v5, 9, "u"))
		s.expect("SUBACK #9 01")
		s.send(pubrec(1))
		s.expect("PUBREL #1") // which gives no room yet
		s.quiet()
		s.send(pubcomp(1))
		s.expect("PUBLISH t=2 q2 #3")
	}),
	"overlapping": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "a/#@0", "a/b@2", "a/+@1")
		k.in("p").send(publish2(k.v, 1, "a/b", "x"))
		s.expect("PUBLISH a/b=x q2 #1")
		s.send(pubrec(1))
		s.expect("PUBREL #1")
		s.quiet()
	}),
	"ordered": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "t/#@2")
		p := k.in("p")
		for i := range 200 {
			p.send(publish(k.v, uint16(i+1), "t/x", fmt.Sprint(i)))
		}
		for i := range 200 {
			s.expect(fmt.Sprintf("PUBLISH t/x=%d q1 #%d", i, i+1))
			s.send(puback(uint16(i + 1)))
		}
	}),
	"matching": started(func(k *kit) {
		for filter, names := range map[string][2]string{ // matching and not
			"sport/tennis/player1/#": {"sport/tennis/player1 sport/tennis/player1/ranking sport/tennis/player1/score/w", "sport/tennis/player2 Sport/tennis/player1"},
			"sport/#":                {"sport sport/ sport/x", "sports"},
			"+/+":                    {"/finance a/b", "finance a/b/c"},
			"/+":                     {"/finance", "finance"},
			"+":                      {"finance", "/finance"},
			"a//b":                   {"a//b", "a/b a/x/b"},
			"\u00c5":                 {"\u00c5", "A\u030a"}, // the same letter, not the same characters
		} {
			s, p := k.in("s"), k.in("p")
			k.sub(s, filter)
			for _, name := range strings.Fields(names[1]) {
				p.send(publish(k.v, 0, name, "x"))
			}
			for i, name := range strings.Fields(names[0]) {
				p.send(publish(k.v, 0, name, "x"))
				if got, want := s.next(), fmt.Sprintf("PUBLISH %s=x q0", name); got != want {
					k.t.Errorf("%s, message %d: %s, want %s", filter, i, got, want)
				}
			}
			p.quiet()
			s.quiet()
		}
	}),
	"dollar": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "#", "+/x", "$own/#")
		p := k.in("p")
		p.send(publish(k.v, 1, "$own/x", "1"), publish(k.v, 2, "$other/x", "2"), publish(k.v, 3, "y/x", "3"))
		s.expect("PUBLISH $own/x=1 q1 #1", "PUBLISH y/x=3 q1 #2")
	}),
}
