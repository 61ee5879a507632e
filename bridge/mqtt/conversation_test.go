package mqtt_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

const (
	v3 = packet.V311
	v5 = packet.V5
)

func TestPublishReachesTheLogAndSubscribers(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	for _, v := range []packet.Version{v3, v5} {
		sub := b.client(v, "sub")
		sub.send(subscribe(v, 1, "a/+", "q0/#@0", "two@2"))
		sub.expect("SUBACK #1 01 00 02")
		pub := b.client(v, "pub")
		pub.send(publish(v, 7, "a/b", "one"), publish(v, 0, "a/c", "two"), publish(v, 8, "q0/x", "three"), publish(v, 9, "other", "four"))
		pub.expect("PUBACK #7", "PUBACK #8", "PUBACK #9")
		sub.expect("PUBLISH a/b=one q1 #1", "PUBLISH a/c=two q0", "PUBLISH q0/x=three q0")
		sub.send(puback(1))
		sub.quiet()
		sub.send(unsubscribe(v, 2, "a/+", "nothing"))
		if v == v5 {
			sub.expect("UNSUBACK #2 00 11")
		} else {
			sub.expect("UNSUBACK #2")
		}
		pub.send(publish(v, 10, "a/b", "five"))
		pub.expect("PUBACK #10")
		sub.quiet()
		pub.send(disconnect())
		pub.expect("closed")
		sub.send(disconnect())
		sub.expect("closed")
	}
	rs := b.records("mqtt")
	if len(rs) != 10 {
		t.Fatalf("%d records, want 10", len(rs))
	}
	r := rs[0]
	got := fmt.Sprintf("%s=%s %v", r.Key, r.Value, headerText(r))
	if want := "a/b=one mqtt.topic=a/b mqtt.qos=1 mqtt.retain=false mqtt.client=pub"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func headerText(r record.Record) string {
	var s []string
	for _, h := range r.Headers {
		s = append(s, h.Key+"="+string(h.Value))
	}
	return strings.Join(s, " ")
}

// The bytes of a whole conversation, written out by hand from the standard.
func TestConversationBytes(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	c := b.dial(v3)
	c.send([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x")) // CONNECT, clean, no keep alive
	c.send([]byte("\x82\x06\x00\x01\x00\x01t\x01"))                 // SUBSCRIBE t, QoS 1
	c.send([]byte("\x32\x07\x00\x01t\x00\x0ahi"))                   // PUBLISH t, QoS 1, #10
	want := []byte("\x20\x02\x00\x00" + "\x90\x03\x00\x01\x01")
	either := [2]string{"\x40\x02\x00\x0a" + "\x32\x07\x00\x01t\x00\x01hi", "\x32\x07\x00\x01t\x00\x01hi" + "\x40\x02\x00\x0a"}
	c.mu.Lock()
	for len(c.buf) < len(want)+len(either[0]) && c.err == nil {
		c.has.Wait()
	}
	got := string(c.buf)
	c.mu.Unlock()
	if got != string(want)+either[0] && got != string(want)+either[1] {
		t.Errorf("got %q, want %q and PUBACK and PUBLISH in either order", got, want)
	}
}

func TestUserPropertiesAndOptions(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	c := b.client(v5, "me")
	sub := packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: []byte("t/#"), QoS: 1, RetainAsPublished: true}, {Filter: []byte("t/1"), QoS: 0}}}
	sub.Props.SubscriptionIDs = []uint32{7}
	nolocal := packet.Subscribe{PacketID: 2, Filters: []packet.Subscription{{Filter: []byte("n"), QoS: 1, NoLocal: true}}}
	c.send(sub.Append(nil, v5), nolocal.Append(nil, v5))
	c.expect("SUBACK #1 01 00", "SUBACK #2 01")
	p := packet.Publish{QoS: 1, PacketID: 5, Retain: true, Topic: []byte("t/1"), Payload: []byte("x")}
	p.Props.User = []packet.UserProperty{{Name: []byte("unit"), Value: []byte("K")}, {Name: []byte("mqtt.topic"), Value: []byte("forged")}}
	p.Props.SetBytes(packet.ContentType, []byte("text/plain"))
	other := b.client(v5, "other")
	other.send(p.Append(nil, v5))
	other.expect("PUBACK #5")
	c.expect("PUBLISH t/1=x q1 #1 retain unit:K mqtt.topic:forged sub7 sub7")
	c.send(publish(v5, 6, "n", "own"))
	c.expect("PUBACK #6")
	c.quiet()
	other.send(publish(v5, 6, "n", "theirs"))
	c.expect("PUBLISH n=theirs q1 #2")
	if got := headerText(b.records("mqtt")[0]); got != "mqtt.topic=t/1 mqtt.qos=1 mqtt.retain=true mqtt.client=other mqtt.content-type=text/plain unit=K mqtt.user.mqtt.topic=forged" {
		t.Errorf("headers are %s", got)
	}
}

