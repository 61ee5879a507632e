package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A QoS 2 message that comes again before its PUBREL is the same message; after
// PUBCOMP the identifier is free [MQTT-4.3.3-10], [MQTT-4.3.3-11].
func TestQoS2Inbound(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	want := 0
	for _, v := range []packet.Version{v3, v5} {
		for _, lasting := range []bool{false, true} {
			c := b.client(v, fmt.Sprint("c", v, lasting), func(p *packet.Connect) {
				if lasting {
					keep(p)
				}
			})
			one := publish2(v, 1, "t", "one")
			c.send(one, again(publish2(v, 1, "t", "one")), publish(v, 2, "t", "two"), publish2(v, 3, "t", "three"))
			c.expect("PUBREC #1", "PUBREC #1", "PUBACK #2", "PUBREC #3")
			c.send(pubrel(1), publish2(v, 4, "t", "four"), pubrel(3))
			c.expect("PUBCOMP #1", "PUBREC #4", "PUBCOMP #3")
			c.send(publish2(v, 1, "t", "another"), again(publish2(v, 4, "t", "four")))
			c.expect("PUBREC #1", "PUBREC #4")
			c.send(pubrel(1), pubrel(4), pubrel(9))
			c.expect("PUBCOMP #1", "PUBCOMP #4")
			if got := c.next(); v == v5 && got != "PUBCOMP #9 92" || v == v3 && got != "PUBCOMP #9" {
				t.Errorf("release of what is not known: %s", got)
			}
			if want += 5; len(b.records("mqtt")) != want {
				t.Fatalf("%d records, want %d", len(b.records("mqtt")), want)
			}
		}
	}
	if r := b.records("mqtt")[0]; !strings.Contains(headerText(r), "mqtt.qos=2") {
		t.Error(headerText(r))
	}
}

// PUBREC waits for the sync that covers the message, PUBCOMP for the one that covers
// the release.
func TestQoS2WaitsForTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		c := b.client(v3, "c", keep)
		c.send(publish2(v3, 1, "t", "x"))
		c.expect("PUBREC #1")
		release := b.holdSyncs()
		c.send(publish2(v3, 2, "t", "y"), again(publish2(v3, 2, "t", "y")), pubrel(1))
		synctest.Wait()
		c.quiet()
		release()
		c.expect("PUBREC #2", "PUBREC #2", "PUBCOMP #1")
	})
}

// A client that has lost its connection between PUBREL and PUBCOMP releases again. It
// hears PUBCOMP once the release is durable, which its first one has only staged: its
// next message under that identifier would be taken for the released one after a crash.
func TestQoS2ReleasedAgainWaitsForTheSync(t *testing.T) {
	for _, v := range []packet.Version{v3, v5} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t).start()
			defer b.stop()
			c := b.client(v, "c", keep)
			c.send(publish2(v, 1, "t", "x"))
			c.expect("PUBREC #1")
			release := sync.OnceFunc(b.holdSyncs())
			defer release()
			c.send(pubrel(1))
			synctest.Wait()
			c = b.client(v, "c", keep)
			c.send(pubrel(1))
			synctest.Wait()
			c.quiet()
			release()
			if got := c.next(); got != "PUBCOMP #1" && got != "PUBCOMP #1 92" {
				t.Error(got)
			}
		})
	}
}

