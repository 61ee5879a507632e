package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Messages go to one member each, in turn, and to subscribers of their own besides.
func TestSharedSubscription(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	a, c := b.client(v5, "a"), b.client(v3, "c")
	a.send(subscribe(v5, 1, "$share/g/t/+", "t/x@0"))
	a.expect("SUBACK #1 01 00")
	c.send(subscribe(v3, 1, "$share/g/t/+"))
	c.expect("SUBACK #1 01")
	p := b.client(v5, "p")
	for i := range 6 {
		p.send(publish(v5, uint16(i+1), "t/y", fmt.Sprint(i)))
		p.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	for i := range 3 {
		a.expect(fmt.Sprintf("PUBLISH t/y=%d q1 #%d", 2*i, i+1))
		c.expect(fmt.Sprintf("PUBLISH t/y=%d q1 #%d", 2*i+1, i+1))
	}
	p.send(publish(v5, 7, "t/x", "both"))
	p.expect("PUBACK #7")
	got := []string{a.next(), a.next()}
	if got[0] == got[1] || !strings.HasPrefix(got[0], "PUBLISH t/x=both q") || !strings.HasPrefix(got[1], "PUBLISH t/x=both q") {
		t.Errorf("own and shared: %q", got)
	}
	a.send(unsubscribe(v5, 2, "$share/g/t/+"))
	a.expect("UNSUBACK #2 00")
	p.send(publish(v5, 8, "t/y", "rest"))
	c.expect("PUBLISH t/y=rest q1 #4")
	a.send(disconnect())
	c.send(unsubscribe(v3, 2, "$share/g/t/+"))
	c.expect("UNSUBACK #2")
	p.send(publish(v5, 9, "t/y", "nobody"))
	c.quiet()
}

func TestSharedFiltersRefused(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	c := b.client(v5, "c")
	c.send(subscribe(v5, 1, "$share/g/", "$share//t", "$share/a+/t", "$share/g", "$share/g/a/#/b", "$share/g/#"))
	c.expect("SUBACK #1 8f 8f 8f 8f 8f 01")
	p := packet.Subscribe{PacketID: 2, Filters: []packet.Subscription{{Filter: []byte("$share/g/t"), NoLocal: true}}}
	c.send(p.Append(nil, v5))
	c.expect("DISCONNECT 82", "closed")
}

// A member that leaves with unacknowledged messages loses none of them for the share.
func TestSharedMemberLeaves(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		b := newBox(t).start()
		opt := func(p *packet.Connect) {
			if lasting {
				keep(p)
			}
		}
		a, c := b.client(v5, "a", opt), b.client(v5, "c", opt)
		for _, m := range []*client{a, c} {
			m.send(subscribe(v5, 1, "$share/g/t"))
			m.expect("SUBACK #1 01")
		}
		p := b.client(v5, "p")
		for i := range 4 {
			p.send(publish(v5, uint16(i+1), "t", fmt.Sprint(i)))
			p.expect(fmt.Sprintf("PUBACK #%d", i+1))
		}
		a.expect("PUBLISH t=0 q1 #1", "PUBLISH t=2 q1 #2")
		c.expect("PUBLISH t=1 q1 #1", "PUBLISH t=3 q1 #2")
		refuse := packet.Ack{Type: packet.TypePuback, PacketID: 1, Reason: packet.UnspecifiedError}
		a.send(refuse.Append(nil, v5)) // refused is done with [MQTT-4.8.2-6]
		a.quiet()
		a.nc.Close()
		c.expect("PUBLISH t=2 q1 #3")
		b.stop()
	}
}