func TestRetained(t *testing.T) {
	b := newBox(t).start()
	p := b.client(v3, "p")
	p.send(retained(v3, 1, "r/1", "old"), retained(v3, 2, "r/1", "new"), retained(v3, 3, "r/2", "x"), retained(v3, 4, "r/2", ""), retained(v3, 0, "r/3", "zero"))
	p.expect("PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4")
	check := func() {
		t.Helper()
		s := b.client(v3, "s")
		s.send(subscribe(v3, 1, "r/#"))
		s.expect("SUBACK #1 01", "PUBLISH r/1=new q1 #1 retain", "PUBLISH r/3=zero q0 retain")
		s.send(puback(1), publish(v3, 5, "r/1", "live"))
		a, c := s.next(), s.next()
		if a+c != "PUBACK #5PUBLISH r/1=live q1 #2" && c+a != "PUBACK #5PUBLISH r/1=live q1 #2" {
			t.Fatalf("got %q, %q", a, c)
		}
		s.send(disconnect())
		s.expect("closed")
	}
	p.quiet()
	for len(b.records("__weir_retained")) < 5 {
		p.quiet()
	}
	check()
	b.restart()
	check()
	b.crash()
	check()
	b.stop()
}

func TestTakeOver(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	first := b.client(v5, "x", keep)
	first.send(subscribe(v5, 1, "t"))
	first.expect("SUBACK #1 01")
	second, ack := b.connect(v5, "x", keep)
	if ack != "CONNACK 00 present" {
		t.Fatal(ack)
	}
	first.expect("DISCONNECT 8e", "closed")
	second.send(publish(v5, 1, "t", "m"))
	a, c := second.next(), second.next()
	if a+c != "PUBACK #1PUBLISH t=m q1 #1" && c+a != "PUBACK #1PUBLISH t=m q1 #1" {
		t.Fatalf("got %q, %q", a, c)
	}
	third, ack := b.connect(v5, "x")
	if ack != "CONNACK 00" { // clean start
		t.Fatal(ack)
	}
	second.expect("DISCONNECT 8e", "closed")
	third.send(publish(v5, 1, "t", "m"))
	third.expect("PUBACK #1")
	third.quiet()
}

