package mqtt_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// $SYS topics come at once with RETAIN, then when they change; # does not ask for them.
func TestSysTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.opts.Version = "1.2"
		b.start()
		defer b.stop()
		all := b.client(v5, "all")
		all.send(subscribe(v5, 1, "#"))
		all.expect("SUBACK #1 01")
		s := b.client(v5, "s")
		s.send(subscribe(v5, 1, "$SYS/broker/+", "$SYS/broker/clients/connected"))
		s.expect("SUBACK #1 01 01", "PUBLISH $SYS/broker/version=weir 1.2 q0 retain", "PUBLISH $SYS/broker/uptime=0 seconds q0 retain",
			"PUBLISH $SYS/broker/clients/connected=2 q0 retain")
		time.Sleep(15 * time.Second)
		s.expect("PUBLISH $SYS/broker/version=weir 1.2 q0", "PUBLISH $SYS/broker/uptime=10 seconds q0", "PUBLISH $SYS/broker/clients/connected=2 q0")
		b.client(v5, "third")
		time.Sleep(10 * time.Second)
		s.expect("PUBLISH $SYS/broker/uptime=20 seconds q0", "PUBLISH $SYS/broker/clients/connected=3 q0")
		all.quiet()
		for _, r := range b.records("mqtt") {
			t.Errorf("%s is in the log", r.Key)
		}
	})
}

// A client that takes topic aliases gets them: the name once, then the number.
func TestOutgoingAliases(t *testing.T) {
	b := newBox(t)
	b.opts.TopicAliasMaximum = 5
	b.start()
	defer b.stop()
	s := b.client(v5, "s", func(p *packet.Connect) { p.Props.SetUint(packet.TopicAliasMaximum, 2) })
	plain := b.client(v5, "plain")
	for _, c := range []*client{s, plain} {
		c.send(subscribe(v5, 1, "topic/#"))
		c.expect("SUBACK #1 01")
	}
	p := b.client(v5, "p")
	for i, name := range []string{"topic/a", "topic/a", "topic/b", "topic/c", "topic/b", "topic/a"} {
		p.send(publish(v5, uint16(i+1), name, "x"))
		p.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	for i, want := range []string{"topic/a=x q1 #1 alias1", "=x q1 #2 alias1", "topic/b=x q1 #3 alias2", "topic/c=x q1 #4", "=x q1 #5 alias2", "=x q1 #6 alias1"} {
		s.expect("PUBLISH " + want)
		if m := plain.next(); strings.Contains(m, "alias") || !strings.HasPrefix(m, "PUBLISH topic/") {
			t.Errorf("message %d without aliases: %s", i, m)
		}
	}
}

// A session that was away longer than retention gets what is left, and is told.
func TestToldOfLoss(t *testing.T) {
	b := newBox(t).start()
	defer func() { b.stop() }()
	s := b.client(v5, "s", keep)
	s.send(subscribe(v5, 1, "t"))
	s.expect("SUBACK #1 01")
	s.send(disconnect())
	s.expect("closed")
	p := b.client(v5, "p")
	for i := range 10 {
		p.send(publish(v5, uint16(i+1), "t", fmt.Sprint(i)))
		p.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	b.restart() // else what a feed has read before may still be delivered
	if err := (weirLog{b.set}).DeleteRecords(record.TopicPartition{Topic: "mqtt"}, 7); err != nil {
		t.Fatal(err)
	}
	s, _ = b.connect(v5, "s", keep)
	s.expect("PUBLISH t=7 q1 #1 weir-lost:mqtt-0:0-6", "PUBLISH t=8 q1 #2", "PUBLISH t=9 q1 #3")
	for {
		if b.set.Topic(record.GapTopic) != nil {
			if rs := b.records(record.GapTopic); len(rs) > 0 {
				if v := string(rs[0].Value); !strings.Contains(v, `"reason":"mqtt-session"`) || !strings.Contains(v, `"last_offset":6`) {
					t.Error(v)
				}
				return
			}
		}
		s.quiet()
	}
}

// fullLog refuses messages, but not the server's own state, while it is full.
type fullLog struct {
	mqtt.Log
	full *atomic.Bool
}

func (l fullLog) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if l.full.Load() && !strings.HasPrefix(tp.Topic, "__") {
		done.Complete(-1, fmt.Errorf("%w: 0 bytes left", record.ErrDiskFull))
		return
	}
	l.Log.AppendAsync(tp, b, done)
}

func (l fullLog) AppendGroup(writes []record.AsyncWrite) {
	if !l.full.Load() {
		l.Log.AppendGroup(writes)
		return
	}
	for _, w := range writes {
		if w.Done != nil {
			w.Done.Complete(-1, record.ErrDiskFull)
		}
	}
}

// On a full disk MQTT 5 is told 0x97 in the ack, 3.1.1 is read no further until there
// is room, and QoS 0 is counted.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		var lost atomic.Int64
		b := newBox(t)
		b.wrap = func(l mqtt.Log) mqtt.Log { return fullLog{l, &full} }
		b.opts.Lost = func() { lost.Add(1) }
		b.start()
		defer b.stop()
		five, three := b.client(v5, "5", keep), b.client(v3, "3", keep)
		synctest.Wait()
		full.Store(true)
		five.send(publish(v5, 1, "t", "x"), publish2(v5, 2, "t", "y"), publish(v5, 0, "t", "z"), retained(v5, 3, "r", "no"))
		five.expect("PUBACK #1 97", "PUBREC #2 97", "PUBACK #3 97")
		three.send(retained(v3, 9, "r", "yes"), publish(v3, 1, "t", "a"), publish2(v3, 2, "t", "b"))
		time.Sleep(time.Minute)
		done := make(chan bool)
		go func() {
			three.send(publish(v3, 3, "t", "c")) // the pipe takes it only when it is read
			close(done)
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("the client is read while the disk is full")
		default:
		}
		five.quiet()
		if n := lost.Load(); n == 0 {
			t.Error("nobody is told that messages are lost")
		}
		full.Store(false)
		three.expect("PUBACK #9", "PUBACK #1", "PUBREC #2", "PUBACK #3")
		<-done
		if n := len(b.records("mqtt")); n != 4 {
			t.Errorf("%d records, want 4", n)
		}
		s := b.client(v5, "s")
		s.send(subscribe(v5, 1, "r"))
		s.expect("SUBACK #1 01", "PUBLISH r=yes q1 #1 retain")
		if text := b.metrics(); !strings.Contains(text, `weir_mqtt_qos0_lost_total{reason="disk_full"} 1`) {
			t.Error(text)
		}
	})
}