// While no member is connected a share whose members have sessions keeps its place,
// across restarts and power cuts.
func TestSharedSessionsOffline(t *testing.T) {
	b := newBox(t).start()
	defer func() { b.stop() }()
	a := b.client(v5, "a", keep)
	a.send(subscribe(v5, 1, "$share/g/t"))
	a.expect("SUBACK #1 01")
	p := b.client(v5, "p")
	p.send(publish(v5, 1, "t", "held"))
	a.expect("PUBLISH t=held q1 #1")
	a.send(disconnect())
	a.expect("closed")
	for b.srv.Status().Connections > 1 {
		runtime.Gosched()
	}
	p.expect("PUBACK #1")
	p.send(publish(v5, 2, "t", "away"))
	p.expect("PUBACK #2")
	b.restart()
	b.crash()
	c := b.client(v5, "c") // a new member is as good as the old one
	c.send(subscribe(v5, 1, "$share/g/t"))
	c.anyOrder("SUBACK #1 01", "PUBLISH t=held q1 #1", "PUBLISH t=away q1 #2")
	c.nc.Close()
	a, _ = b.connect(v5, "a", keep)
	a.expect("PUBLISH t=held q1 #1", "PUBLISH t=away q1 #2")
	a.send(puback(1), puback(2), unsubscribe(v5, 9, "$share/g/t"))
	a.expect("UNSUBACK #9 00")
	b.restart()
	for _, r := range b.records("__weir_sessions") {
		if strings.HasPrefix(string(r.Key), "\x00share") && r.Value == nil {
			return
		}
	}
	t.Error("the share has not ended in the store")
}

// A QoS 2 message stays with the member that it was sent to [MQTT-4.8.2-4], [MQTT-4.8.2-5].
func TestSharedQoS2(t *testing.T) {
	b := newBox(t).start()
	defer func() { b.stop() }()
	a := b.client(v5, "a", keep)
	a.send(subscribe(v5, 1, "$share/g/t@2"))
	a.expect("SUBACK #1 02")
	p := b.client(v5, "p")
	p.send(publish2(v5, 1, "t", "x"))
	p.expect("PUBREC #1")
	a.expect("PUBLISH t=x q2 #1")
	c := b.client(v5, "c")
	c.send(subscribe(v5, 1, "$share/g/t@2"))
	c.expect("SUBACK #1 02")
	a.nc.Close()
	b.crash()
	c = b.client(v5, "c")
	c.send(subscribe(v5, 1, "$share/g/t@2"))
	c.expect("SUBACK #1 02")
	c.quiet()
	a, _ = b.connect(v5, "a", keep)
	a.expect("PUBLISH t=x q2 #1 dup")
	a.send(pubrec(1))
	a.expect("PUBREL #1")
	a.send(pubcomp(1))
	a.quiet()
}

// Members come, acknowledge some, and go; together they get everything.
func TestSharedUnderChurn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	b := newBox(t)
	b.opts.MaxInflight = 5
	b.start()
	defer b.stop()
	const n = 600
	members := make([]*client, 3)
	join := func(i int) {
		members[i] = b.client(v5, fmt.Sprint("m", i), func(p *packet.Connect) {
			if i == 0 { // so that the share never ends
				keep(p)
			}
		})
		members[i].send(subscribe(v5, 1, "$share/g/t/#"))
	}
	for i := range members {
		join(i)
		members[i].expect("SUBACK #1 01")
	}
	p := b.client(v5, "p")
	go func() {
		for i := range n {
			p.send(publish(v5, uint16(i%60000+1), "t/x", fmt.Sprint(i)))
			if strings.HasPrefix(p.next(), "closed") {
				return
			}
		}
	}()
	got := map[string]bool{}
	for len(got) < n {
		i := rnd.IntN(len(members))
		c := members[i]
		c.send(packet.AppendPing(nil, packet.TypePingreq))
		for m := c.next(); m != "PINGRESP"; m = c.next() {
			var v string
			var id uint16
			if _, err := fmt.Sscanf(m, "PUBLISH t/x=%s q1 #%d", &v, &id); err == nil {
				if rnd.IntN(4) > 0 {
					c.send(puback(id))
					got[v] = true
				}
			} else if m == "closed" {
				t.Fatal("closed")
			}
		}
		if rnd.IntN(10) == 0 {
			c.nc.Close()
			join(i)
		}
	}
}