// An offline session is served from the log: over a clean restart, a crash, and with
// what it had not acknowledged under the same packet identifier.
func TestOfflineSession(t *testing.T) {
	for _, how := range []string{"stays up", "restart", "crash"} {
		t.Run(how, func(t *testing.T) {
			b := newBox(t).start()
			defer func() { b.stop() }()
			s := b.client(v5, "s", keep)
			s.send(subscribe(v5, 1, "t/#"))
			s.expect("SUBACK #1 01")
			p := b.client(v5, "p")
			p.send(publish(v5, 1, "t/1", "a"), publish(v5, 2, "t/2", "b"))
			p.expect("PUBACK #1", "PUBACK #2")
			s.expect("PUBLISH t/1=a q1 #1", "PUBLISH t/2=b q1 #2")
			s.send(puback(1))
			s.quiet()
			s.send(disconnect())
			s.expect("closed")
			for i := range 300 {
				p.send(publish(v5, uint16(i+3), "t/x", fmt.Sprint(i)))
				p.expect(fmt.Sprintf("PUBACK #%d", i+3))
			}
			switch how {
			case "restart":
				b.restart()
			case "crash":
				for len(b.records("__weir_sessions")) < 3 { // feed, SUBSCRIBE, end
					p.quiet()
				}
				b.crash()
			}
			s, ack := b.connect(v5, "s", keep)
			if ack != "CONNACK 00 present" {
				t.Fatal(ack)
			}
			s.expect("PUBLISH t/2=b q1 #2 dup")
			for i := range 300 {
				got := s.next()
				if want := fmt.Sprintf("PUBLISH t/x=%d q1 #", i); !strings.HasPrefix(got, want) {
					t.Fatalf("got %q, want %s", got, want)
				}
			}
			s.quiet()
		})
	}
}

// A subscriber with a small window falls behind and catches up without a gap, while
// a QoS 0 subscriber is not held up.
func TestSlowSubscriberLosesNothing(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	slow := b.client(v5, "slow", func(p *packet.Connect) { p.Props.SetUint(packet.ReceiveMaximum, 3) })
	slow.send(subscribe(v5, 1, "t"))
	slow.expect("SUBACK #1 01")
	p := b.client(v5, "p")
	const n = 1000
	for i := range n {
		p.send(publish(v5, uint16(i+1), "t", fmt.Sprint(i)))
	}
	for i := range n {
		p.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	for i := range n {
		got := slow.next()
		var id uint16
		rest, ok := strings.CutPrefix(got, fmt.Sprintf("PUBLISH t=%d q1 #", i))
		if _, err := fmt.Sscan(rest, &id); !ok || err != nil {
			t.Fatalf("got %q, want message %d", got, i)
		}
		if i%5 == 0 {
			slow.windowHolds(t)
		}
		slow.send(puback(id))
	}
	slow.quiet()
}

// windowHolds checks that no more messages have come than the window allows.
func (c *client) windowHolds(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := bytes.Count(c.buf, []byte("\x00\x01t")); n > 2 {
		t.Fatalf("%d messages wait beside the one at hand, the window is 3", n)
	}
}

func TestWill(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	s := b.client(v3, "s")
	s.send(subscribe(v3, 1, "will/#"))
	s.expect("SUBACK #1 01")
	with := func(p *packet.Connect) {
		p.HasWill = true
		p.Will.Topic, p.Will.Payload, p.Will.QoS, p.Will.Retain = append([]byte("will/"), p.ClientID...), []byte("gone"), 1, true
	}
	polite := b.client(v3, "polite", with)
	polite.send(disconnect())
	polite.expect("closed")
	s.quiet()
	dies := b.client(v3, "dies", with)
	dies.nc.Close()
	s.expect("PUBLISH will/dies=gone q1 #1")
	rude := b.client(v5, "rude", with)
	rude.send((&packet.Disconnect{Type: packet.TypeDisconnect, Reason: packet.DisconnectWithWill}).Append(nil, v5))
	s.expect("PUBLISH will/rude=gone q1 #2")
}

func TestDownlink(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "devices/{key}/cmd", QoS: 1}, {Topic: "config", To: "cfg/{header.site}", Retain: true}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d")
	d.send(subscribe(v5, 1, "devices/d/cmd"))
	d.expect("SUBACK #1 01")
	b.produce("commands", "d", "reboot", record.Header{Key: "by", Value: []byte("ops")})
	b.produce("commands", "bad/#", "x")
	b.produce("commands", "other", "x")
	b.produce("commands", "d", "again")
	d.expect("PUBLISH devices/d/cmd=reboot q1 #1 by:ops", "PUBLISH devices/d/cmd=again q1 #2")
	if n := b.srv.Status().Dropped; n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	b.produce("config", "", "v1", record.Header{Key: "site", Value: []byte("north")})
	b.produce("config", "", "v2", record.Header{Key: "site", Value: []byte("north")})
	for b.srv.Status().Retained != 1 || len(b.records("__weir_retained")) < 3 {
		d.quiet()
	}
	for range 2 {
		e := b.client(v5, "e")
		e.send(subscribe(v5, 1, "cfg/+"))
		e.expect("SUBACK #1 01", "PUBLISH cfg/north=v2 q0 retain site:north")
		b.restart()
	}
}

