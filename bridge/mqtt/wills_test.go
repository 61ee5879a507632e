package mqtt_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/testbed/crashfs"
)

// dying gives CONNECT a will, and its session a life in seconds.
func dying(payload string, qos byte, expiry uint32) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.CleanStart, p.HasWill = false, true
		p.Will = packet.Will{Topic: append([]byte("will/"), p.ClientID...), Payload: []byte(payload), QoS: qos}
		p.Props.SetUint(packet.SessionExpiry, expiry)
	}
}

// wills is how often each will is in the log.
func (b *box) wills() map[string]int {
	n := map[string]int{}
	if b.set.Topic("mqtt") == nil {
		return n
	}
	for _, r := range b.records("mqtt") {
		n[string(r.Value)]++
	}
	return n
}

func (b *box) expectWills(want map[string]int) {
	b.t.Helper()
	if got := b.wills(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Fatalf("wills in the log: %v, want %v", got, want)
	}
}

func (b *box) expectMetrics(want ...string) {
	b.t.Helper()
	text := b.metrics()
	for _, w := range want {
		if !strings.Contains(text, w+"\n") {
			b.t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// A will that a full disk refuses is published once there is room, whether its session
// lives on, has ended, ends meanwhile, or belongs to a connection again.
func TestWillWaitsForRoom(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var full atomic.Bool
			b := newBox(t)
			b.wrap = func(l mqtt.Log) mqtt.Log { return fullLog{l, &full} }
			b.start()
			defer func() { b.stop() }()
			b.client(v5, "first", dying("make the topic", 1, 0)).nc.Close()
			synctest.Wait()
			full.Store(true)
			want := map[string]int{"make the topic": 1}
			for _, d := range []struct {
				id     string
				qos    byte
				expiry uint32
				change func(*packet.Connect)
			}{
				{"lasting", 1, 3600, nil},
				{"lasting0", 0, 3600, nil},
				{"retained", 2, 3600, func(p *packet.Connect) { p.Will.Retain = true }},
				{"delayed", 1, 3600, func(p *packet.Connect) { p.Will.Props.SetUint(packet.WillDelay, 30) }},
				{"expiring", 1, 20, func(p *packet.Connect) { p.Will.Props.SetUint(packet.WillDelay, 60) }},
				{"volatile", 1, 0, nil},
				{"back", 1, 3600, nil},
				{"anew", 1, 3600, nil},
			} {
				b.client(v5, d.id, dying(d.id, d.qos, d.expiry), func(p *packet.Connect) {
					if d.change != nil {
						d.change(p)
					}
				}).nc.Close()
				if !crash || d.expiry > 0 {
					want[d.id] = 1
				}
			}
			synctest.Wait()
			b.client(v5, "back", dying("back again", 1, 3600))
			b.client(v5, "anew", dying("another life", 1, 3600), func(p *packet.Connect) { p.CleanStart = true })
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			b.expectWills(map[string]int{"make the topic": 1})
			b.expectMetrics("weir_mqtt_wills_waiting 8", `weir_mqtt_wills_lost_total{reason="disk_full"} 0`)
			if crash {
				b.crash()
				time.Sleep(2 * time.Minute) // the grace of those that were connected: their wills are due, too
				want["back again"], want["another life"] = 1, 1
			}
			full.Store(false)
			time.Sleep(2 * time.Second)
			b.expectWills(want)
			b.expectMetrics("weir_mqtt_wills_waiting 0")
			b.crash()
			time.Sleep(time.Second)
			if b.expectWills(want); !crash {
				time.Sleep(time.Minute)
				want["back again"], want["another life"] = 1, 1
			}
			time.Sleep(time.Hour)
			b.expectWills(want)
			b.expectMetrics("weir_mqtt_sessions 0")
		})
	}
}

// Wills of one client are published in the order in which it left them.
func TestWillsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.MaxRetained = 1
		b.start()
		defer b.stop()
		p := b.client(v5, "p")
		p.send(retained(v5, 1, "taken", "x"))
		p.expect("PUBACK #1")
		b.client(v5, "c", dying("1", 1, 3600), func(p *packet.Connect) { p.Will.Retain = true }).nc.Close()
		synctest.Wait()
		b.client(v5, "c", dying("2", 1, 3600)).nc.Close()
		time.Sleep(time.Minute)
		b.expectWills(map[string]int{"x": 1})
		p.send(retained(v5, 2, "taken", ""))
		p.expect("PUBACK #2")
		time.Sleep(2 * time.Second)
		var got []string
		for _, r := range b.records("mqtt") {
			got = append(got, string(r.Value))
		}
		if fmt.Sprint(got) != "[x  1 2]" {
			t.Errorf("%q", got)
		}
	})
}

