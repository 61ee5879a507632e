package mqtt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// inTime runs a case whose time is virtual.
func inTime(run func(*kit)) func(*kit) {
	return func(k *kit) {
		synctest.Test(k.t, func(t *testing.T) {
			k.t, k.box.t = t, t
			run(k)
			k.stop()
			k.srv = nil
		})
	}
}

// started runs a case on a box that serves.
func started(run func(*kit)) func(*kit) {
	return func(k *kit) {
		k.start()
		run(k)
	}
}

// connectBytes is CONNECT by hand: level, flags and payload fields.
func connectBytes(v packet.Version, flags byte, fields ...string) []byte {
	body := []byte("\x00\x04MQTT" + string(rune(v)) + string([]byte{flags, 0, 0}))
	if v == v5 {
		body = append(body, 0)
	}
	for i, f := range fields {
		if v == v5 && i == 1 && flags&4 != 0 {
			body = append(body, 0) // will properties
		}
		body = append(body, byte(len(f)>>8), byte(len(f)))
		body = append(body, f...)
	}
	return append([]byte{0x10, byte(len(body))}, body...)
}

// notIn expects a CONNECT to be refused: MQTT 5 with a reason, 3.1.1 without a word.
func (k *kit) notIn(reason string, connect []byte) {
	k.t.Helper()
	c := k.dial(k.v)
	c.send(connect)
	got := c.next()
	if k.five() {
		if got != "CONNACK "+reason {
			k.t.Errorf("%x: %s, want CONNACK %s", connect, got, reason)
		}
		got = c.next()
	}
	if got != "closed" {
		k.t.Errorf("%x: %s, want the end of the connection", connect, got)
	}
}

func willOn(topic string, qos byte, retain bool) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.HasWill = true
		p.Will = packet.Will{Topic: []byte(topic), Payload: []byte("gone"), QoS: qos, Retain: retain, Props: p.Will.Props}
	}
}

