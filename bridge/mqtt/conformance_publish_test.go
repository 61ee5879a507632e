package mqtt_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// keeping sets RETAIN.
func keeping(p []byte) []byte {
	p[0] |= 1
	return p
}

// aliased is a QoS 0 PUBLISH with a topic alias.
func aliased(n uint32, topic, payload string) []byte {
	p := packet.Publish{Topic: []byte(topic), Payload: []byte(payload)}
	p.Props.SetUint(packet.TopicAlias, n)
	return p.Append(nil, v5)
}

func reasoned(t packet.Type, id uint16, reason packet.Reason) []byte {
	return (&packet.Ack{Type: t, PacketID: id, Reason: reason}).Append(nil, v5)
}

// publishCases are of what clients publish.
var publishCases = map[string]func(*kit){
	"qos-answers": started(func(k *kit) {
		c := k.in("c")
		c.send(publish(k.v, 0, "t", "x"), publish(k.v, 1, "t", "x"), publish2(k.v, 2, "t", "x"))
		c.expect("PUBACK #1", "PUBREC #2")
		c.send(pubrel(2), pubrel(3))
		c.expect("PUBCOMP #2", k.pick("PUBCOMP #3 92", "PUBCOMP #3"))
		c.quiet()
	}),
	"puback-durable": func(k *kit) {
		TestPubackWaitsForTheSync(k.t)
		TestQoS2WaitsForTheSync(k.t)
	},
	"ack-identifiers": started(func(k *kit) {
		c := k.in("c")
		c.send(publish(k.v, 0xABCD, "t", "x"), publish2(k.v, 0xFFFF, "t", "x"), subscribe(k.v, 0x1234, "s@2"), unsubscribe(k.v, 0x4321, "u"))
		c.anyOrder("PUBACK #43981", "PUBREC #65535", "SUBACK #4660 02", k.pick("UNSUBACK #17185 11", "UNSUBACK #17185"))
		c.send(pubrel(0xFFFF))
		c.expect("PUBCOMP #65535")
		k.in("p").send(publish2(k.v, 1, "s", "y"))
		c.expect("PUBLISH s=y q2 #1")
		c.send(pubrec(1))
		c.expect("PUBREL #1")
	}),
	"identifier-zero": started(func(k *kit) {
		k.refused("82", []byte(k.pick("\x32\x07\x00\x01t\x00\x00\x00x", "\x32\x06\x00\x01t\x00\x00x")))
		k.refused("82", subscribe(k.v, 0, "t"))
		k.refused("82", unsubscribe(k.v, 0, "t"))
	}),
	"dup-qos0": started(func(k *kit) { k.refused("81", again(publish(k.v, 0, "t", "x"))) }),
	"qos3":     started(func(k *kit) { k.refused("81", []byte("\x36\x07\x00\x01t\x00\x01\x00x")) }),
	"qos1-identifier-free": started(func(k *kit) {
		c := k.in("c")
		for range 3 {
			c.send(again(publish(k.v, 1, "t", "x")))
			c.expect("PUBACK #1")
		}
		if n := len(k.records("mqtt")); n != 3 {
			k.t.Errorf("%d messages, want 3", n)
		}
	}),
	"qos2-in": func(k *kit) { TestQoS2Inbound(k.t) },
	"qos2-expired": started(func(k *kit) {
		c := k.in("c")
		p := packet.Publish{QoS: 2, PacketID: 1, Topic: []byte("t")}
		p.Props.SetUint(packet.MessageExpiry, 0)
		c.send(p.Append(nil, v5))
		c.expect("PUBREC #1")
		c.send(pubrel(1))
		c.expect("PUBCOMP #1")
	}),
	"pubrec-refused": func(k *kit) { TestQoS2Retained(k.t) },
	"ack-order":      func(k *kit) { TestAckOrder(k.t) },
	"wildcard-names": started(func(k *kit) {
		for _, name := range []string{"a/+", "#", "a#"} {
			k.refused("90", publish(k.v, 0, name, "x"))
		}
		k.refused("82", publish(k.v, 0, "", "x"))
		if k.five() {
			p := packet.Publish{Topic: []byte("t")}
			p.Props.SetBytes(packet.ResponseTopic, []byte("a/#"))
			k.refused("82", p.Append(nil, v5))
		}
	}),
	"retained-replaced": started(func(k *kit) {
		p := k.in("p")
		p.send(keeping(publish2(k.v, 1, "a", "first")), keeping(publish(k.v, 2, "a", "second")), keeping(publish2(k.v, 3, "b", "two")), keeping(publish(k.v, 0, "c", "x")))
		p.expect("PUBREC #1", "PUBACK #2", "PUBREC #3")
		p.send(keeping(publish(k.v, 4, "c", "zero")), keeping(publish(k.v, 0, "c", "nought")), publish(k.v, 5, "sync", ""))
		p.expect("PUBACK #4", "PUBACK #5")
		for len(k.records("__weir_retained")) < 6 {
			p.quiet()
		}
		s := k.in("s")
		s.send(subscribe(k.v, 1, "+@2"))
		s.expect("SUBACK #1 02", "PUBLISH a=second q1 #1 retain", "PUBLISH b=two q2 #2 retain", "PUBLISH c=nought q0 retain")
	}),
	"retained-ended": started(func(k *kit) {
		p, live := k.in("p"), k.in("live")
		k.sub(live, "a")
		p.send(keeping(publish(k.v, 1, "a", "x")), keeping(publish(k.v, 2, "a", "")))
		p.expect("PUBACK #1", "PUBACK #2")
		live.expect("PUBLISH a=x q1 #1", "PUBLISH a= q1 #2")
		s := k.in("s")
		k.sub(s, "a")
		s.quiet()
		if n := k.srv.Status().Retained; n != 0 {
			k.t.Errorf("%d retained", n)
		}
	}),
	"retained-kept": started(func(k *kit) {
		p := k.in("p")
		p.send(keeping(publish(k.v, 1, "a", "kept")), publish(k.v, 2, "a", "passing"), publish(k.v, 3, "b", "passing"), publish(k.v, 4, "a", ""))
		p.expect("PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4")
		s := k.in("s")
		s.send(subscribe(k.v, 1, "#"))
		s.expect("SUBACK #1 01", "PUBLISH a=kept q1 #1 retain")
		s.quiet()
	}),
	"retained-stay": started(func(k *kit) {
		p := k.in("p")
		p.send(keeping(publish(k.v, 1, "a", "kept")))
		p.expect("PUBACK #1")
		p.send(disconnect())
		p.expect("closed")
		k.in("p").send(disconnect())
		s := k.in("s")
		s.send(subscribe(k.v, 1, "a"))
		s.expect("SUBACK #1 01", "PUBLISH a=kept q1 #1 retain")
	}),
	"properties-passed": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "t")
		p := packet.Publish{QoS: 1, PacketID: 1, Topic: []byte("t"), Payload: []byte("x")}
		p.Props.SetUint(packet.PayloadFormat, 1)
		p.Props.SetBytes(packet.ContentType, []byte("text/plain"))
		p.Props.SetBytes(packet.ResponseTopic, []byte("answers/here"))
		p.Props.SetBytes(packet.CorrelationData, []byte{0, 255, 1})
		for _, n := range []string{"b", "a", "b", "mqtt.topic"} {
			p.Props.User = append(p.Props.User, packet.UserProperty{Name: []byte(n), Value: []byte("v " + n)})
		}
		k.in("p").send(p.Append(nil, v5))
		s.next2(func(b []byte) {
			f, _, _ := packet.Split(b, 1<<20)
			var got packet.Publish
			if err := got.Decode(f, v5); err != nil {
				k.t.Fatal(err)
			}
			text := func(p *packet.Properties) string {
				format, _ := p.Uint(packet.PayloadFormat)
				content, _ := p.Bytes(packet.ContentType)
				response, _ := p.Bytes(packet.ResponseTopic)
				correlation, _ := p.Bytes(packet.CorrelationData)
				return fmt.Sprintf("%d %s %s %x %s", format, content, response, correlation, p.User)
			}
			if text(&got.Props) != text(&p.Props) {
				k.t.Errorf("got %s, want %s", text(&got.Props), text(&p.Props))
			}
		})
	}),
	"message-expiry": inTime(started(func(k *kit) {
		s := k.in("s", keep)
		k.sub(s, "t/#")
		s.send(disconnect())
		s.expect("closed")
		p := k.in("p")
		for i, expiry := range []uint32{5, 60} {
			m := packet.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: []byte("t/x"), Payload: []byte(fmt.Sprint(expiry))}
			m.Props.SetUint(packet.MessageExpiry, expiry)
			p.send(m.Append(nil, v5))
			p.expect(fmt.Sprintf("PUBACK #%d", i+1))
		}
		time.Sleep(20 * time.Second)
		s, _ = k.connect(k.v, "s", keep)
		s.next2(func(b []byte) {
			f, _, _ := packet.Split(b, 1<<20)
			var got packet.Publish
			if err := got.Decode(f, v5); err != nil {
				k.t.Fatal(err)
			}
			if left, _ := got.Props.Uint(packet.MessageExpiry); string(got.Payload) != "60" || left != 40 {
				k.t.Errorf("%s with %d s left", got.Payload, left)
			}
		})
	})),
	"alias-refused": started(func(k *kit) {
		k.refused("94", aliased(0, "t", "x"))
		k.refused("94", aliased(17, "t", "x"))
		k.refused("82", aliased(3, "", "x"))
	}),
	"incoming-aliases": started(func(k *kit) {
		s, p := k.in("s"), k.in("p")
		k.sub(s, "#")
		for n := uint32(1); n <= 16; n++ {
			p.send(aliased(n, fmt.Sprint("t/", n), "x"), aliased(n, "", "y"))
			s.expect(fmt.Sprintf("PUBLISH t/%d=x q0", n), fmt.Sprintf("PUBLISH t/%d=y q0", n))
		}
		p.send(aliased(1, "new", "x"), aliased(1, "", "y"))
		s.expect("PUBLISH new=x q0", "PUBLISH new=y q0")
	}),
	"alias-forgotten": started(func(k *kit) {
		p := k.in("p", keep)
		p.send(aliased(1, "t", "x"))
		p.quiet()
		p, _ = k.connect(v5, "p", keep)
		p.send(aliased(1, "", "x"))
		p.expect("DISCONNECT 82", "closed")
	}),
	"client-subscription-identifier": started(func(k *kit) {
		p := packet.Publish{Topic: []byte("t")}
		p.Props.SubscriptionIDs = []uint32{1}
		k.refused("82", p.Append(nil, v5))
	}),
	"receive-maximum": func(k *kit) { TestReceiveMaximum(k.t) },
	"too-large": func(k *kit) {
		k.opts.MaxPacketBytes, k.opts.MaxConnectBytes = 2000, 1000
		k.start()
		k.in("c").quiet()
		k.refused("95", publish(k.v, 0, "t", strings.Repeat("x", 2000)))
	},
	"long-names": func(k *kit) {
		k.opts.MaxTopicBytes, k.opts.MaxPacketBytes = 65535, 200_000
		k.start()
		name := strings.Repeat("x", 65535)
		c := k.in("c")
		k.sub(c, name)
		c.send(publish(k.v, 1, name, "y"))
		c.anyOrder("PUBACK #1", "PUBLISH "+name+"=y q1 #1")
	},
	"small-acks": func(k *kit) {
		k.opts.MaxRetained = 1
		k.start()
		c := k.in("c", func(p *packet.Connect) { p.Props.SetUint(packet.MaximumPacketSize, 30) })
		c.send(keeping(publish(v5, 1, "a", "x")))
		c.expect("PUBACK #1")
		c.send(keeping(publish(v5, 2, "b", "x")), keeping(publish2(v5, 3, "b", "x")))
		for _, want := range []int{5, 5} {
			c.next2(func(b []byte) {
				if len(b) != want {
					k.t.Errorf("%x", b)
				}
			})
		}
	},
	"publish-not-allowed": func(k *kit) {
		identifyByName(k.box)
		k.start()
		c := k.in("c", as("pump"))
		c.send(publish(k.v, 1, "other/x", "x"))
		if got := c.next(); got != "closed" && got != "PUBACK #1" {
			k.t.Error(got)
		}
		if n := len(k.records("mqtt")); n != 0 {
			k.t.Errorf("%d records", n)
		}
	},
	"storage-fails": func(k *kit) {
		k.wrap = func(l mqtt.Log) mqtt.Log { return brokenLog{l} }
		k.start()
		c := k.in("c")
		c.send(publish(k.v, 1, "t", "x"))
		c.expect("closed")
	},
	"errors-close": started(func(k *kit) {
		k.refused("81", []byte{0x30, 0x01, 0x00})             // cut short
		k.refused("82", []byte{0x20, 0x02, 0x00, 0x00})       // a server's packet
		k.refused("81", []byte{0x00, 0x00})                   // the reserved type
		k.refused("81", []byte{0x30, 0xff, 0xff, 0xff, 0xff}) // a length of five bytes
	}),
	"transport": func(k *kit) {
		k.start()
		if k.five() {
			TestPaho5(k.t)
		} else {
			TestPaho3(k.t)
		}
	},
	"foreign-clients": func(k *kit) { TestPaho3(k.t) },
}

// brokenLog fails every append of a message.
type brokenLog struct{ mqtt.Log }

func (l brokenLog) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if strings.HasPrefix(tp.Topic, "__") {
		l.Log.AppendAsync(tp, b, done)
		return
	}
	done.Complete(-1, record.ErrStorage)
}