func TestRoutes(t *testing.T) {
	one := int32(0)
	b := newBox(t)
	b.routes = []bridge.Route{
		{Filter: "debug/#", Drop: true},
		{Filter: "sensors/{site}/{device}/+", Topic: "telemetry", Key: "{device}", Headers: map[string]string{"site": "{site}"}},
		{Filter: "plant/{area}/{rest...}", Topic: "area-{area}", Key: "{rest}", Partition: &one},
	}
	b.start()
	defer b.stop()
	s := b.client(v3, "s")
	s.send(subscribe(v3, 1, "#"))
	s.expect("SUBACK #1 01")
	p := b.client(v3, "p")
	p.send(publish(v3, 1, "debug/x", "1"), publish(v3, 2, "sensors/n/d1/temp", "2"), publish(v3, 3, "plant/ü b/x/y", "3"), publish(v3, 4, "z", "4"))
	p.expect("PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4")
	got := map[string]bool{}
	for range 3 {
		m := s.next()
		got[m[:strings.Index(m, " q")]] = true
	}
	for _, want := range []string{"PUBLISH sensors/n/d1/temp=2", "PUBLISH plant/ü b/x/y=3", "PUBLISH z=4"} {
		if !got[want] {
			t.Errorf("%s was not delivered, but %v", want, got)
		}
	}
	if r := b.records("telemetry")[0]; string(r.Key) != "d1" || !strings.HasSuffix(headerText(r), " site=n") {
		t.Errorf("telemetry: key %s, headers %s", r.Key, headerText(r))
	}
	if r := b.records("area-___b")[0]; string(r.Key) != "x/y" {
		t.Errorf("area: key %s", r.Key)
	}
}

// A topic that is deleted under the server is made again by the next message, and
// subscribers go on receiving.
func TestTopicDeleted(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "cmd/{key}", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	s, p := b.client(v5, "s", keep), b.client(v5, "p")
	s.send(subscribe(v5, 1, "#"))
	s.expect("SUBACK #1 01")
	for i := range 5 {
		p.send(publish(v5, 1, "t", fmt.Sprint(i)))
		p.expect("PUBACK #1")
		s.expect(fmt.Sprintf("PUBLISH t=%d q1 #%d", i, i+1))
	}
	b.produce("commands", "d", "first")
	s.expect("PUBLISH cmd/d=first q1 #6")
	for _, name := range []string{"mqtt", "commands"} {
		if err := b.set.Delete(name); err != nil {
			t.Fatal(err)
		}
	}
	p.send(publish(v5, 1, "t", "while it is gone"))
	refused := p.next() == "PUBACK #1 80"
	p.send(publish(v5, 2, "t", "again"))
	p.expect("PUBACK #2")
	b.produce("commands", "d", "second")
	var got []string
	for len(got) < 2 || !refused && len(got) < 3 {
		m := s.next()
		got = append(got, m[:strings.Index(m, " q1")])
	}
	slices.Sort(got)
	if refused {
		got = append(got, "PUBLISH t=while it is gone")
	}
	if want := []string{"PUBLISH cmd/d=second", "PUBLISH t=again", "PUBLISH t=while it is gone"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.restart() // the session is stored without the topics that are gone
	if _, ack := b.connect(v5, "s", keep); ack != "CONNACK 00 present" {
		t.Error(ack)
	}
}