var connectCases = map[string]func(*kit){
	"first-packet": started(func(k *kit) {
		c := k.dial(k.v)
		c.send(publish(k.v, 0, "t", "x"))
		c.expect("closed")
	}),
	"second-connect": started(func(k *kit) {
		k.refused("82", (&packet.Connect{Version: k.v, ClientID: []byte("refused"), CleanStart: true}).Append(nil))
	}),
	"protocol-name": started(func(k *kit) {
		c := k.dial(k.v)
		c.send([]byte("\x10\x0d\x00\x04MQTX" + string(rune(k.v)) + "\x02\x00\x00\x00\x01x"))
		for got := c.next(); got != "closed"; got = c.next() {
			if got == "CONNACK 00" {
				k.t.Error("accepted")
			}
		}
	}),
	"protocol-version": started(func(k *kit) {
		bytes, want := connectBytes(3, 2, "x"), "\x20\x02\x00\x01"
		if k.five() {
			bytes, want = append(connectBytes(6, 2, "x"), 0), "\x20"
		}
		c := k.dial(k.v)
		c.send(bytes)
		c.mu.Lock()
		for c.err == nil {
			c.has.Wait()
		}
		got := string(c.buf)
		c.mu.Unlock()
		if !strings.HasPrefix(got, want) || k.five() && got[3] != 0x84 {
			k.t.Errorf("got %q", got)
		}
	}),
	"connect-flags": started(func(k *kit) {
		for name, bad := range map[string][]byte{
			"reserved flag":           connectBytes(k.v, 0x03, "x"),
			"will QoS without will":   connectBytes(k.v, 0x0a, "x"),
			"will QoS 3":              connectBytes(k.v, 0x1e, "x", "t", "m"),
			"will retain, no will":    connectBytes(k.v, 0x22, "x"),
			"will without its fields": connectBytes(k.v, 0x06, "x"),
			"fields without a will":   connectBytes(k.v, 0x02, "x", "t", "m"),
		} {
			k.t.Log(name)
			k.notIn("81", bad)
		}
	}),
	"connect-payload": started(func(k *kit) {
		k.notIn("81", connectBytes(k.v, 0x82, "x"))            // no user name
		k.notIn("81", connectBytes(k.v, 0xc2, "x", "user"))    // no password
		k.notIn("81", connectBytes(k.v, 0x02, "x", "user"))    // a user name too many
		k.notIn("81", connectBytes(k.v, 0x82, "x", "u", "pw")) // a password too many
		k.notIn("81", connectBytes(k.v, 0x02))                 // no identifier
		c := k.dial(k.v)
		c.send(connectBytes(k.v, 0xe6, "x", "t", "m", "user", "pw"))
		c.expect("CONNACK 00")
		only := k.dial(k.v)
		only.send(connectBytes(k.v, 0x42, "y", "pw")) // which 3.1.1 forbids and 5 allows
		only.expect(k.pick("CONNACK 00", "closed"))
	}),
	"clean-start": started(func(k *kit) {
		a := k.in("c", keep)
		k.sub(a, "t")
		a.send(disconnect())
		a.expect("closed")
		c, ack := k.connect(k.v, "c")
		if ack != "CONNACK 00" {
			k.t.Error(ack)
		}
		p := k.in("p")
		p.send(publish(k.v, 1, "t", "x"))
		p.expect("PUBACK #1")
		c.quiet()
		c.send(disconnect())
		c.expect("closed")
		if _, ack := k.connect(k.v, "c", keep); ack != "CONNACK 00" {
			k.t.Errorf("the session of a clean start was kept: %s", ack)
		}
		if _, ack := k.connect(k.v, "new", keep); ack != "CONNACK 00" {
			k.t.Error(ack)
		}
	}),
	"resume-session": started(func(k *kit) {
		a := k.in("c", keep)
		k.sub(a, "t@1", "u@2")
		other := k.in("other", keep)
		k.sub(other, "v")
		a.send(disconnect())
		a.expect("closed")
		p := k.in("p")
		p.send(publish(k.v, 1, "t", "one"), publish2(k.v, 2, "u", "two"), publish(k.v, 3, "v", "three"))
		p.expect("PUBACK #1", "PUBREC #2", "PUBACK #3")
		c, ack := k.connect(k.v, "c", keep)
		if ack != "CONNACK 00 present" {
			k.t.Fatal(ack)
		}
		got := []string{c.next(), c.next()}
		if text := strings.Join(got, ";"); !strings.Contains(text, "t=one q1") || !strings.Contains(text, "u=two q2") {
			k.t.Error(got)
		}
		other.expect("PUBLISH v=three q1 #1")
	}),
	"will-sent": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "w/#")
		for i, end := range []func(c *client){
			func(c *client) { c.nc.Close() },
			func(c *client) { c.send([]byte{0x36, 0}) }, // a protocol error
			func(c *client) { k.in("dies") },            // another connection
		} {
			end(k.in("dies", willOn("w/1", 1, false)))
			s.expect(fmt.Sprintf("PUBLISH w/1=gone q1 #%d", i+1))
		}
		if k.five() {
			k.in("dies", willOn("w/2", 0, false)).send((&packet.Disconnect{Type: packet.TypeDisconnect, Reason: packet.DisconnectWithWill}).Append(nil, v5))
			s.expect("PUBLISH w/2=gone q0")
		}
	}),
	"will-once": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "w")
		c := k.in("c", willOn("w", 1, false), keep)
		c.send(disconnect())
		c.expect("closed")
		s.quiet()
		c = k.in("c", willOn("w", 1, false), keep)
		c.nc.Close()
		s.expect("PUBLISH w=gone q1 #1")
		c = k.in("c", keep) // resumes the session, without a will of its own
		c.nc.Close()
		k.in("other").nc.Close()
		s.quiet()
	}),
	"will-delayed": func(k *kit) { TestWillDelay(k.t) },
	"will-retain": started(func(k *kit) {
		for _, retain := range []bool{false, true} {
			live := k.in("live")
			k.sub(live, "w")
			k.in("c", willOn("w", 1, retain)).nc.Close()
			live.expect("PUBLISH w=gone q1 #1")
			s := k.in("s")
			s.send(subscribe(k.v, 1, "w"))
			s.expect("SUBACK #1 01")
			if retain {
				s.expect("PUBLISH w=gone q1 #1 retain")
			}
			s.quiet()
		}
	}),
	"will-qos": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "w@2")
		k.in("c", willOn("w", 2, false)).nc.Close()
		s.expect("PUBLISH w=gone q2 #1")
	}),
	"will-properties": started(func(k *kit) {
		s := k.in("s")
		k.sub(s, "w")
		k.in("c", func(p *packet.Connect) {
			for _, n := range []string{"b", "a", "b"} {
				p.Will.Props.User = append(p.Will.Props.User, packet.UserProperty{Name: []byte(n), Value: []byte("1")})
			}
			willOn("w", 0, false)(p)
		}).nc.Close()
		s.expect("PUBLISH w=gone q0 b:1 a:1 b:1")
	}),
	"keep-alive": inTime(started(func(k *kit) {
		c := k.in("c", func(p *packet.Connect) { p.KeepAlive = 10 })
		time.Sleep(14 * time.Second)
		c.quiet()
		start := time.Now()
		if k.five() {
			c.expect("DISCONNECT 8d")
		}
		c.expect("closed")
		if d := time.Since(start); d != 15*time.Second {
			k.t.Errorf("after %v, want 15 s", d)
		}
	})),
	"server-keep-alive": inTime(func(k *kit) {
		k.opts.MaxKeepAlive = time.Minute
		k.start()
		c := k.dial(v5)
		c.send((&packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true, KeepAlive: 3600}).Append(nil))
		ack := c.connack()
		if v, ok := ack.Props.Uint(packet.ServerKeepAlive); !ok || v != 60 {
			k.t.Errorf("server keep alive %d, %v", v, ok)
		}
		start := time.Now()
		c.expect("DISCONNECT 8d", "closed")
		if d := time.Since(start); d != 90*time.Second {
			k.t.Errorf("after %v, want 90 s", d)
		}
	}),
	"connack-first": started(func(k *kit) {
		a := k.in("c", keep)
		k.sub(a, "t")
		a.nc.Close()
		p := k.in("p")
		p.send(publish(k.v, 1, "t", "x"))
		p.expect("PUBACK #1")
		c := k.dial(k.v)
		con := packet.Connect{Version: k.v, ClientID: []byte("c")}
		keep(&con)
		c.send(con.Append(nil), subscribe(k.v, 5, "u"))
		c.expect("CONNACK 00 present")
		for range 2 {
			if got := c.next(); strings.HasPrefix(got, "CONNACK") {
				k.t.Error("a second CONNACK")
			}
		}
	}),
	"connack-bytes": started(func(k *kit) {
		c := k.dial(k.v)
		c.send(connectBytes(k.v, 2, "x"))
		c.next2(func(b []byte) {
			if b[0] != 0x20 || b[2]&0xfe != 0 {
				k.t.Errorf("%x", b)
			}
		})
	}),
	"connack-properties": started(func(k *kit) {
		c := k.dial(v5)
		c.send(connectBytes(v5, 2, "x"))
		ack := c.connack()
		for _, absent := range []packet.Property{packet.ResponseInfo, packet.MaximumQoS, packet.AuthMethod, packet.AuthData} {
			if _, ok := ack.Props.Uint(absent); ok {
				k.t.Errorf("property %#x is there", absent)
			}
		}
	}),
	"problem-information": func(k *kit) {
		k.opts.MaxRetained = 1
		k.start()
		for _, wants := range []uint32{0, 1} {
			c := k.in("c", func(p *packet.Connect) { p.Props.SetUint(packet.RequestProblemInfo, wants) })
			c.send(retained(v5, 1, "a", "x"))
			c.expect("PUBACK #1")
			c.send(retained(v5, 2, "b", "x"))
			c.next2(func(b []byte) {
				f, _, _ := packet.Split(b, 1<<20)
				var a packet.Ack
				if err := a.Decode(f, v5); err != nil || a.Reason != packet.QuotaExceeded {
					k.t.Fatal(a, err)
				}
				if _, has := a.Props.Bytes(packet.ReasonString); has != (wants == 1) {
					k.t.Errorf("request problem information %d: reason string %v", wants, has)
				}
			})
		}
	},
	"client-identifiers": started(func(k *kit) {
		for _, id := range []string{"a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"} {
			k.in(id).quiet()
		}
	}),
	"empty-identifier": started(func(k *kit) {
		ids := map[string]bool{}
		for range 3 {
			c := k.dial(k.v)
			c.send(connectBytes(k.v, 2, ""))
			ack := c.connack()
			id, ok := ack.Props.Bytes(packet.AssignedClientID)
			if ack.Code != 0 || ok != k.five() {
				k.t.Errorf("code %d, identifier %q", ack.Code, id)
			}
			ids[string(id)] = true
			c.quiet()
		}
		if k.five() && len(ids) != 3 {
			k.t.Errorf("identifiers %v", ids)
		}
		if n := k.srv.Status().Sessions; n != 3 {
			k.t.Errorf("%d sessions, want 3", n)
		}
	}),
	"empty-identifier-kept": started(func(k *kit) {
		c := k.dial(k.v)
		c.send(connectBytes(k.v, 0, ""))
		c.expect("CONNACK 02", "closed")
	}),
	"identifier-refused": started(func(k *kit) {
		c := k.dial(k.v)
		con := packet.Connect{Version: k.v, ClientID: []byte(strings.Repeat("x", 300)), CleanStart: true}
		c.send(con.Append(nil))
		c.expect(k.pick("CONNACK 85", "CONNACK 02"), "closed")
	}),
	"login-refused": func(k *kit) {
		k.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return nil, errors.New("no") }
		k.start()
		if _, got := k.connect(k.v, "c"); got != k.pick("CONNACK 86", "CONNACK 04") {
			k.t.Error(got)
		}
	},
	"take-over": started(func(k *kit) {
		first := k.in("c")
		k.in("c").quiet()
		if k.five() {
			first.expect("DISCONNECT 8e")
		}
		first.expect("closed")
	}),
	"nothing-after-refusal": func(k *kit) {
		k.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return nil, errors.New("no") }
		k.start()
		c := k.dial(k.v)
		go c.send(connectBytes(k.v, 2, "x"), publish(k.v, 1, "t", "x"), subscribe(k.v, 2, "t"))
		if got := c.next(); !strings.HasPrefix(got, "CONNACK") {
			k.t.Error(got)
		}
		c.expect("closed")
		if n := len(k.records("mqtt")); n != 0 {
			k.t.Errorf("%d records", n)
		}
	},
	"refusal-bytes": func(k *kit) {
		k.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return nil, errors.New("no") }
		k.start()
		c := k.dial(k.v)
		c.send(connectBytes(k.v, 0, "x"))
		ack := c.connack()
		if ack.SessionPresent || ack.Code != k.pick("\x86", "\x04")[0] {
			k.t.Errorf("%+v", ack)
		}
		c.expect("closed")
	},
	"small-connack": func(k *kit) {
		k.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return nil, errors.New(strings.Repeat("no ", 100)) }
		k.start()
		c := k.dial(v5)
		con := packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true}
		con.Props.SetUint(packet.MaximumPacketSize, 40)
		c.send(con.Append(nil))
		c.next2(func(b []byte) {
			if len(b) > 40 || b[3] != 0x86 {
				k.t.Errorf("%x", b)
			}
		})
	},
	"authentication-method": started(func(k *kit) {
		if _, got := k.connect(v5, "c", by("NONE", "x")); got != "CONNACK 8c" {
			k.t.Error(got)
		}
	}),
	"enhanced-authentication": func(k *kit) { TestEnhancedAuthentication(k.t) },
	"auth-unasked":            started(func(k *kit) { k.refused("82", auth(packet.ReAuthenticate, "X", "x")) }),
}

// connack takes the CONNACK.
func (c *client) connack() (ack packet.Connack) {
	c.t.Helper()
	c.next2(func(b []byte) {
		f, _, err := packet.Split(b, 1<<20)
		if err == nil {
			err = ack.Decode(f, c.v)
		}
		if err != nil {
			c.t.Fatalf("%x: %v", b, err)
		}
	})
	return ack
}

// next2 takes the bytes of the next packet.
func (c *client) next2(look func(b []byte)) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		_, n, err := packet.Split(c.buf, 1<<28)
		switch {
		case err != nil:
			c.t.Fatal(err)
		case n > 0 && n <= len(c.buf):
			look(append([]byte(nil), c.buf[:n]...))
			c.buf = c.buf[n:]
			return
		case c.err != nil:
			c.t.Fatal("closed")
		}
		c.has.Wait()
	}
}
