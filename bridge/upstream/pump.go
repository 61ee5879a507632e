package upstream

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// pump carries the messages of one direction, in one life of the link.
type pump struct {
	ctx    context.Context
	subs   []Subscription
	from   place
	counts *counts
	queue  chan mqtt.Message // what the handler took
	slots  chan struct{}     // one token for each message in flight
	acks   chan mqtt.Message // what the other side has acknowledged; room for all in flight
	store  inFlight
}

// place is a side of the link.
type place bool

const (
	here  place = false // Weir
	there place = true  // the upstream broker
)

// counts outlive the pumps.
type counts struct {
	messages, unmapped atomic.Int64
	inFlight           atomic.Int64
	progress           atomic.Int64 // unix ns of the last acknowledgement, or of when something was in flight after nothing was
}

func newPump(ctx context.Context, subs []Subscription, from place, c *counts, limit int) *pump {
	c.inFlight.Store(0) // what was is delivered again
	p := &pump{ctx: ctx, subs: subs, from: from, counts: c, queue: make(chan mqtt.Message),
		slots: make(chan struct{}, limit), acks: make(chan mqtt.Message, limit)}
	p.store.sent = map[string]mqtt.Message{}
	p.store.acked = func(m mqtt.Message) { p.acks <- m } // never blocks
	return p
}

// take is the receiving client's handler. It blocks while as many messages as allowed
// are in flight, and the client then reads nothing more.
func (p *pump) take(m mqtt.Message) {
	select {
	case p.queue <- m:
	case <-p.ctx.Done():
	}
}

// run publishes what was taken and acknowledges what was published, until the life ends.
func (p *pump) run(to mqtt.Client, fail context.CancelCauseFunc) {
	var acking sync.WaitGroup
	acking.Go(p.acknowledge)
	defer acking.Wait()
	for {
		select {
		case <-p.ctx.Done():
			return
		case m := <-p.queue:
			if err := p.carry(to, m); err != nil {
				fail(err)
				return
			}
		}
	}
}

func (p *pump) carry(to mqtt.Client, m mqtt.Message) error {
	topic, qos, ok := p.translate(m.Topic())
	if !ok {
		// The session still has the filters of an earlier configuration.
		p.counts.unmapped.Add(1)
		m.Ack()
		return nil
	}
	if qos = min(qos, m.Qos()); qos > 0 {
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
			return nil
		}
		if p.counts.inFlight.Add(1) == 1 {
			p.counts.progress.Store(time.Now().UnixNano())
		}
	}
	if err := p.store.publish(to, topic, qos, m); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	if qos == 0 {
		p.counts.messages.Add(1)
		m.Ack() // of no effect unless it came with QoS 1
	}
	return nil
}

// acknowledge tells the broker that a message came from that the other has it. It is
// not the client's goroutine that does it, for telling may block, and that one reads
// what unblocks it.
func (p *pump) acknowledge() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case m := <-p.acks:
			m.Ack()
			<-p.slots
			p.counts.inFlight.Add(-1)
			p.counts.messages.Add(1)
			p.counts.progress.Store(time.Now().UnixNano())
		}
	}
}
