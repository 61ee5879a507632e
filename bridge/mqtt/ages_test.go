package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// aged is a subscriber that is sometimes there, and keeps the rules.
type aged struct {
	id   string
	v    packet.Version
	qos  int
	c    *client // nil while it is away
	seen []string
	open map[uint16]bool
}

// drain takes all that the server has for it.
func (a *aged) drain(t *testing.T) {
	t.Helper()
	for again := true; a.c != nil && again; {
		again = false
		synctest.Wait() // until the server has nothing more to do
		a.c.send(packet.AppendPing(nil, packet.TypePingreq))
		for m := a.c.next(); m != "PINGRESP"; m = a.c.next() {
			var value string
			var qos int
			var id uint16
			switch {
			case m == "closed":
				a.c = nil
				return
			case strings.HasPrefix(m, "PUBREL"):
				fmt.Sscanf(m, "PUBREL #%d", &id)
				delete(a.open, id)
				a.c.send(pubcomp(id))
			case strings.HasPrefix(m, "PUBLISH"):
				if _, err := fmt.Sscanf(m[strings.Index(m, "=")+1:], "%s q%d #%d", &value, &qos, &id); err != nil {
					t.Fatal(m, err)
				}
				if qos == 2 {
					if !a.open[id] {
						a.seen = append(a.seen, value)
					}
					a.open[id] = true
					a.c.send(pubrec(id))
				} else {
					a.seen = append(a.seen, value)
					a.c.send(puback(id))
				}
			case !strings.HasPrefix(m, "DISCONNECT"):
				t.Fatal(m)
			}
			again = true
		}
	}
}

func longLived(p *packet.Connect) {
	p.CleanStart, p.KeepAlive = false, 600
	p.Props.SetUint(packet.SessionExpiry, packet.SessionNeverExpires)
}

// Three days of devices that come and go, of a box that is restarted and loses power:
// QoS 1 loses nothing, QoS 2 repeats nothing either, each will is in the log once, and a
// session without subscriptions is always there.
func TestThreeDays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 4))
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxInflight = 10
		b.start()
		defer func() { b.stop() }()
		var all []*aged
		come := func(a *aged) {
			c, ack := b.connect(a.v, a.id, longLived)
			if !strings.HasPrefix(ack, "CONNACK 00 present") {
				t.Fatalf("%s: %s", a.id, ack)
			}
			a.c = c
		}
		for i := range 6 {
			a := &aged{id: fmt.Sprint("device", i), v: []packet.Version{v3, v5}[i%2], qos: 1 + i/3, open: map[uint16]bool{}}
			a.c = b.client(a.v, a.id, longLived)
			a.c.send(subscribe(a.v, 1, fmt.Sprintf("t/#@%d", a.qos)))
			a.c.next()
			all = append(all, a)
		}
		sent, deaths := 0, 0
		b.client(v3, "empty", longLived).nc.Close()
		begin := time.Now()
		for time.Since(begin) < 72*time.Hour {
			p := b.client(v5, "p", keep)
			for range rnd.IntN(30) {
				p.send(publish2(v5, 1, fmt.Sprint("t/", sent%3), fmt.Sprint(sent)))
				p.expect("PUBREC #1")
				p.send(pubrel(1))
				p.expect("PUBCOMP #1")
				sent++
			}
			p.nc.Close()
			b.client(v5, "mortal", dying(fmt.Sprint("death ", deaths), byte(deaths%3), 3600)).nc.Close()
			deaths++
			empty, ack := b.connect(v3, "empty", longLived)
			if ack != "CONNACK 00 present" {
				t.Fatalf("the session without subscriptions: %s", ack)
			}
			empty.nc.Close()
			synctest.Wait()
			for _, a := range all {
				switch a.drain(t); {
				case a.c == nil && rnd.IntN(5) == 0:
					come(a)
				case a.c != nil && rnd.IntN(4) == 0:
					a.c.nc.Close()
					a.c = nil
				}
			}
			switch rnd.IntN(20) {
			case 0:
				b.restart()
			case 1:
				synctest.Wait()
				b.crash()
			}
			time.Sleep(time.Duration(rnd.IntN(40)) * time.Minute) // keep alive ends those that sleep too long
			synctest.Wait()
		}
		wills := b.wills()
		for i := range deaths {
			if n := wills[fmt.Sprint("death ", i)]; n != 1 {
				t.Errorf("will %d of %d is in the log %d times", i, deaths, n)
			}
		}
		for _, a := range all {
			if a.drain(t); a.c == nil {
				come(a)
			}
			a.drain(t)
			synctest.Wait()
			a.drain(t)
			times := map[string]int{}
			for _, v := range a.seen {
				times[v]++
			}
			for i := range sent {
				if n := times[fmt.Sprint(i)]; n == 0 || n > 1 && a.qos == 2 {
					t.Errorf("%s, QoS %d: message %d of %d was seen %d times", a.id, a.qos, i, sent, n)
				}
			}
		}
	})
}