// Not more than max_waiting_wills wait; what is lost is counted by reason and logged.
func TestWaitingWillsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		var lost atomic.Int64
		var text bytes.Buffer
		b := newBox(t)
		b.wrap = func(l mqtt.Log) mqtt.Log { return fullLog{l, &full} }
		b.opts.MaxWaitingWills = 1
		b.opts.Lost = func() { lost.Add(1) }
		b.opts.Log = slog.New(slog.NewTextHandler(&text, nil))
		b.start()
		defer b.stop()
		full.Store(true)
		for i, expiry := range []uint32{3600, 3600, 0} {
			b.client(v5, fmt.Sprint(i), dying(fmt.Sprint(i), byte(i%2), expiry)).nc.Close()
			synctest.Wait()
		}
		b.expectMetrics("weir_mqtt_wills_waiting 1", `weir_mqtt_wills_lost_total{reason="disk_full"} 2`,
			`weir_mqtt_qos0_lost_total{reason="disk_full"} 1`, `weir_mqtt_messages_refused_total{reason="disk_full"} 2`)
		if n := lost.Load(); n != 2 {
			t.Errorf("the router was told %d times, want 2", n)
		}
		if n := strings.Count(text.String(), "will lost"); n != 2 || !strings.Contains(text.String(), "client=1 topic=will/1") {
			t.Errorf("the log:\n%s", &text)
		}
		full.Store(false)
		time.Sleep(2 * time.Second)
		b.expectWills(map[string]int{"0": 1})
	})
}

// What will never be possible is not tried again.
func TestWillRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var allowed atomic.Bool
		allowed.Store(true)
		b := newBox(t)
		none := int32(9)
		b.routes = []bridge.Route{{Filter: "will/lost", Topic: "mqtt", Partition: &none}}
		b.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return whileAllowed{allowed: &allowed}, nil }
		b.start()
		defer func() { b.stop() }()
		b.client(v5, "lost", dying("no such partition", 0, 3600)).nc.Close()
		synctest.Wait()
		b.expectMetrics("weir_mqtt_wills_waiting 0", `weir_mqtt_wills_lost_total{reason="route"} 1`, `weir_mqtt_qos0_lost_total{reason="route"} 1`)
		c := b.client(v5, "c", dying("not any more", 1, 3600), func(p *packet.Connect) { p.Will.Props.SetUint(packet.WillDelay, 30) })
		c.nc.Close()
		time.Sleep(time.Second)
		allowed.Store(false) // the rules change between CONNECT and the will
		time.Sleep(time.Minute)
		b.expectMetrics(`weir_mqtt_wills_lost_total{reason="acl"} 1`, "weir_mqtt_wills_total 0")
		b.crash()
		time.Sleep(time.Hour)
		b.expectWills(map[string]int{})
	})
}

type whileAllowed struct {
	everything
	allowed *atomic.Bool
}

func (w whileAllowed) MayPublish([]byte) bool { return w.allowed.Load() }

// Whenever power is cut while a will is published, it is in the log once in the end.
func TestWillAcrossPowerCuts(t *testing.T) {
	for _, retain := range []bool{false, true} {
		for _, delay := range []uint32{0, 10} {
			for at := 0; ; at++ {
				var more bool
				synctest.Test(t, func(t *testing.T) { more = cutWhileDying(t, retain, delay, at) })
				if !more {
					break
				}
			}
		}
	}
}

// cutWhileDying cuts the power after so many operations of the disk; false when there
// are fewer.
func cutWhileDying(t *testing.T, retain bool, delay uint32, at int) bool {
	b := newBox(t).start()
	defer func() { b.stop() }()
	c := b.client(v5, "c", dying("gone", 1, 3600), func(p *packet.Connect) {
		p.Will.Retain = retain
		p.Will.Props.SetUint(packet.WillDelay, delay)
	})
	c.send(subscribe(v5, 1, "other"))
	c.expect("SUBACK #1 01")
	var mu sync.Mutex
	var left *crashfs.FS
	n := 0
	b.fs.OnOp(nil, func(op crashfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Changes() {
			if n == at {
				left = b.fs.Clone(crashfs.CloneConfig{})
			}
			n++
		}
	})
	c.nc.Close()
	time.Sleep(15 * time.Second)
	synctest.Wait()
	b.fs.OnOp(nil, nil)
	b.expectWills(map[string]int{"gone": 1})
	if left == nil {
		return false
	}
	b.stop()
	b.fs = left
	b.start()
	time.Sleep(2 * time.Minute)
	b.expectWills(map[string]int{"gone": 1})
	return true
}
