package mqtt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// routesFor spreads r/0, r/1 … over as many Kafka topics. It restarts the server.
func (b *box) routesFor(n int) {
	b.t.Helper()
	for i := range n {
		b.routes = append(b.routes, bridge.Route{Filter: fmt.Sprintf("r/%d", i), Topic: fmt.Sprintf("topic-%d", i)})
	}
	b.restart()
}

func TestTimers(t *testing.T) {
	alive := func(p *packet.Connect) { p.KeepAlive = 10 }
	t.Run("keep alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t).start()
			defer b.stop()
			c := b.client(v5, "c", alive)
			for range 5 {
				time.Sleep(14 * time.Second)
				c.quiet()
			}
			c.send([]byte{0x30, 10}) // part of a packet is no sign of life
			start := time.Now()
			c.expect("DISCONNECT 8d", "closed")
			if d := time.Since(start); d != 15*time.Second {
				t.Errorf("closed after %v, want 1.5 x 10 s", d)
			}
		})
	})
	t.Run("server keep alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			b.opts.MaxKeepAlive = time.Minute
			b.start()
			defer b.stop()
			for _, asked := range []uint16{0, 61} { // for ever, and too long [MQTT-3.1.2-21]
				c := b.client(v5, "c", func(p *packet.Connect) { p.KeepAlive = asked })
				start := time.Now()
				c.expect("DISCONNECT 8d", "closed")
				if d := time.Since(start); d != 90*time.Second {
					t.Errorf("keep alive %d: closed after %v, want 1.5 x 60 s", asked, d)
				}
			}
		})
	})
	t.Run("no CONNECT", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t).start()
			defer b.stop()
			c := b.dial(v3)
			start := time.Now()
			for i := range 9 { // a byte a second does not help
				c.send([]byte("\x10\x0d\x00\x04MQTT\x04")[i : i+1])
				time.Sleep(time.Second)
			}
			c.expect("closed")
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("closed after %v, want 10 s", d)
			}
		})
	})
	t.Run("session expiry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t).start()
			defer func() { b.stop() }()
			minute := func(p *packet.Connect) {
				p.CleanStart = false
				p.Props.SetUint(packet.SessionExpiry, 60)
			}
			c := b.client(v5, "c", minute)
			c.send(subscribe(v5, 1, "t"))
			c.expect("SUBACK #1 01")
			c.nc.Close()
			time.Sleep(59 * time.Second)
			c, ack := b.connect(v5, "c", minute)
			if ack != "CONNACK 00 present" {
				t.Error(ack)
			}
			c.nc.Close()
			time.Sleep(30 * time.Second)
			b.restart() // the time begins again: a clock that stood still must not end sessions
			time.Sleep(61 * time.Second)
			if n := b.srv.Status().SessionsExpired; n != 1 {
				t.Errorf("%d sessions expired, want 1", n)
			}
			b.restart()
			if _, ack := b.connect(v5, "c", minute); ack != "CONNACK 00" {
				t.Error(ack)
			}
		})
	})
	t.Run("client that reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			b.opts.MaxOutgoingBytes = 4096
			b.start()
			defer b.stop()
			deaf := b.dialDeaf(v3)
			p := packet.Connect{Version: v3, ClientID: []byte("deaf"), CleanStart: true}
			deaf.send(p.Append(nil), subscribe(v3, 1, "t@0"))
			synctest.Wait() // until the subscription counts
			c := b.client(v3, "c")
			for i := range 200 {
				c.send(publish(v3, uint16(i+1), "t", strings.Repeat("x", 100)))
				c.expect(fmt.Sprintf("PUBACK #%d", i+1))
			}
			time.Sleep(31 * time.Second)
			if st := b.srv.Status(); st.Connections != 1 || st.Dropped < 100 {
				t.Errorf("%+v", st)
			}
		})
	})
}

