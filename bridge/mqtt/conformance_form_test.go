package mqtt_test

import (
	"bytes"
	"strings"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// formCases are of bytes: strings, lengths, flags and codes.
var formCases = map[string]func(*kit){
	"bad-strings": started(func(k *kit) {
		for _, bad := range []string{"\xff", "\xc0\xaf", "\xed\xa0\x80", "a\x00b"} {
			k.refused("81", publish(k.v, 0, bad, "x"))
			k.refused("81", subscribe(k.v, 1, bad))
			k.refused("81", unsubscribe(k.v, 1, bad))
			k.notIn("81", connectBytes(k.v, 2, bad))
			k.notIn("81", connectBytes(k.v, 0x06, "x", bad, "m"))
			k.notIn("81", connectBytes(k.v, 0x82, "x", bad))
			if !k.five() {
				continue
			}
			for _, change := range []func(p *packet.Properties){
				func(p *packet.Properties) { p.SetBytes(packet.ContentType, []byte(bad)) },
				func(p *packet.Properties) { p.SetBytes(packet.ResponseTopic, []byte(bad)) },
				func(p *packet.Properties) { p.User = []packet.UserProperty{{Name: []byte(bad), Value: []byte("v")}} },
				func(p *packet.Properties) { p.User = []packet.UserProperty{{Name: []byte("n"), Value: []byte(bad)}} },
			} {
				p := packet.Publish{Topic: []byte("t")}
				change(&p.Props)
				k.refused("81", p.Append(nil, v5))
			}
		}
	}),
	"byte-order-mark": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "\ufefft")
		k.in("p").send(publish(k.v, 1, "t", "without"), publish(k.v, 2, "\ufefft", "with"))
		s.expect("PUBLISH \ufefft=with q1 #1")
	}),
	"long-integers": started(func(k *kit) {
		k.refused("81", []byte("\x30\x85\x00\x00\x01t\x00x"))
		k.refused("81", []byte("\x30\x07\x00\x01t\x80\x00xx"))
	}),
	"reserved-flags": started(func(k *kit) {
		for _, bad := range [][]byte{
			{0x80, 6, 0, 1, 0, 1, 't', 1}, {0x83, 6, 0, 1, 0, 1, 't', 1}, {0xa0, 5, 0, 1, 0, 1, 't'}, {0x60, 2, 0, 1}, {0x63, 2, 0, 1},
			{0x41, 2, 0, 1}, {0x51, 2, 0, 1}, {0x71, 2, 0, 1}, {0xc1, 0}, {0xe1, 0}, {0xf1, 0},
		} {
			k.refused("81", bad)
		}
		c := k.dial(k.v)
		connect := connectBytes(k.v, 2, "x")
		connect[0] = 0x11
		c.send(connect)
		c.expect("closed")
	}),
	"ack-codes": started(func(k *kit) {
		for _, bad := range [][]byte{
			reasoned(packet.TypePuback, 1, packet.Banned), reasoned(packet.TypePubrec, 1, packet.Banned),
			reasoned(packet.TypePubrel, 1, packet.PacketIDInUse), reasoned(packet.TypePubcomp, 1, packet.UnspecifiedError),
		} {
			k.refused("81", bad)
		}
	}),
	"disconnect-codes": func(k *kit) {
		k.opts.ServerReference = "other:1883"
		k.start()
		for _, bad := range []packet.Reason{0x01, packet.PacketIDInUse, 0xff} {
			k.refused("81", (&packet.Disconnect{Type: packet.TypeDisconnect, Reason: bad}).Append(nil, v5))
		}
		c := k.in("c")
		c.send((&packet.Disconnect{Type: packet.TypeDisconnect, Reason: packet.UnspecifiedError}).Append(nil, v5))
		c.expect("closed")
		last := k.in("last")
		k.srv.Close()
		last.next2(func(b []byte) {
			f, _, _ := packet.Split(b, 1<<20)
			var d packet.Disconnect
			if err := d.Decode(f, v5); err != nil || d.Reason != packet.UseAnotherServer {
				k.t.Error(d.Reason, err)
			}
			if ref, _ := d.Props.Bytes(packet.ServerReference); string(ref) != "other:1883" {
				k.t.Errorf("server reference %q", ref)
			}
			if _, ok := d.Props.Uint(packet.SessionExpiry); ok {
				k.t.Error("a session expiry")
			}
		})
		last.expect("closed")
	},
	"small-disconnect": started(func(k *kit) {
		c := k.in("c", func(p *packet.Connect) { p.Props.SetUint(packet.MaximumPacketSize, 20) })
		c.send([]byte{0x36, 0})
		c.next2(func(b []byte) {
			if len(b) > 20 || b[2] != 0x81 {
				k.t.Errorf("%x", b)
			}
		})
	}),
	"disconnect-closes": started(func(k *kit) {
		c := k.in("c")
		c.send(disconnect())
		c.expect("closed")
	}),
	"ping": started(func(k *kit) {
		c := k.in("c")
		c.send(packet.AppendPing(nil, packet.TypePingreq))
		c.next2(func(b []byte) {
			if !bytes.Equal(b, []byte{0xd0, 0}) {
				k.t.Errorf("%x", b)
			}
		})
	}),
}

// sessionCases are of how long sessions last.
var sessionCases = map[string]func(*kit){
	"session-lasts": inTime(func(k *kit) {
		k.opts.MaxSessionExpiry = time.Minute
		k.start()
		c := k.in("c", keep)
		k.sub(c, "t")
		for range 60 { // longer than its expiry
			time.Sleep(time.Minute)
			c.quiet()
		}
		k.in("p").send(publish(k.v, 1, "t", "x"))
		c.expect("PUBLISH t=x q1 #1")
	}),
	"session-expires": inTime(started(func(k *kit) {
		for _, wait := range []time.Duration{59, 61} {
			c := k.in("c", func(p *packet.Connect) {
				p.CleanStart = false
				p.Props.SetUint(packet.SessionExpiry, 60)
			})
			k.sub(c, "t")
			c.nc.Close()
			time.Sleep(wait * time.Second)
			_, ack := k.connect(v5, "c", keep)
			if present := strings.HasSuffix(ack, "present"); present != (wait < 60) {
				k.t.Errorf("after %d s: %s", wait, ack)
			}
		}
		c := k.in("zero")
		c.send(func() []byte {
			d := packet.Disconnect{Type: packet.TypeDisconnect}
			d.Props.SetUint(packet.SessionExpiry, 10) // it may not be raised from 0
			return d.Append(nil, v5)
		}())
		c.expect("DISCONNECT 82", "closed")
	})),
}
