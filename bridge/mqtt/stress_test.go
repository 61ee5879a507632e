package mqtt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Publishers send while a subscriber with a session is thrown out, comes back and
// acknowledges by halves: every message arrives, in order for each publisher, and
// what is repeated was not acknowledged or carries DUP.
func TestSessionUnderChurn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	b := newBox(t)
	b.opts.MaxInflight = 20
	b.start()
	defer func() { b.stop() }()
	const publishers, each = 3, 400
	s := b.client(v5, "s", keep)
	s.send(subscribe(v5, 1, "t/+", "t/0"))
	s.expect("SUBACK #1 01 01")
	var wg sync.WaitGroup
	for p := range publishers {
		c := b.client(v5, fmt.Sprint("p", p))
		wg.Go(func() {
			for i := range each {
				c.send(publish(v5, uint16(i+1), fmt.Sprint("t/", p), fmt.Sprint(i)))
				c.expect(fmt.Sprintf("PUBACK #%d", i+1))
			}
		})
	}
	var next [publishers]int
	acked := map[string]bool{}
	for done := 0; done < publishers*each; {
		m := s.next()
		if m == "closed" {
			t.Fatal("closed")
		}
		var p, i int
		var id uint16
		if _, err := fmt.Sscanf(m, "PUBLISH t/%d=%d q1 #%d", &p, &i, &id); err != nil {
			t.Fatalf("%q: %v", m, err)
		}
		key := fmt.Sprint(p, "/", i)
		switch {
		case i == next[p]:
			next[p]++
			done++
		case i > next[p]:
			t.Fatalf("%s came before %d", m, next[p])
		case acked[key]:
			t.Fatalf("%s came again after its PUBACK was taken", m)
		case !strings.HasSuffix(m, " dup"):
			t.Fatalf("%s came again without DUP", m)
		}
		switch rnd.IntN(100) {
		case 0, 1, 2: // another connection takes over; acks may be under way
			var ack string
			if s, ack = b.connect(v5, "s", keep); ack != "CONNACK 00 present" {
				t.Fatal(ack)
			}
		default:
			s.send(puback(id))
			if rnd.IntN(4) == 0 {
				s.send(packet.AppendPing(nil, packet.TypePingreq))
				s.skipToPong(t)
				acked[key] = true
			}
		}
	}
	wg.Wait()
}

// skipToPong waits until the server has read all that was sent, and puts what it
// sent meanwhile back.
func (c *client) skipToPong(t *testing.T) {
	t.Helper()
	pong := packet.AppendPing(nil, packet.TypePingresp)
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := 0; ; {
		f, n, err := packet.Split(c.buf[at:], 1<<28)
		if err != nil || c.err != nil {
			t.Fatal(err, c.err)
		}
		switch {
		case n == 0 || n > len(c.buf)-at:
			c.has.Wait()
		case f.Type == packet.TypePingresp:
			c.buf = append(append([]byte{}, c.buf[:at]...), c.buf[at+len(pong):]...)
			return
		default:
			at += n
		}
	}
}

