package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A connection is served alike before, while and after it is quiet, and what it began to
// send before it was quiet is not forgotten.
func TestQuietConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		c, p := b.client(v5, "c", func(p *packet.Connect) { p.KeepAlive = 60 }), b.client(v5, "p")
		c.send(subscribe(v5, 1, "t"))
		c.expect("SUBACK #1 01")
		for i := range 5 {
			time.Sleep(time.Duration(i) * 200 * time.Millisecond)
			p.send(publish(v5, 1, "t", fmt.Sprint(i)))
			p.expect("PUBACK #1")
			c.expect(fmt.Sprintf("PUBLISH t=%d q1 #%d", i, i+1))
			half := puback(uint16(i + 1))
			c.send(half[:2])
			time.Sleep(20 * time.Second)
			c.send(half[2:])
			c.quiet()
		}
		time.Sleep(89 * time.Second)
		c.quiet()
		began := time.Now()
		c.expect("DISCONNECT 8d", "closed")
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("a connection with a keep alive of 60 s was closed after %v, want 90 s", took)
		}
	})
}

// frailConn ends with the deadline of a read, as a WebSocket does.
type frailConn struct{ net.Conn }

func (frailConn) DeadlineEnds() {}

func (c frailConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if os.IsTimeout(err) {
		c.Close()
	}
	return n, err
}

func TestQuietFrailConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).start()
		defer b.stop()
		here, there := net.Pipe()
		b.srv.ServeConn(frailConn{there})
		c := b.over(here, v5)
		go c.receive()
		c.send((&packet.Connect{Version: v5, ClientID: []byte("c"), CleanStart: true}).Append(nil))
		c.next()
		for range 3 {
			c.quiet()
			time.Sleep(time.Minute)
		}
	})
}

// A release that cannot be stored ends the connection: no PUBCOMP says so.
func TestUnstoredRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		var full atomic.Bool
		b.wrap = func(l mqtt.Log) mqtt.Log { return fullLog{l, &full} }
		b.start()
		defer b.stop()
		c := b.client(v5, "c", keep)
		c.send(publish2(v5, 1, "t", "x"))
		c.expect("PUBREC #1")
		full.Store(true)
		c.send(pubrel(1))
		c.expect("DISCONNECT 80", "closed")
		full.Store(false)
	})
}

// countingLog counts the bytes that are read of one topic.
type countingLog struct {
	mqtt.Log
	topic string
	bytes *atomic.Int64
}

func (l countingLog) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	bs, err := l.Log.Fetch(ctx, tp, offset, maxBytes)
	if tp.Topic == l.topic {
		l.bytes.Add(int64(len(bs)))
	}
	return bs, err
}

// Of sessions that were away for as long, the first reads all that there is; those after
// it pass over what is for others, and miss nothing.
func TestSessionsPassOverWhatIsForOthers(t *testing.T) {
	b := newBox(t)
	var read atomic.Int64
	b.wrap = func(l mqtt.Log) mqtt.Log { return countingLog{l, "mqtt", &read} }
	b.start()
	defer b.stop()
	const devices, each = 300, 40
	back := func(id string) *client {
		return b.client(v3, id, func(p *packet.Connect) { p.CleanStart = false })
	}
	leave := func(id, filter string) {
		c := back(id)
		c.send(subscribe(v3, 1, filter))
		c.expect("SUBACK #1 01")
		c.nc.Close()
	}
	filters := []string{"dev/%d", "dev/%d/#", "dev/%d/+/x", "+/%d/q"} // the last passes over nothing
	for i := range devices {
		leave(fmt.Sprint("d", i), fmt.Sprintf(filters[i%len(filters)], i))
	}
	leave("first", "last/of/all")
	p := b.client(v3, "p")
	topics := []string{"dev/%d", "dev/%d/a/b", "dev/%d/a/x", "any/%d/q"}
	for i := range devices {
		for n := range each {
			p.send(publish(v3, uint16(n+1), fmt.Sprintf(topics[i%len(topics)], i), fmt.Sprint(n)))
		}
		for n := range each {
			p.expect(fmt.Sprintf("PUBACK #%d", n+1))
		}
	}
	p.send(publish(v3, 1, "last/of/all", "x"))
	p.expect("PUBACK #1")
	first := back("first")
	first.expect("PUBLISH last/of/all=x q1 #1")
	all := read.Load()
	for i := range devices {
		read.Store(0)
		c := back(fmt.Sprint("d", i))
		for n := range each {
			c.expect(fmt.Sprintf("PUBLISH "+topics[i%len(topics)]+"=%d q1 #%d", i, n, n+1))
			c.send(puback(uint16(n + 1)))
		}
		c.quiet()
		c.nc.Close()
		for b.srv.Status().Connections > 2 { // what it reads until it has ended is its own
			time.Sleep(time.Millisecond)
		}
		if n := read.Load(); n > all/2 && i%len(filters) != 3 {
			t.Fatalf("the first session read %d bytes, number %d %d", all, i, n)
		}
	}
}
