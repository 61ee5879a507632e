package mqtt_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A session that CONNACK has promised is there after a power cut, without subscriptions
// too [MQTT-3.1.2-23].
func TestEmptySessionOutlivesPowerCut(t *testing.T) {
	for _, v := range []packet.Version{v3, v5} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			b.opts.MaxSessionExpiry = time.Hour
			b.start()
			defer func() { b.stop() }()
			anew := " present"
			if v == v3 { // whose clean session does not outlive its connection
				anew = ""
			}
			b.client(v, "never", keep)
			c := b.client(v, "no more", keep)
			c.send(subscribe(v, 1, "t"), unsubscribe(v, 2, "t"))
			c.expect("SUBACK #1 01")
			c.next()
			b.client(v, "anew", keep)
			b.client(v, "anew", keep, func(p *packet.Connect) { p.CleanStart = true })
			b.client(v, "over", keep)
			b.client(v, "over", func(p *packet.Connect) { p.CleanStart = true })
			b.client(v, "clean")
			b.crash()
			for id, want := range map[string]string{"never": " present", "no more": " present", "anew": anew, "over": "", "clean": ""} {
				if _, got := b.connect(v, id, keep); got != "CONNACK 00"+want {
					t.Errorf("%s: %s, want CONNACK 00%s", id, got, want)
				}
			}
			time.Sleep(time.Second)
			b.crash()
			time.Sleep(2 * time.Hour)
			b.expectMetrics("weir_mqtt_sessions 0")
		})
	}
}

// CONNACK waits for the disk where it promises what is not there yet.
func TestConnackWaitsForTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		for _, id := range []string{"resumes", "longer"} {
			b.client(v5, id, keep).send(disconnect())
		}
		time.Sleep(time.Minute)
		release := sync.OnceFunc(b.holdSyncs())
		defer release()
		waiting := map[string]*client{}
		for id, change := range map[string]func(*packet.Connect){
			"new":     func(*packet.Connect) {},
			"longer":  func(p *packet.Connect) { p.Props.SetUint(packet.SessionExpiry, 7200) },
			"willing": dying("gone", 1, 3600),
		} {
			c := b.dial(v5)
			p := packet.Connect{Version: v5, ClientID: []byte(id)}
			keep(&p)
			change(&p)
			c.send(p.Append(nil))
			waiting[id] = c
		}
		if _, got := b.connect(v5, "resumes", keep); got != "CONNACK 00 present" {
			t.Error(got)
		}
		b.client(v5, "clean")
		synctest.Wait()
		for id, c := range waiting {
			c.mu.Lock()
			if len(c.buf) > 0 {
				t.Errorf("%s: %x before the sync", id, c.buf)
			}
			c.mu.Unlock()
		}
		release()
		for _, c := range waiting {
			c.next()
		}
	})
}

// The will of a session that outlives its connection is on the disk before CONNACK, and
// a client that comes back with the same one costs no record.
func TestWillIsStoredBeforeConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer func() { b.stop() }()
		will := func(p *packet.Connect) {
			dying("gone", 1, 3600)(p)
			p.Will.Props.SetUint(packet.WillDelay, 30)
		}
		b.client(v5, "resumes", keep).send(disconnect())
		synctest.Wait()
		b.client(v5, "resumes", will).nc.Close()
		synctest.Wait()
		n := len(b.records(mqtt.SessionsTopic))
		b.client(v5, "resumes", will)
		synctest.Wait()
		if more := len(b.records(mqtt.SessionsTopic)) - n; more != 0 {
			t.Errorf("%d records for a session that is as it was", more)
		}
		b.client(v5, "back", will)
		b.client(v5, "dead", dying("dead", 1, 3600))
		b.crash()
		time.Sleep(59 * time.Second)
		b.expectWills(map[string]int{})
		b.client(v5, "back", keep)
		time.Sleep(2 * time.Second)
		b.expectWills(map[string]int{"dead": 1, "gone": 1})
	})
}

// noSessions is a log that has no room for sessions while it is full.
type noSessions struct {
	mqtt.Log
	full *atomic.Bool
}

func (l noSessions) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if l.full.Load() && tp.Topic == mqtt.SessionsTopic {
		done.Complete(-1, fmt.Errorf("%w: 0 bytes left", record.ErrDiskFull))
		return
	}
	l.Log.AppendAsync(tp, b, done)
}

// A client whose session cannot be stored is told so, and has neither session nor will:
// with a session that it does not know of it would have to close [MQTT-3.2.2-4].
func TestSessionThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		b := newBox(t)
		b.wrap = func(l mqtt.Log) mqtt.Log { return noSessions{l, &full} }
		b.start()
		defer func() { b.stop() }()
		full.Store(true)
		for v, want := range map[packet.Version]string{v3: "CONNACK 03", v5: "CONNACK 97"} {
			if _, got := b.connect(v, "c", dying("gone", 1, 3600)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if _, got := b.connect(v3, "clean"); got != "CONNACK 00" {
			t.Error(got)
		}
		full.Store(false)
		if _, got := b.connect(v5, "c", keep); got != "CONNACK 00" {
			t.Errorf("%s, want a new session", got)
		}
		time.Sleep(time.Minute)
		b.expectWills(map[string]int{})
		if text := b.metrics(); !strings.Contains(text, "weir_mqtt_wills_waiting 0\n") {
			t.Error(text)
		}
	})
}
