package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// reload brings other downlinks into force, as SIGHUP does.
func (b *box) reload(downlinks ...bridge.Downlink) {
	b.t.Helper()
	b.downlinks = downlinks
	if err := b.router.Replace(b.routes, downlinks); err != nil {
		b.t.Fatal(err)
	}
	if err := b.srv.Follow(b.router.Downlinks()); err != nil {
		b.t.Fatal(err)
	}
}

// A change of a downlink holds for the records written after it: what a device was away
// for, or has not acknowledged, comes as it was meant when it was written.
func TestDownlinkChanges(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "old/{key}", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d", keep)
	d.send(subscribe(v5, 1, "#@1"))
	d.expect("SUBACK #1 01")
	b.produce("commands", "d", "open")
	d.expect("PUBLISH old/d=open q1 #1")
	d.send(disconnect())
	d.expect("closed")
	b.produce("commands", "d", "away")
	b.reload(bridge.Downlink{Topic: "commands", To: "new/{key}", QoS: 0}, bridge.Downlink{Topic: "more", To: "more/{key}"})
	b.produce("commands", "d", "changed")
	b.produce("more", "d", "added")
	d = b.client(v5, "d", keep)
	d.anyOrder("PUBLISH old/d=open q1 #1 dup", "PUBLISH old/d=away q1 #2", "PUBLISH new/d=changed q0", "PUBLISH more/d=added q0")
	d.send(puback(1), puback(2))
	b.produce("commands", "d", "live")
	d.expect("PUBLISH new/d=live q0")

	b.reload(bridge.Downlink{Topic: "more", To: "more/{key}"})
	b.produce("commands", "d", "never")
	b.produce("more", "d", "still")
	d.expect("PUBLISH more/d=still q0")
	b.reload(bridge.Downlink{Topic: "more", To: "more/{key}"}, bridge.Downlink{Topic: "commands", To: "again/{key}", QoS: 1})
	b.produce("commands", "d", "back")
	d.expect("PUBLISH again/d=back q1 #3")
	d.quiet()
}

// A start with another configuration is what a reload is, and what a reload did holds over
// a crash: also for a message of QoS 2 that is under way.
func TestDownlinkChangesOverRestart(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "old/{key}", QoS: 2}, {Topic: "more", To: "more/{key}", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d", keep)
	d.send(subscribe(v5, 1, "#@2"))
	d.expect("SUBACK #1 02")
	b.produce("commands", "d", "open")
	d.expect("PUBLISH old/d=open q2 #1")
	d.send(disconnect())
	d.expect("closed")
	b.produce("commands", "d", "away")
	b.produce("more", "d", "away")
	b.reload(bridge.Downlink{Topic: "commands", To: "new/{key}", QoS: 1}, b.downlinks[1])
	b.produce("commands", "d", "changed")
	b.crash()
	b.produce("commands", "d", "after")
	b.stop()
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "newest/{key}", QoS: 1}} // and none of more
	b.start()
	b.produce("commands", "d", "restarted")
	b.produce("more", "d", "never")
	d = b.client(v5, "d", keep)
	want := []string{"PUBLISH old/d=open q2 dup", "PUBLISH old/d=away q2", "PUBLISH new/d=changed q1", "PUBLISH new/d=after q1",
		"PUBLISH newest/d=restarted q1", "PUBLISH more/d=away q1"}
	var got []string
	for range want {
		words := strings.Split(d.next(), " ")
		got = append(got, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w[0] == '#' }), " "))
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d.quiet()
	// What is forgotten with the log is not stored for ever.
	b.stop()
	b.downlinks = nil
	b.start()
	for _, name := range []string{"commands", "more"} {
		tp := record.TopicPartition{Topic: name}
		_, end, err := weirLog{b.set}.Offsets(tp)
		if err != nil {
			t.Fatal(err)
		}
		if err := (weirLog{b.set}).DeleteRecords(tp, end); err != nil {
			t.Fatal(err)
		}
	}
	b.restart()
	eras := map[string]bool{}
	for _, r := range b.records("__weir_sessions") {
		if strings.HasPrefix(string(r.Key), "\x00eras\x00") {
			eras[string(r.Key)] = r.Value != nil
		}
	}
	if len(eras) != 2 || eras["\x00eras\x00commands\x000"] || eras["\x00eras\x00more\x000"] {
		t.Errorf("stored: %v", eras)
	}
}

// Downlinks that cannot be change nothing.
func TestDownlinksRefusedWhole(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "old/{key}", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d")
	d.send(subscribe(v5, 1, "#"))
	d.expect("SUBACK #1 01")
	same := b.router.Downlinks()[0]
	err := b.router.Replace(nil, []bridge.Downlink{{Topic: "commands", To: "new/{key}"}, {Topic: "bad", To: "a/#"}})
	if err == nil || !strings.Contains(err.Error(), `downlink[1] (topic "bad"): to "a/#" holds a wildcard`) {
		t.Fatal(err)
	}
	if b.reload(b.downlinks...); b.router.Downlinks()[0] != same {
		t.Error("a downlink that has not changed is another")
	}
	b.produce("commands", "d", "x")
	d.expect("PUBLISH old/d=x q1 #1")
	d.quiet()
}