// Any bytes after CONNECT: the server answers or closes, does not panic, and all
// goroutines of the connection end.
func FuzzConversation(f *testing.F) {
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	f.Add(join(subscribe(v3, 1, "a/#", "$SYS/#"), publish(v3, 1, "a/b", "x"), retained(v3, 2, "r", "y"), puback(1), disconnect()), false)
	f.Add(join(subscribe(v5, 1, "a/#"), publish(v5, 1, "a/b", "x"), unsubscribe(v5, 2, "a/#"), packet.AppendPing(nil, packet.TypePingreq)), true)
	f.Add([]byte("\x30\x07\x00\x01a\x03\x23\x00\x01\x30\x06\x00\x00\x03\x23\x00\x01\xe0\x02\x04\x00"), true)
	f.Add([]byte("\x62\x02\x00\x01"), false)
	f.Add(join(subscribe(v5, 1, "$share/g/#@2", "#@2"), publish2(v5, 1, "a", "x"), again(publish2(v5, 1, "a", "x")), pubrel(1), pubrec(1), pubcomp(1), pubrel(9)), true)
	f.Add(join(subscribe(v3, 1, "a@2"), publish2(v3, 7, "a", "x"), keeping(publish2(v3, 8, "a", "")), pubrec(1), pubrel(7), unsubscribe(v3, 2, "a"), disconnect()), false)
	f.Add(join(auth(packet.ReAuthenticate, "X", "y"), publish(v5, 1, "a", "x")), true)
	f.Add(join(option(1, "$SYS/#", packet.Subscription{QoS: 1, RetainHandling: 1}, 7), option(2, "$SYS/+/x", packet.Subscription{NoLocal: true, RetainAsPublished: true})), true)
	b := newBox(f).start()
	f.Cleanup(b.stop)
	f.Fuzz(func(t *testing.T, raw []byte, five bool) {
		v := v3
		if five {
			v = v5
		}
		here, there := net.Pipe()
		b.srv.ServeConn(there)
		go func() {
			p := packet.Connect{Version: v, ClientID: []byte("fuzz"), CleanStart: len(raw)%2 == 0, HasWill: true, Will: packet.Will{Topic: []byte("w")}}
			p.Props.SetUint(packet.SessionExpiry, uint32(len(raw)%3)) // sessions that go on with what the last run left
			p.Props.SetUint(packet.TopicAliasMaximum, 2)
			here.Write(append(p.Append(nil), raw...))
			here.Close()
		}()
		buf := make([]byte, 4096)
		for {
			if _, err := here.Read(buf); err != nil {
				break
			}
		}
		for b.srv.Status().Connections > 0 {
			runtime.Gosched()
		}
	})
}

// The way of a message from the socket to the log and of its PUBACK back allocates
// nothing per message.
func TestPublishAllocations(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	here, there := net.Pipe()
	b.srv.ServeConn(there)
	p := packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true}
	here.Write(p.Append(nil))
	buf := make([]byte, 1<<16)
	here.Read(buf)
	const n = 200
	var all []byte
	for i := range n {
		all = append(all, publish(v5, uint16(i+1), "sensors/a/b", "21.5")...)
	}
	round := func() {
		go here.Write(all)
		for got := 0; got < 4*n; {
			k, err := here.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
	}
	for range 5 {
		round()
	}
	if per := testing.AllocsPerRun(20, round) / n; per > 0.25 {
		t.Errorf("%.2f allocations per message, with those of the log and of the disk in memory", per)
	}
}

// Retained messages and sessions do not make their topics grow without end.
func TestTablesStaySmall(t *testing.T) {
	b := newBox(t)
	b.opts.SessionSaveInterval = 5 * time.Millisecond
	b.start()
	defer func() { b.stop() }()
	c := b.client(v3, "c")
	c.send(retained(v3, 1, "keep", "me"), retained(v3, 2, "gone", "x"), retained(v3, 3, "gone", ""))
	c.expect("PUBACK #1", "PUBACK #2", "PUBACK #3")
	id := uint16(3)
	for range 11 {
		var all [][]byte
		for range 1000 {
			id++
			all = append(all, retained(v3, id, "state", fmt.Sprint(id)))
		}
		c.send(all...)
		for i := range 1000 {
			c.expect(fmt.Sprintf("PUBACK #%d", int(id)-999+i))
		}
	}
	for len(b.records("__weir_retained")) > 5000 {
		runtime.Gosched()
	}
	b.crash()
	s := b.client(v3, "s")
	s.send(subscribe(v3, 1, "#"))
	s.expect("SUBACK #1 01", "PUBLISH keep=me q1 #1 retain", fmt.Sprintf("PUBLISH state=%d q1 #2 retain", id))
	s.quiet()
}
