package fleet

import (
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// outbox is a device's paho store: the readings sent and not acked, in order. It
// outlives connections and is where acks are observed, because paho deletes a
// message from its store on PUBACK and for no other reason.
//
// Its size is bounded by Options.Window.
type outbox struct {
	device *device
	space  chan struct{} // one token is put in after each ack

	mu      sync.Mutex
	staged  int64 // the reading that the next Put stores, 0 when none
	waiting []waiting
}

type waiting struct {
	key  string
	seq  int64
	sent time.Time
	msg  *packets.PublishPacket
}

// stage announces the reading that the device is about to publish.
func (b *outbox) stage(seq int64) {
	b.mu.Lock()
	b.staged = seq
	b.mu.Unlock()
}

// unstage reports whether paho refused the staged reading without storing it.
func (b *outbox) unstage() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	refused := b.staged != 0
	b.staged = 0
	return refused
}

func (b *outbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

func (b *outbox) Open()  {}
func (b *outbox) Close() {}
func (b *outbox) Reset() {}

// Put is called by paho before a publish can reach the wire.
func (b *outbox) Put(key string, m packets.ControlPacket) {
	msg, ok := m.(*packets.PublishPacket)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device
	b.waiting = append(b.waiting, waiting{key: key, seq: b.staged, sent: time.Now(), msg: msg})
	d.fleet.sent.Add(1)
	if f := d.fleet.opts.OnSent; f != nil {
		f(Event{Device: d.index, Name: d.name, Seq: b.staged, Bad: d.bad})
	}
	b.staged = 0
}

// Get returns a copy: paho sets DUP in it while the writer of the connection
// before may still hold the original.
func (b *outbox) Get(key string) packets.ControlPacket {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.waiting {
		if b.waiting[i].key == key {
			msg := *b.waiting[i].msg
			return &msg
		}
	}
	return nil
}

// All returns the keys in the order of sending; messages must be sent again in
// that order [MQTT-4.6.0-1].
func (b *outbox) All() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]string, len(b.waiting))
	for i := range b.waiting {
		keys[i] = b.waiting[i].key
	}
	return keys
}

// Del is called by paho when the PUBACK arrived.
func (b *outbox) Del(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device
	for i := range b.waiting {
		if w := b.waiting[i]; w.key == key {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			d.acked(w)
			select {
			case b.space <- struct{}{}:
			default:
			}
			return
		}
	}
	d.fleet.stray.Add(1)
}

func (d *device) acked(w waiting) {
	f := d.fleet
	f.latency.observe(time.Since(w.sent))
	f.ledger.add(d.index, w.seq, d.bad)
	f.acked.Add(1)
	if d.bad {
		f.ackedBad.Add(1)
	}
	if f.opts.OnAcked != nil {
		f.opts.OnAcked(Event{Device: d.index, Name: d.name, Seq: w.seq, Bad: d.bad})
	}
}
