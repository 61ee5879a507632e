package mqtt_test

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// option subscribes with options.
func option(id uint16, filter string, o packet.Subscription, ids ...uint32) []byte {
	o.Filter = []byte(filter)
	p := packet.Subscribe{PacketID: id, Filters: []packet.Subscription{o}}
	p.Props.SubscriptionIDs = ids
	return p.Append(nil, v5)
}

var subscribeCases = map[string]func(*kit){
	"suback": started(func(k *kit) {
		c := k.in("c")
		c.send(subscribe(k.v, 7, "a@0", "b@1", "c@2", "d#", "e@1"))
		c.expect(k.pick("SUBACK #7 00 01 02 8f 01", "SUBACK #7 00 01 02 80 01"))
		c.send(publish(k.v, 1, "e", "x"))
		c.anyOrder("PUBACK #1", "PUBLISH e=x q1 #1")
	}),
	"empty-subscribe": started(func(k *kit) {
		k.refused("82", []byte(k.pick("\x82\x03\x00\x01\x00", "\x82\x02\x00\x01")))
		k.refused("82", []byte(k.pick("\xa2\x03\x00\x01\x00", "\xa2\x02\x00\x01")))
	}),
	"subscribe-options": started(func(k *kit) {
		bad := []byte{0x03, 0x40, 0x80, 0xc1}
		if !k.five() {
			bad = append(bad, 0x04, 0x08, 0x10, 0x20)
		}
		for _, options := range bad {
			p := subscribe(k.v, 1, "t")
			p[len(p)-1] = options
			k.refused("81", p)
		}
		if k.five() { // retain handling 3
			p := subscribe(k.v, 1, "t")
			p[len(p)-1] = 0x31
			k.refused("82", p)
		}
	}),
	"bad-filters": started(func(k *kit) {
		c := k.in("c")
		for _, filter := range []string{"a/#/b", "a#", "#a", "a/b+", "+a", ""} {
			c.send(subscribe(k.v, 1, filter))
			c.expect(k.pick("SUBACK #1 8f", "SUBACK #1 80"))
		}
	}),
	"no-local": started(func(k *kit) {
		c := k.in("c", keep)
		c.send(option(1, "t", packet.Subscription{QoS: 1, NoLocal: true}), publish(v5, 1, "t", "own"))
		c.expect("SUBACK #1 01", "PUBACK #1")
		k.in("p").send(publish(v5, 1, "t", "theirs"))
		c.expect("PUBLISH t=theirs q1 #1")
		c.send(puback(1))
		c.nc.Close()
		c, _ = k.connect(v5, "c", keep) // by the identifier, not by the connection
		c.send(publish(v5, 2, "t", "own"))
		c.expect("PUBACK #2")
		c.quiet()
	}),
	"retain-handling": started(func(k *kit) {
		p := k.in("p")
		p.send(retained(v5, 1, "t", "kept"))
		p.expect("PUBACK #1")
		for handling, want := range [][2]bool{{true, true}, {true, false}, {false, false}} { // first, again
			c := k.in("c")
			for i := range want {
				c.send(option(1, "t", packet.Subscription{QoS: 0, RetainHandling: byte(handling)}))
				c.expect("SUBACK #1 00")
				if want[i] {
					c.expect("PUBLISH t=kept q0 retain")
				}
				c.quiet()
			}
		}
	}),
	"retain-as-published": started(func(k *kit) {
		for _, rap := range []bool{false, true} {
			c := k.in("c")
			c.send(option(1, fmt.Sprint("t/", rap), packet.Subscription{QoS: 1, RetainAsPublished: rap}))
			c.expect("SUBACK #1 01")
			p := k.in("p")
			p.send(retained(v5, 1, fmt.Sprint("t/", rap), "a"), publish(v5, 2, fmt.Sprint("t/", rap), "b"))
			suffix := ""
			if rap {
				suffix = " retain"
			}
			c.expect(fmt.Sprintf("PUBLISH t/%v=a q1 #1%s", rap, suffix), fmt.Sprintf("PUBLISH t/%v=b q1 #2", rap))
		}
	}),
	"retain-flag-cleared": started(func(k *kit) {
		c := k.in("c")
		k.sub(c, "t")
		k.in("p").send(retained(k.v, 1, "t", "a"))
		c.expect("PUBLISH t=a q1 #1")
	}),
	"replaced-subscription": started(func(k *kit) {
		p := k.in("p")
		p.send(retained(k.v, 1, "t", "kept"))
		p.expect("PUBACK #1")
		c := k.in("c")
		c.send(subscribe(k.v, 1, "t@1"))
		c.expect("SUBACK #1 01", "PUBLISH t=kept q1 #1 retain")
		c.send(subscribe(k.v, 2, "t@0"))
		c.expect("SUBACK #2 00", "PUBLISH t=kept q0 retain")
		p.send(publish(k.v, 2, "t", "x"))
		p.expect("PUBACK #2")
		c.expect("PUBLISH t=x q0")
		c.quiet()
		// No message is lost while subscriptions are replaced.
		done := make(chan bool)
		go func() {
			defer close(done)
			for i := range 200 {
				p.send(publish(k.v, 3, "t", fmt.Sprint(i)))
				p.next()
			}
		}()
		for next := 0; next < 200; {
			c.send(subscribe(k.v, 3, "t@0"))
			for m := c.next(); !strings.HasPrefix(m, "SUBACK"); m = c.next() {
				if !strings.HasSuffix(m, "retain") {
					if m != fmt.Sprintf("PUBLISH t=%d q0", next) {
						k.t.Fatalf("%s, want %d", m, next)
					}
					next++
				}
			}
		}
		<-done
	}),
	"granted-qos": started(func(k *kit) {
		c := k.in("c")
		k.sub(c, "t/0@0", "t/1@1", "t/2@2")
		p := k.in("p")
		id := uint16(0)
		for granted := range 3 {
			for sent := range 3 {
				id++
				p.send((&packet.Publish{QoS: byte(sent), PacketID: id * uint16(min(sent, 1)), Topic: []byte(fmt.Sprint("t/", granted)), Payload: []byte("x")}).Append(nil, k.v))
				want := fmt.Sprintf("PUBLISH t/%d=x q%d", granted, min(sent, granted))
				if got := c.next(); !strings.HasPrefix(got, want) {
					k.t.Errorf("%s, want %s", got, want)
				}
			}
		}
	}),
	"subscription-identifiers": started(func(k *kit) {
		c := k.in("c")
		c.send(option(1, "a/#", packet.Subscription{QoS: 1}, 7), option(2, "a/b", packet.Subscription{QoS: 1}, 268_435_455), option(3, "+/b", packet.Subscription{QoS: 1}))
		c.expect("SUBACK #1 01", "SUBACK #2 01", "SUBACK #3 01")
		k.in("p").send(publish(v5, 1, "a/b", "x"))
		if got := c.next(); got != "PUBLISH a/b=x q1 #1 sub7 sub268435455" && got != "PUBLISH a/b=x q1 #1 sub268435455 sub7" {
			k.t.Error(got)
		}
		c.send(puback(1))
		c.quiet()
	}),
	"unsubscribe": started(func(k *kit) {
		c := k.in("c")
		k.sub(c, "a", "a/+", "b/#")
		c.send(unsubscribe(k.v, 3, "a/b", "a/+", "A", "a"))
		c.expect(k.pick("UNSUBACK #3 11 00 11 00", "UNSUBACK #3"))
		p := k.in("p")
		p.send(publish(k.v, 1, "a/b", "x"), publish(k.v, 2, "a", "x"), publish(k.v, 3, "b/c", "y"))
		c.expect("PUBLISH b/c=y q1 #1")
	}),
	"unsubscribe-in-flight": started(func(k *kit) {
		c := k.in("c", keep)
		k.sub(c, "t@2")
		p := k.in("p")
		p.send(publish(k.v, 1, "t", "a"), publish2(k.v, 2, "t", "b"))
		c.expect("PUBLISH t=a q1 #1", "PUBLISH t=b q2 #2")
		c.send(unsubscribe(k.v, 3, "t"))
		c.expect(k.pick("UNSUBACK #3 00", "UNSUBACK #3"))
		c.nc.Close()
		c, _ = k.connect(k.v, "c", keep)
		c.expect("PUBLISH t=a q1 #1 dup", "PUBLISH t=b q2 #2 dup")
		c.send(puback(1), pubrec(2))
		c.expect("PUBREL #2")
	}),
	"shared-no-local": started(func(k *kit) {
		k.refused("82", option(1, "$share/g/t", packet.Subscription{NoLocal: true}))
	}),
	"shared-filters": func(k *kit) { TestSharedFiltersRefused(k.t) },
	"shared-qos": started(func(k *kit) {
		a, c := k.in("a"), k.in("c")
		k.sub(a, "$share/g/t@0")
		k.sub(c, "$share/g/t@1")
		p := k.in("p")
		p.send(publish(v5, 1, "t", "1"), publish(v5, 2, "t", "2"))
		a.expect("PUBLISH t=1 q0")
		c.expect("PUBLISH t=2 q1 #1")
	}),
	"shared-qos2": func(k *kit) { TestSharedQoS2(k.t) },
	"shared-qos2-ends": started(func(k *kit) {
		a, c := k.in("a"), k.in("c")
		k.sub(a, "$share/g/t@2")
		k.sub(c, "$share/g/t@2")
		p := k.in("p")
		p.send(publish2(v5, 1, "t", "x"))
		a.expect("PUBLISH t=x q2 #1")
		a.send(disconnect()) // and with it the session ends
		a.expect("closed")
		p.send(publish2(v5, 2, "t", "y"))
		c.expect("PUBLISH t=y q2 #1")
		c.quiet()
	}),
	"shared-refused": started(func(k *kit) {
		a, c := k.in("a"), k.in("c")
		k.sub(a, "$share/g/t@2")
		k.sub(c, "$share/g/t@2")
		p := k.in("p")
		p.send(publish(v5, 1, "t", "1"), publish2(v5, 2, "t", "2"), publish(v5, 3, "t", "3"))
		a.expect("PUBLISH t=1 q1 #1", "PUBLISH t=3 q1 #2")
		c.expect("PUBLISH t=2 q2 #1")
		a.send(reasoned(packet.TypePuback, 1, packet.UnspecifiedError))
		c.send(reasoned(packet.TypePubrec, 1, packet.UnspecifiedError))
		a.quiet()
		c.quiet()
	}),
}
