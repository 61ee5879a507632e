package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn, 100), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// listener serves a listener with rules of its own; dial connects to it.
func (b *box) listener(rules mqtt.Listener) (dial func(packet.Version) *client) {
	l := newPipes()
	go b.srv.ServeFor(l, rules)
	return func(v packet.Version) *client {
		here, there := net.Pipe()
		c := &client{t: b.t, v: v, nc: here}
		c.has.L = &c.mu
		l.conns <- there
		go c.receive()
		return c
	}
}

// enter sends CONNECT on a connection and expects to be let in.
func (c *client) enter(id string) *client {
	c.t.Helper()
	c.send((&packet.Connect{Version: c.v, ClientID: []byte(id), CleanStart: true}).Append(nil))
	c.expect("CONNACK 00")
	return c
}

// many is messages 1 to n, of 10 bytes with their topic name.
func many(v packet.Version, n int) (out []byte) {
	for i := range n {
		out = append(out, publish(v, uint16(i+1), "t", "nine byte")...)
	}
	return out
}

// Beyond its rate MQTT 5 is told so; what is within it is taken.
func TestPublishRateIsToldToMQTT5(t *testing.T) {
	for name, limit := range map[string]func(*mqtt.Options){
		"messages": func(o *mqtt.Options) { o.MaxPublishRate = 5 },
		"bytes":    func(o *mqtt.Options) { o.MaxPublishBytes = 50 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				limit(&b.opts)
				b.start()
				defer b.stop()
				c := b.client(v5, "c")
				for range 3 {
					c.send(many(v5, 7))
					c.expect("PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4", "PUBACK #5", "PUBACK #6 97", "PUBACK #7 97")
					time.Sleep(time.Second)
				}
				other := b.client(v5, "other") // has a rate of its own
				other.send(many(v5, 5))
				other.expect("PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4", "PUBACK #5")
				if m := b.metrics(); !strings.Contains(m, `weir_mqtt_throttled_total{how="refused"} 6`) {
					t.Error(m)
				}
			})
		})
	}
}

// A 3.1.1 client cannot be told: it is read as fast as it may send, and loses nothing.
func TestPublishRateSlowsMQTT3(t *testing.T) {
	for name, limit := range map[string]func(*mqtt.Options){
		"messages": func(o *mqtt.Options) { o.MaxPublishRate = 5 },
		"bytes":    func(o *mqtt.Options) { o.MaxPublishBytes = 50 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				limit(&b.opts)
				b.start()
				defer b.stop()
				c := b.client(v3, "c")
				start := time.Now()
				c.send(many(v3, 25))
				for i := range 25 {
					c.expect(fmt.Sprintf("PUBACK #%d", i+1))
				}
				if d := time.Since(start); d < 3800*time.Millisecond || d > 4200*time.Millisecond {
					t.Errorf("25 messages at 5 a second, 5 at once, took %v", d)
				}
				c.quiet()
			})
		})
	}
}

func TestPublishRateDropsQoS0(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxPublishRate = 5
		b.start()
		defer b.stop()
		for _, v := range []packet.Version{v3, v5} {
			c := b.client(v, "c")
			for range 8 {
				c.send(publish(v, 0, "t", "x"))
			}
			c.quiet()
		}
		if m := b.metrics(); !strings.Contains(m, `weir_mqtt_qos0_lost_total{reason="rate"} 6`) {
			t.Error(m)
		}
	})
}

// All clients of a listener share its rates; those of another do not.
func TestPublishRateOfAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		dial := b.listener(mqtt.Listener{Name: "slow", Takes: mqtt.AnyKind, MaxPublishRate: 4})
		for i, want := range []string{"PUBACK #3", "PUBACK #3 97"} { // 3 of 4, then 1
			c := dial(v5).enter(fmt.Sprint("c", i))
			c.send(many(v5, 3))
			c.next()
			c.next()
			c.expect(want)
		}
		free := b.client(v5, "free")
		free.send(many(v5, 100))
		for i := range 100 {
			free.expect(fmt.Sprintf("PUBACK #%d", i+1))
		}
	})
}

// A listener takes so many connections, and so many new ones a second.
func TestConnectionsOfAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		dial := b.listener(mqtt.Listener{Name: "small", Takes: mqtt.AnyKind, MaxConnections: 2})
		first := dial(v5).enter("a")
		dial(v5).enter("b")
		dial(v5).expect("closed")
		first.send(disconnect())
		first.expect("closed")
		synctest.Wait()
		dial(v5).enter("c")
		if m := b.metrics(); !strings.Contains(m, `weir_mqtt_listener_connections{listener="small"} 2`) || !strings.Contains(m, `weir_mqtt_listener_refused_total{listener="small"} 1`) {
			t.Error(m)
		}
		dial = b.listener(mqtt.Listener{Name: "slow", Takes: mqtt.AnyKind, MaxConnectionRate: 10})
		start := time.Now()
		for i := range 40 { // 10 at once, then 10 a second
			dial(v5).enter(fmt.Sprint("d", i))
		}
		if d := time.Since(start); d < 2900*time.Millisecond || d > 3100*time.Millisecond {
			t.Errorf("40 connections took %v, want 3 s", d)
		}
	})
}

// One address cannot connect without end; others can meanwhile.
func TestConnectionRateOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxRatePerIP = 10
		b.start()
		defer b.stop()
		from := func(ip net.IP) (served int) {
			for range 30 {
				here, there := net.Pipe()
				b.srv.ServeConn(addressed{there, &net.TCPAddr{IP: ip, Port: 1}})
				go here.Write((&packet.Connect{Version: v5, ClientID: []byte("x"), CleanStart: true}).Append(nil))
				here.SetReadDeadline(time.Now().Add(time.Millisecond))
				if n, _ := here.Read(make([]byte, 2)); n > 0 {
					served++
				}
				here.Close()
			}
			return served
		}
		attacker := net.IPv4(192, 0, 2, 1)
		if n := from(attacker); n != 10 {
			t.Errorf("%d connections served at once, want 10", n)
		}
		if n := from(net.IPv4(192, 0, 2, 2)); n != 10 {
			t.Errorf("%d of another address, want 10", n)
		}
		if n := from(net.IPv4(127, 0, 0, 1)); n != 30 {
			t.Errorf("%d of loopback, want all", n)
		}
		time.Sleep(time.Second)
		if n := from(attacker); n != 10 {
			t.Errorf("%d a second later, want 10", n)
		}
	})
}

// Who guesses passwords cannot fill the log: a line a second says how many there were.
func TestFailedLoginsAreLoggedSparely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		var out bytes.Buffer
		b.opts.Log = slog.New(slog.NewTextHandler(&out, nil))
		b.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return nil, errors.New("unknown user or wrong password") }
		b.start()
		defer b.stop()
		guess := func(n int) {
			for range n {
				c, got := b.connect(v5, "c", as("admin"))
				if got != "CONNACK 86" {
					t.Fatal(got)
				}
				c.expect("closed")
			}
		}
		guess(100)
		time.Sleep(2 * time.Second)
		guess(1)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], "not_logged=99") {
			t.Errorf("%d lines:\n%s", len(lines), out.String())
		}
		if m := b.metrics(); !strings.Contains(m, "weir_mqtt_logins_failed_total 101") {
			t.Error(m)
		}
	})
}