// A QoS 2 message with RETAIN is retained, once, and refused as a whole.
func TestQoS2Retained(t *testing.T) {
	b := newBox(t)
	b.opts.MaxRetained = 1
	b.start()
	defer func() { b.stop() }()
	c := b.client(v5, "c", keep)
	kept := publish2(v5, 1, "r", "state")
	kept[0] |= 1
	c.send(kept)
	c.expect("PUBREC #1")
	more := publish2(v5, 2, "other", "state")
	more[0] |= 1
	c.send(more)
	c.expect("PUBREC #2 97")
	c.send(publish2(v5, 2, "t", "x")) // free again [MQTT-4.3.3-9]
	c.expect("PUBREC #2")
	b.crash()
	s := b.client(v5, "s")
	s.send(subscribe(v5, 1, "#@2"))
	s.expect("SUBACK #1 02", "PUBLISH r=state q2 #1 retain")
	s.send(pubrec(1))
	s.expect("PUBREL #1")
	s.send(pubcomp(1))
	s.quiet()
	if n := len(b.records("mqtt")); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// sender is the publishing side of QoS 2, as the standard has it: it repeats what is
// not answered whenever it connects anew, and forgets nothing.
type sender struct {
	next  int            // message
	sent  map[uint16]int // PUBLISH is unanswered
	freed map[uint16]int // PUBREL is unanswered
	order []uint16
}

func (s *sender) resend() (out [][]byte) {
	for _, id := range s.order {
		if n, ok := s.sent[id]; ok {
			out = append(out, again(publish2(v5, id, fmt.Sprint("t/", n%3), fmt.Sprint(n))))
		} else if _, ok := s.freed[id]; ok {
			out = append(out, pubrel(id))
		}
	}
	return out
}

func (s *sender) publish(id uint16) []byte {
	n := s.next
	s.next++
	s.sent[id] = n
	s.order = append(s.order, id)
	return publish2(v5, id, fmt.Sprint("t/", n%3), fmt.Sprint(n))
}

// take handles one answer and returns what is to be sent.
func (s *sender) take(m string) []byte {
	var id uint16
	if _, err := fmt.Sscanf(m, "PUBREC #%d", &id); err == nil {
		if n, ok := s.sent[id]; ok {
			delete(s.sent, id)
			s.freed[id] = n
		}
		return pubrel(id)
	}
	if _, err := fmt.Sscanf(m, "PUBCOMP #%d", &id); err == nil {
		if _, ok := s.freed[id]; !ok { // the answer to a PUBREL that was repeated
			return nil
		}
		delete(s.freed, id)
		for i, o := range s.order {
			if o == id {
				s.order = append(s.order[:i:i], s.order[i+1:]...)
				break
			}
		}
	}
	return nil
}

// Exactly once into the log, whenever the power goes and whatever the client has been
// told by then. Three topics go to three partitions, so that a pass of the read loop
// is several batches. With several ways per message it is so for each of them.
func TestQoS2SurvivesPowerCuts(t *testing.T) {
	t.Run("one way", func(t *testing.T) { surviveQoS2(t, nil) })
	t.Run("many ways", func(t *testing.T) {
		surviveQoS2(t, []bridge.Route{
			{Filter: "t/#", Topic: "archive", Continue: true},
			{Filter: "t/1", Topic: "one-more", Continue: true},
		})
	})
}

func surviveQoS2(t *testing.T, more []bridge.Route) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := newBox(t)
	b.routes = more
	for i := range 3 {
		b.routes = append(b.routes, bridge.Route{Filter: fmt.Sprint("t/", i), Topic: fmt.Sprint("topic-", i)})
	}
	b.start()
	defer func() { b.stop() }()
	s := &sender{sent: map[uint16]int{}, freed: map[uint16]int{}}
	c := b.client(v5, "c", keep)
	id := uint16(0)
	fresh := func() uint16 {
		for {
			id = id%40 + 1
			if _, ok := s.sent[id]; ok {
				continue
			}
			if _, ok := s.freed[id]; ok {
				continue
			}
			return id
		}
	}
	const n = 400
	for s.next < n || len(s.order) > 0 {
		var out [][]byte
		for s.next < n && len(s.order) < 30 && rnd.IntN(3) > 0 {
			out = append(out, s.publish(fresh()))
		}
		c.send(out...)
		if len(s.order) > 0 && rnd.IntN(4) > 0 {
			if len(s.sent) == 0 { // PUBRELs may have been kept back, and nothing else is answered
				c.send(s.resend2()...)
			}
			if reply := s.take(c.next()); reply != nil && rnd.IntN(5) > 0 {
				c.send(reply)
			}
		}
		if rnd.IntN(12) == 0 {
			b.crash()
			var ack string
			if c, ack = b.connect(v5, "c", keep); !strings.HasPrefix(ack, "CONNACK 00") {
				t.Fatal(ack)
			}
			c.send(s.resend()...)
		} else if len(s.freed) > 0 && rnd.IntN(3) == 0 { // answers kept back above
			c.send(s.resend2()...)
		}
	}
	var all []string
	for i := range 3 {
		for _, r := range b.records(fmt.Sprint("topic-", i)) {
			all = append(all, string(r.Value))
		}
	}
	onceEach(t, n, all)
	for _, r := range more {
		var all []string
		for _, rec := range b.records(r.Topic) {
			all = append(all, string(rec.Value))
		}
		if r.Topic == "archive" {
			onceEach(t, n, all)
		} else if k := len(b.records("topic-1")); len(all) != k {
			t.Errorf("%s has %d records, topic-1 has %d", r.Topic, len(all), k)
		}
	}
}

