package mqtt_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// What hostile devices on the LAN try. Beside these: malformed packets and whole
// conversations are fuzzed (FuzzDecode, FuzzConversation), limits of filters, levels,
// lengths and retained messages are in TestRefusals and TestRefusedInTurn, a
// subscriber that never reads is in TestTimers and, over real sockets of every kind, in
// TestDeafSubscribers; TestHalfWords has handshakes that do not end, TestPublishRate
// and its like floods of messages and connections.

// A length that is announced allocates nothing: memory follows the bytes that come.
func TestGiantLengths(t *testing.T) {
	b := newBox(t)
	b.opts.MaxPacketBytes = 64 << 20
	b.start()
	defer b.stop()
	const tries = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range tries {
		c := b.dial(v5) // 256 MiB before CONNECT
		c.send([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
		c.expect("closed")
		in := b.client(v5, "c") // 60 MiB after it, of which 100 bytes come
		in.send(append([]byte{0x30, 0x80, 0x80, 0xe0, 0x1d}, make([]byte, 100)...))
		in.nc.Close()
		for b.srv.Status().Connections > 0 {
			runtime.Gosched()
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / tries; per > 512<<10 { // the test's own read buffers are 128 KiB of it
		t.Errorf("%d bytes allocated for each pair of connections", per)
	}
	bomb := []byte("\x10\xff\x7f\x00\x04MQTT\x05\x02\x00\x00\xff\xff\xff\x7f") // a property length of 256 MiB
	c := b.dial(v5)
	c.send(append(bomb, make([]byte, 16<<10)...))
	if got := c.next(); got != "CONNACK 81" && got != "closed" {
		t.Error(got)
	}
}

// addressed is a connection that comes from an address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

// Connections that say nothing, or a byte a second, are bounded in number for each
// address and in time, and others are served meanwhile.
func TestSlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxConnectionsPerIP = 500
		b.start()
		defer b.stop()
		attacker := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
		open := 0
		for range 600 {
			here, there := net.Pipe()
			b.srv.ServeConn(addressed{there, attacker})
			go func() {
				for _, c := range []byte("\x10\x7f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x10slow") {
					if _, err := here.Write([]byte{c}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			open++
		}
		synctest.Wait()
		if n := b.srv.Status().Connections; n != 500 {
			t.Errorf("%d connections of one address, want 500", n)
		}
		honest := b.client(v5, "honest")
		start := time.Now()
		for i := range 100 {
			honest.send(publish(v5, uint16(i+1), "t", "x"))
			honest.expect(fmt.Sprintf("PUBACK #%d", i+1))
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the honest client waited for %v", d)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := b.srv.Status().Connections; n != 1 {
			t.Errorf("%d connections after the time for CONNECT, want the honest one", n)
		}
	})
}

// One identifier that connects again and again leaves one session and no goroutines,
// and messages are neither lost nor doubled by it.
func TestTakeOverStorm(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	b.client(v5, "victim", keep).quiet()
	before := runtime.NumGoroutine()
	for range 300 {
		c := b.dial(v5)
		p := packet.Connect{Version: v5, ClientID: []byte("victim")}
		keep(&p)
		c.send(p.Append(nil), subscribe(v5, 1, "t@2"))
	}
	for b.srv.Status().Connections > 1 {
		runtime.Gosched()
	}
	last, _ := b.connect(v5, "victim", keep)
	last.send(subscribe(v5, 1, "t@2"))
	last.expect("SUBACK #1 02")
	for b.srv.Status().Connections > 1 {
		runtime.Gosched()
	}
	b.client(v5, "p").send(publish2(v5, 1, "t", "once"))
	last.expect("PUBLISH t=once q2 #1")
	last.quiet()
	if n := b.srv.Status().Sessions; n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before+20; {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, there were %d", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}

// New identifiers without end meet the limit of sessions, and those that were there
// are served on.
func TestIdentifierChurn(t *testing.T) {
	b := newBox(t)
	b.opts.MaxSessions = 50
	b.start()
	defer b.stop()
	honest := b.client(v5, "honest", keep)
	honest.send(subscribe(v5, 1, "t"))
	honest.expect("SUBACK #1 01")
	refused := 0
	for i := range 200 {
		c, ack := b.connect(v5, fmt.Sprint("churn", i), keep)
		if ack == "CONNACK 97" {
			refused++
		} else {
			c.send(subscribe(v5, 1, "t"))
			c.expect("SUBACK #1 01")
		}
		c.nc.Close()
	}
	if refused != 200-49 {
		t.Errorf("%d refused, want 151", refused)
	}
	honest.send(publish(v5, 1, "t", "x"))
	honest.anyOrder("PUBACK #1", "PUBLISH t=x q1 #1")
}

// Filters made to be expensive: all ways to write a name of 12 levels with +. A
// publish visits each node of the tree at most once.
func TestSubscriptionBomb(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	const clients, levels = 16, 12
	for i := range clients {
		c := b.client(v5, fmt.Sprint("bomb", i), func(p *packet.Connect) { p.Props.SetUint(packet.ReceiveMaximum, 1) })
		var filters []string
		for k := range 256 {
			name := strings.Split(strings.Repeat("a/", levels-1)+"a", "/")
			for bit := range levels {
				if (i*256+k)>>bit&1 == 1 {
					name[bit] = "+"
				}
			}
			filters = append(filters, strings.Join(name, "/")+"@0")
		}
		c.send(subscribe(v5, 1, filters...))
		if got := c.next(); !strings.HasPrefix(got, "SUBACK #1 00") {
			t.Fatal(got)
		}
		go func() {
			for c.next() != "closed" { // read what comes, and forget it
			}
		}()
	}
	p := b.client(v5, "p")
	name := strings.Repeat("a/", levels-1) + "a"
	for i := range 50 {
		p.send(publish(v5, uint16(i+1), name, "x"))
		p.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	if st := b.srv.Status(); st.Subscriptions != clients*256 {
		t.Errorf("%d subscriptions", st.Subscriptions)
	}
}

// A device that comes and dies again and again with a will leaves one, however long its
// delay; many devices leave no more than there may be sessions.
func TestWillFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxSessions = 20
		b.start()
		defer b.stop()
		listener := b.client(v5, "listener")
		listener.send(subscribe(v5, 1, "gone/#"))
		listener.expect("SUBACK #1 01")
		dies := func(id string, n int) string {
			c, got := b.connect(v5, id, keep, func(p *packet.Connect) {
				p.HasWill, p.Will.Topic, p.Will.Payload = true, []byte("gone/"+id), []byte(fmt.Sprint(n))
				p.Will.Props.SetUint(packet.WillDelay, 60)
			})
			c.nc.Close()
			synctest.Wait()
			return got
		}
		for n := range 500 {
			dies("again", n)
		}
		refused := 0
		for n := range 200 {
			if got := dies(fmt.Sprint("churn", n), n); got == "CONNACK 97" {
				refused++
			}
		}
		if refused != 200-18 {
			t.Errorf("%d refused, want 182", refused)
		}
		listener.quiet()
		time.Sleep(61 * time.Second)
		wills := map[string]bool{}
		for i := range 19 {
			got := listener.next()
			wills[got] = true
			listener.send(puback(uint16(i + 1)))
		}
		listener.quiet()
		if len(wills) != 19 || !hasPrefixed(wills, "PUBLISH gone/again=499 ") {
			t.Errorf("%d wills: %v", len(wills), wills)
		}
	})
}

func hasPrefixed(set map[string]bool, prefix string) bool {
	for s := range set {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// Shared subscriptions made by the hundred end with those who made them.
func TestShareBomb(t *testing.T) {
	b := newBox(t)
	b.opts.MaxFilters = 64
	b.start()
	defer b.stop()
	for i := range 20 {
		c := b.client(v5, fmt.Sprint("bomb", i))
		var filters []string
		for k := range 100 {
			filters = append(filters, fmt.Sprintf("$share/g%d-%d/+/+/+/+/+/+/+/#", i, k))
		}
		c.send(subscribe(v5, 1, filters...))
		if got := c.next(); strings.Count(got, " 97") != 36 || strings.Count(got, " 01") != 64 {
			t.Fatal(got)
		}
		c.nc.Close()
	}
	for end := time.Now().Add(patience); b.srv.Status().Shares > 0 || b.srv.Status().Connections > 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%+v", b.srv.Status())
		}
	}
	honest := b.client(v5, "honest")
	honest.send(subscribe(v5, 1, "t"), publish(v5, 1, "t", "x"))
	honest.anyOrder("SUBACK #1 01", "PUBACK #1", "PUBLISH t=x q1 #1")
}