// Under load and many changes, every record is delivered once, in order, by what was in
// force when it was written.
func TestDownlinkChangesUnderLoad(t *testing.T) {
	const records = 600
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "cmd/0", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	d, slow := b.client(v3, "d"), b.client(v3, "slow", keep)
	for _, c := range []*client{d, slow} {
		c.send(subscribe(v3, 1, "cmd/+"))
		c.expect("SUBACK #1 01")
	}
	slow.send(disconnect())
	slow.expect("closed")
	at := make(chan int, records) // changes done before the record was written
	go func() {
		defer close(at)
		for i := range records {
			if i%50 == 49 {
				b.reload(bridge.Downlink{Topic: "commands", To: fmt.Sprintf("cmd/%d", i/50+1), QoS: 1})
			}
			b.produce("commands", "k", fmt.Sprint(i))
			at <- (i + 1) / 50
		}
	}()
	for _, c := range []*client{d, slow} {
		if c == slow {
			slow = b.client(v3, "slow", func(p *packet.Connect) { p.CleanStart = false })
			c = slow
		}
		for i := range records {
			want := fmt.Sprintf("PUBLISH cmd/%d=%d q1 #%d", (i+1)/50, i, i+1)
			c.expect(want)
			c.send(puback(uint16(i + 1)))
		}
		c.quiet()
	}
}

// A retaining downlink that changes goes on at its position: nothing is left out, and
// nothing is retained by what was not in force.
func TestRetainingDownlinkChanges(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "config", To: "old/{key}", Retain: true}}
	b.start()
	defer func() { b.stop() }()
	retains := func(n int) {
		t.Helper()
		p := b.client(v5, "probe")
		for b.srv.Status().Retained != n {
			p.quiet()
		}
		p.send(disconnect())
	}
	b.produce("config", "a", "1")
	b.produce("config", "b", "1")
	retains(2)
	b.reload(bridge.Downlink{Topic: "config", To: "new/{key}", Retain: true})
	b.produce("config", "a", "2")
	retains(3)
	b.reload() // removed: nothing more
	b.produce("config", "c", "3")
	b.reload(bridge.Downlink{Topic: "config", To: "not/{key}"})
	b.produce("config", "d", "4")
	s := b.client(v5, "s")
	s.send(subscribe(v5, 1, "+/+"))
	s.expect("SUBACK #1 01")
	s.anyOrder("PUBLISH old/a=1 q0 retain", "PUBLISH old/b=1 q0 retain", "PUBLISH new/a=2 q0 retain")
	// One that begins to retain begins with what it has not read.
	b.reload(bridge.Downlink{Topic: "config", To: "all/{key}", Retain: true})
	retains(5)
	b.restart()
	retains(5)
	s = b.client(v5, "s")
	s.send(subscribe(v5, 1, "+/+"))
	s.expect("SUBACK #1 01")
	s.anyOrder("PUBLISH old/a=1 q0 retain", "PUBLISH old/b=1 q0 retain", "PUBLISH new/a=2 q0 retain", "PUBLISH all/c=3 q0 retain", "PUBLISH all/d=4 q0 retain")
}

// A downlink that begins to retain begins with what its topic holds.
func TestDownlinkBeginsToRetain(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "config", To: "c/{key}"}}
	b.start()
	defer func() { b.stop() }()
	b.produce("config", "a", "1")
	b.reload(bridge.Downlink{Topic: "config", To: "c/{key}", Retain: true})
	p := b.client(v5, "probe")
	for b.srv.Status().Retained != 1 {
		p.quiet()
	}
}

// Headers of a Kafka client that MQTT has a word for are held against what MQTT allows.
func TestDownlinkProperties(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{{Topic: "commands", To: "c/{key}", QoS: 1}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d", keep)
	d.send(subscribe(v5, 1, "c/+"))
	d.expect("SUBACK #1 01")
	header := func(k, v string) record.Header { return record.Header{Key: k, Value: []byte(v)} }
	b.produce("commands", "k", "bad", header("mqtt.response-topic", "a/#"))
	b.produce("commands", "k", "bad", header("mqtt.response-topic", "\xff"))
	b.produce("commands", "k", "bad", header("mqtt.content-type", "\xff"))
	b.produce("commands", "k", "bad", header("mqtt.correlation-data", strings.Repeat("x", 1<<16)))
	b.produce("commands", "k", "expired", header("mqtt.message-expiry", "0"))
	b.produce("commands", "k", "good", header("mqtt.message-expiry", "100"), header("mqtt.content-type", "text/plain"))
	d.expect("PUBLISH c/k=good q1 #1")
	if n := b.srv.Status().Dropped; n != 4 {
		t.Errorf("%d dropped, want 4", n)
	}
}