// onceEach checks that all is the messages 0 to n-1, each once.
func onceEach(t *testing.T, n int, all []string) {
	t.Helper()
	times := map[string]int{}
	for _, v := range all {
		times[v]++
	}
	for i := range n {
		if k := times[fmt.Sprint(i)]; k != 1 {
			t.Errorf("message %d is %d times in the log", i, k)
		}
	}
}

// resend2 repeats the PUBRELs only.
func (s *sender) resend2() (out [][]byte) {
	for id := range s.freed {
		out = append(out, pubrel(id))
	}
	return out
}

// Exactly once to a subscriber that keeps the rules, across power cuts of the box and
// lost connections.
func TestQoS2OutboundSurvivesPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	b := newBox(t)
	b.opts.MaxInflight = 10
	b.start()
	defer func() { b.stop() }()
	c := b.client(v5, "s", keep)
	c.send(subscribe(v5, 1, "t@2", "u@1"))
	c.expect("SUBACK #1 02 01")
	const n = 300
	got := map[string]int{}
	open := map[uint16]bool{} // received, PUBREL has not come
	p := b.client(v5, "p")
	sent, pid := 0, uint16(0)
	for len(got) < n || len(open) > 0 {
		for sent < n && sent < len(got)+20 && rnd.IntN(3) > 0 {
			pid = pid%60000 + 1
			p.send(publish2(v5, pid, "t", fmt.Sprint(sent)))
			p.expect(fmt.Sprintf("PUBREC #%d", pid))
			p.send(pubrel(pid))
			p.expect(fmt.Sprintf("PUBCOMP #%d", pid))
			sent++
		}
		if len(got) < sent || len(open) > 0 {
			c.receive2(t, got, open, rnd.IntN(5) > 0)
		}
		switch rnd.IntN(25) {
		case 0:
			b.crash()
			p = b.client(v5, "p")
			c, _ = b.connect(v5, "s", keep)
		case 1:
			c.nc.Close()
			c, _ = b.connect(v5, "s", keep)
		}
	}
	for i := range n {
		if k := got[fmt.Sprint(i)]; k != 1 {
			t.Errorf("message %d was seen %d times", i, k)
		}
	}
}

// receive2 takes one packet of the receiving side of QoS 2 and answers it, or not: the
// next connection will bring it again.
func (c *client) receive2(t *testing.T, got map[string]int, open map[uint16]bool, reply bool) {
	t.Helper()
	m := c.next()
	var value string
	var id uint16
	switch {
	case strings.HasPrefix(m, "PUBLISH t="):
		if _, err := fmt.Sscanf(m, "PUBLISH t=%s q2 #%d", &value, &id); err != nil {
			t.Fatal(m, err)
		}
		if !open[id] {
			open[id] = true
			got[value]++
		}
		c.send(pubrec(id))
	case strings.HasPrefix(m, "PUBREL"):
		fmt.Sscanf(m, "PUBREL #%d", &id)
		delete(open, id)
		if reply {
			c.send(pubcomp(id))
		} else { // the answer is lost with the connection
			c.nc.Close()
		}
	case m == "closed":
	default:
		t.Fatal(m)
	}
}
