package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/testbed/crashfs"
)

// The PUBACK waits for the disk: while the sync of the write-ahead log hangs nothing
// is acknowledged, and the connection still reads and answers.
func TestPubackWaitsForTheSync(t *testing.T) {
	for _, retain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t).start()
			defer b.stop()
			c := b.client(v3, "c")
			release := b.holdSyncs()
			first := publish(v3, 1, "a", "x")
			if retain {
				first[0] |= 1
			}
			c.send(first, publish(v3, 2, "b", "y"))
			c.send(publish(v3, 3, "c", "z"), packet.AppendPing(nil, packet.TypePingreq))
			synctest.Wait()
			c.expect("PINGRESP") // and no PUBACK before it
			if c.mu.Lock(); len(c.buf) != 0 {
				t.Errorf("%x came before the sync", c.buf)
			}
			c.mu.Unlock()
			if n := len(b.records("mqtt")); n != 0 {
				t.Errorf("%d records can be read before the sync", n)
			}
			release()
			c.expect("PUBACK #1", "PUBACK #2", "PUBACK #3")
		})
	}
}

// lateLog holds back the appends to one topic until it is released.
type lateLog struct {
	mqtt.Log
	topic   string
	release chan struct{}
}

func (l lateLog) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if tp.Topic != l.topic {
		l.Log.AppendAsync(tp, b, done)
		return
	}
	b = bytes.Clone(b)
	go func() {
		<-l.release
		l.Log.AppendAsync(tp, b, done)
	}()
}

// AppendGroup holds the whole group back, as a log that commits it late would.
func (l lateLog) AppendGroup(writes []record.AsyncWrite) {
	writes = slices.Clone(writes)
	for i := range writes {
		writes[i].Batch = bytes.Clone(writes[i].Batch)
	}
	go func() {
		<-l.release
		l.Log.AppendGroup(writes)
	}()
}

// The PUBACK of a retained message waits for the message and for its retained form,
// whichever is committed last, and the PUBACKs behind it wait with it.
func TestPubackWaitsForTheRetainedRecord(t *testing.T) {
	for _, late := range []string{mqtt.RetainedTopic, "mqtt"} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			b := newBox(t)
			b.wrap = func(l mqtt.Log) mqtt.Log { return lateLog{l, late, release} }
			b.routes = []bridge.Route{{Filter: "other", Topic: "other"}}
			b.start()
			defer b.stop()
			c := b.client(v3, "c")
			c.send(retained(v3, 1, "r", "x"), publish(v3, 2, "other", "y"))
			synctest.Wait()
			c.quiet()
			close(release)
			c.expect("PUBACK #1", "PUBACK #2")
		})
	}
}

// Whatever was acknowledged is there after a power cut at any later moment.
func TestAckedSurvivesPowerCut(t *testing.T) {
	b := newBox(t).start()
	c := b.client(v3, "c")
	n := 0
	for round := range 10 {
		for range 20 {
			n++
			c.send(publish(v3, uint16(n), "t", fmt.Sprint(n)))
		}
		for i := range 20 {
			c.expect(fmt.Sprintf("PUBACK #%d", n-19+i))
		}
		b.crash()
		rs := b.records("mqtt")
		if len(rs) < n {
			t.Fatalf("round %d: %d records, %d were acknowledged", round, len(rs), n)
		}
		for i := range n {
			if string(rs[i].Value) != fmt.Sprint(i+1) {
				t.Fatalf("record %d is %s", i, rs[i].Value)
			}
		}
		c = b.client(v3, "c")
	}
	b.stop()
}

// A disk that fails: MQTT 5 is told, 3.1.1 is closed without a PUBACK.
func TestStorageFailure(t *testing.T) {
	for _, v := range []packet.Version{v3, v5} {
		b := newBox(t).start()
		c := b.client(v, "c")
		c.send(publish(v, 1, "t", "fine"))
		c.expect("PUBACK #1")
		b.fs.OnOp(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync || op.Kind == crashfs.Write {
				return errors.New("input/output error")
			}
			return nil
		}, nil)
		c.send(publish(v, 2, "t", "lost"), publish(v, 0, "t", "lost too"))
		if v == v5 {
			c.expect("PUBACK #2 80")
		} else {
			c.expect("closed")
		}
		if n := b.srv.Status().Refused; n != 2 {
			t.Errorf("%d refused, want 2", n)
		}
		b.fs.OnOp(nil, nil)
		b.opts.Log = nil
		b.srv.Close()
		b.set.Close()
	}
}

// PUBACKs come in the order of the PUBLISHes whatever partitions these go to.
func TestAckOrder(t *testing.T) {
	b := newBox(t)
	b.start()
	defer b.stop()
	b.routesFor(8)
	c := b.client(v5, "c")
	const n = 500
	var all [][]byte
	for i := range n {
		p := publish(v5, uint16(i+1), fmt.Sprintf("r/%d", i%8), strings.Repeat("x", i))
		if i%7 == 0 {
			p[0] |= 1 // retained: two commits
		}
		all = append(all, p)
	}
	c.send(all...)
	for i := range n {
		c.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
}

// A message that the log refuses does not hold up or reorder the acks of others.
func TestRefusedInTurn(t *testing.T) {
	b := newBox(t)
	b.opts.MaxRetained = 1
	b.start()
	defer b.stop()
	c := b.client(v5, "c")
	c.send(retained(v5, 1, "a", "x"))
	c.expect("PUBACK #1")
	// A limit counts what is committed, so the message that ends "a" makes no room yet.
	c.send(publish(v5, 2, "t", "x"), retained(v5, 3, "b", "x"), publish(v5, 4, "t", "x"), retained(v5, 5, "a", ""))
	c.expect("PUBACK #2", "PUBACK #3 97", "PUBACK #4", "PUBACK #5")
	d := b.client(v3, "d")
	d.send(retained(v3, 1, "a", "x"))
	d.expect("PUBACK #1")
	d.send(publish(v3, 2, "t", "x"), retained(v3, 3, "b", "x"))
	for got := d.next(); got != "closed"; got = d.next() {
		if got == "PUBACK #3" {
			t.Error("a refused message was acknowledged")
		}
	}
}

// holdSyncs makes every sync of the disk wait until the function returned is called.
func (b *box) holdSyncs() (release func()) {
	hold := make(chan struct{})
	b.fs.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			<-hold
		}
		return nil
	}, nil)
	return func() { close(hold) }
}
