package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// lastWords gives CONNECT a will with a delay, and its session a life, in seconds.
func lastWords(delay, expiry uint32) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.CleanStart = false
		p.HasWill = true
		p.Will.Topic, p.Will.Payload, p.Will.QoS = append([]byte("will/"), p.ClientID...), []byte("gone"), 1
		p.Will.Props.SetUint(packet.WillDelay, delay)
		p.Will.Props.User = []packet.UserProperty{{Name: []byte("unit"), Value: []byte("K")}}
		p.Props.SetUint(packet.SessionExpiry, expiry)
	}
}

func TestWillDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer func() { b.stop() }()
		s := b.client(v5, "s")
		s.send(subscribe(v5, 1, "will/#"))
		s.expect("SUBACK #1 01")
		n := 0
		after := func(start time.Time, want time.Duration, client string) {
			t.Helper()
			n++
			if got := s.next(); got != "PUBLISH will/"+client+"=gone q1 #"+string(rune('0'+n))+" unit:K" {
				t.Fatal(got)
			}
			if d := time.Since(start); d != want {
				t.Errorf("%s: the will came after %v, want %v", client, d, want)
			}
		}
		die := func(id string, delay, expiry uint32) time.Time {
			b.client(v5, id, lastWords(delay, expiry)).nc.Close()
			synctest.Wait()
			return time.Now()
		}
		after(die("delayed", 30, 60), 30*time.Second, "delayed")
		after(die("shortlived", 60, 10), 10*time.Second, "shortlived") // the session ends first
		after(die("sessionless", 60, 0), 0, "sessionless")
		die("back", 30, 60)
		time.Sleep(29 * time.Second)
		c := b.client(v5, "back", keep) // [MQTT-3.1.3-9], and its own CONNECT had no will
		time.Sleep(time.Minute)
		s.quiet()
		c.send(disconnect())
		start := die("anew", 30, 60)
		b.client(v5, "anew") // clean start ends the session
		after(start, 0, "anew")
	})
}

// A will that waits survives a restart, and that of a connected client too.
func TestWillSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer func() { b.stop() }()
		b.client(v5, "dead", lastWords(300, 3600)).nc.Close()
		b.client(v5, "alive", lastWords(0, 3600))
		b.client(v5, "returns", lastWords(0, 3600))
		time.Sleep(time.Minute)
		b.crash()
		s := b.client(v5, "s")
		s.send(subscribe(v5, 1, "will/#"))
		s.expect("SUBACK #1 01")
		b.client(v5, "returns", lastWords(0, 3600))
		start := time.Now()
		s.expect("PUBLISH will/alive=gone q1 #1 unit:K")
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %v, want the grace of 1 min", d)
		}
		s.expect("PUBLISH will/dead=gone q1 #2 unit:K")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("after %v, want 5 min", d)
		}
		time.Sleep(time.Minute)
		s.quiet()
	})
}