// Each conversation breaks one rule or limit; the answer is the last packet before
// the end.
func TestRefusals(t *testing.T) {
	b := newBox(t)
	b.opts.ReceiveMaximum, b.opts.MaxPacketBytes, b.opts.MaxConnectBytes, b.opts.MaxFilters = 5, 4096, 256, 3
	b.start()
	defer b.stop()
	alias := func(n uint32, topic string) []byte {
		p := packet.Publish{Topic: []byte(topic)}
		p.Props.SetUint(packet.TopicAlias, n)
		return p.Append(nil, v5)
	}
	subID := packet.Publish{Topic: []byte("t")}
	subID.Props.SubscriptionIDs = []uint32{1}
	for _, c := range []struct {
		name string
		v    packet.Version
		send []byte
		want string
	}{
		{"second CONNECT", v5, (&packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true}).Append(nil), "DISCONNECT 82"},
		{"packet too large", v5, publish(v5, 0, "t", strings.Repeat("x", 5000)), "DISCONNECT 95"},
		{"alias too large", v5, alias(17, "t"), "DISCONNECT 94"},
		{"alias not known", v5, alias(3, ""), "DISCONNECT 82"},
		{"subscription identifier", v5, subID.Append(nil, v5), "DISCONNECT 82"},
		{"malformed", v5, []byte{0x36, 0}, "DISCONNECT 81"},
		{"malformed", v3, []byte{0x36, 0}, ""},
		{"CONNACK from a client", v3, []byte{0x20, 2, 0, 0}, ""},
	} {
		cl := b.client(c.v, "c")
		cl.send(c.send)
		if c.want != "" {
			cl.expect(c.want)
		}
		if got := cl.next(); got != "closed" {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	c := b.client(v5, "c")
	c.send(subscribe(v5, 1, "a", "a/#/b", "$share/g/t", "b", "c", "d", strings.Repeat("/", 16)), alias(3, "t"), alias(3, ""))
	c.expect("SUBACK #1 01 8f 01 01 97 97 8f")
	d := b.client(v3, "d")
	d.send(subscribe(v3, 1, "a#", "$share/g/u", "a")) // nothing comes before its SUBACK
	d.expect("SUBACK #1 80 01 01")
}

func TestConnectRefusals(t *testing.T) {
	b := newBox(t)
	b.opts.MaxConnections, b.opts.MaxConnectBytes, b.opts.MaxSessions = 3, 256, 2
	b.opts.Identify = func(l mqtt.Login) (mqtt.Identity, error) {
		if l.UserName == "mallory" {
			return nil, errors.New("authentication failed")
		}
		return everything{}, nil
	}
	b.start()
	defer b.stop()
	for _, c := range []struct {
		v      packet.Version
		id     string
		change func(*packet.Connect)
		want   string
	}{
		{v3, "", func(p *packet.Connect) { p.CleanStart = false }, "CONNACK 02"},
		{v3, "", func(p *packet.Connect) {}, "CONNACK 00"},
		{v5, "", func(p *packet.Connect) { p.CleanStart = false }, "CONNACK 00"},
		{v5, "m", func(p *packet.Connect) { p.HasUserName, p.UserName = true, []byte("mallory") }, "CONNACK 86"},
		{v3, "m", func(p *packet.Connect) { p.HasUserName, p.UserName = true, []byte("mallory") }, "CONNACK 04"},
		{v5, "a", func(p *packet.Connect) { p.Props.SetBytes(packet.AuthMethod, []byte("X")) }, "CONNACK 8c"},
		{6, "x", func(p *packet.Connect) {}, "CONNACK 84"},
		{v5, strings.Repeat("x", 300), func(p *packet.Connect) {}, "closed"},
	} {
		cl, got := b.connect(c.v, c.id, c.change)
		if got != c.want {
			t.Errorf("version %d, client %.10q: %s, want %s", c.v, c.id, got, c.want)
		}
		if strings.HasPrefix(got, "CONNACK 00") {
			cl.send(disconnect())
		}
		cl.expect("closed")
		for b.srv.Status().Connections > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	one := b.client(v3, "1", keep)
	two := b.client(v3, "2", keep)
	if _, got := b.connect(v5, "3"); got != "CONNACK 97" {
		t.Errorf("third session: %s", got)
	}
	for b.srv.Status().Connections > 2 {
		time.Sleep(time.Millisecond)
	}
	b.dial(v3)
	over := b.dial(v3)
	over.expect("closed")
	one.quiet()
	two.quiet()
}

// More than the Receive Maximum in flight ends an MQTT 5 connection; a 3.1.1 client,
// which was not told of any, is read no further until messages are committed.
func TestReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.ReceiveMaximum = 5
		b.start()
		defer b.stop()
		three, five := b.client(v3, "3"), b.client(v5, "5")
		release := b.holdSyncs()
		for i := range 5 {
			five.send(publish(v5, uint16(i+1), "t", ""))
		}
		five.quiet()
		five.send(publish(v5, 6, "t", ""))
		var all [][]byte
		for i := range 20 {
			all = append(all, publish(v3, uint16(i+1), "t", ""))
		}
		three.send(all...)
		synctest.Wait()
		if n := b.srv.Status().MessagesIn; n != 5+5 {
			t.Errorf("%d messages taken, want 10", n)
		}
		release()
		for i := range 20 {
			three.expect(fmt.Sprintf("PUBACK #%d", i+1))
		}
		for got := five.next(); got != "DISCONNECT 93"; got = five.next() {
			if !strings.HasPrefix(got, "PUBACK") {
				t.Fatal(got)
			}
		}
		five.expect("closed")
	})
}

// Any limit of packets can be set alone: the one of CONNECT, which no key sets, follows it.
func TestSmallPackets(t *testing.T) {
	b := newBox(t)
	b.opts.MaxPacketBytes = 1 << 10
	b.start()
	defer b.stop()
	c := b.client(v5, "c")
	c.send(publish(v5, 1, "t", "x"))
	c.expect("PUBACK #1")
}
