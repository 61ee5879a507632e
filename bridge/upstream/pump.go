package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// pump carries the messages of one direction, in one life of the link.
type pump struct {
	ctx      context.Context
	subs     []Subscription
	from     place
	counts   *counts
	log      *slog.Logger
	queue    chan *message // what the handler took
	slots    chan struct{} // one token for each message in flight
	outcomes chan outcome  // of what was published; room for all in flight
	refused  chan *message // for now, to be held; room for all in flight
	passed   chan struct{} // the held message that was tried has been settled
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
	inFlight, held     atomic.Int64
	progress           atomic.Int64 // unix ns of the last acknowledgement, or of when something was in flight after nothing was
	refused            [len(forGood)]atomic.Int64
	why                atomic.Pointer[string] // messages are held; nil: none are
	saidGivenUp        quiet
	saidHeld           quiet
}

func (l *Link) newPump(ctx context.Context, subs []Subscription, from place, c *counts) *pump {
	c.inFlight.Store(0) // what was is delivered again
	c.held.Store(0)
	c.why.Store(nil)
	limit, direction := l.opts.MaxInFlight, "in"
	if from == here {
		direction = "out"
	}
	return &pump{ctx: ctx, subs: subs, from: from, counts: c, log: l.opts.Log.With("upstream", l.opts.Name, "direction", direction),
		queue: make(chan *message), slots: make(chan struct{}, limit), outcomes: make(chan outcome, limit),
		refused: make(chan *message, limit), passed: make(chan struct{}, 1)}
}

// take is the receiving client's handler. It blocks while as many messages as allowed
// are in flight, and the client then reads nothing more.
func (p *pump) take(m *message) {
	select {
	case p.queue <- m:
	case <-p.ctx.Done():
	}
}

// settle hears what became of a message.
func (p *pump) settle(o outcome) { p.outcomes <- o } // never blocks

// run publishes what was taken and acknowledges what was published, until the life ends.
func (p *pump) run(to peer, fail context.CancelCauseFunc) {
	var settling sync.WaitGroup
	settling.Go(p.settleAll)
	defer settling.Wait()
	h := hold{p: p}
	for {
		var err error
		select {
		case <-p.ctx.Done():
			return
		case m := <-h.queue():
			err = p.carry(to, m)
		case m := <-p.refused:
			h.add(m)
		case <-h.retry:
			err = h.try(to)
		case <-p.passed:
			err = h.next(to)
		}
		if err != nil {
			fail(err)
			return
		}
	}
}

func (p *pump) carry(to peer, m *message) error {
	_, qos, ok := p.translate(m.topic)
	if !ok {
		// The session still has the filters of an earlier configuration.
		p.counts.unmapped.Add(1)
		m.ack()
		return nil
	}
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return nil
	}
	if p.counts.inFlight.Add(1) == 1 {
		p.counts.progress.Store(time.Now().UnixNano())
	}
	m.qos = min(qos, m.qos)
	return p.publish(to, m)
}

func (p *pump) publish(to peer, m *message) error {
	topic, _, _ := p.translate(m.topic)
	if len(topic) > maxTopicBytes {
		p.settle(outcome{m, packet.TopicNameInvalid, fmt.Sprintf("with its prefix it has %d bytes, MQTT's limit is %d", len(topic), maxTopicBytes)})
		return nil
	}
	if err := to.publish(p.ctx, m, topic, m.qos); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// maxTopicBytes is what the length of a topic name in a packet can say.
const maxTopicBytes = 65_535

// settleAll tells the broker that a message came from that the other side has it, or
// will never take it. It is not the client's goroutine that does it, for telling may
// block, and that one reads what unblocks it.
func (p *pump) settleAll() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case o := <-p.outcomes:
			if p.weigh(o) {
				p.refused <- o.m // never blocks
				continue
			}
			o.m.ack() // of no effect unless it came with QoS 1
			<-p.slots
			p.counts.inFlight.Add(-1)
			p.counts.progress.Store(time.Now().UnixNano())
			if o.m.held {
				p.passed <- struct{}{}
			}
		}
	}
}

// weigh counts an outcome, and reports whether the message is to be tried again.
func (p *pump) weigh(o outcome) (again bool) {
	switch i, good := refusedForGood(o.reason); {
	case !o.reason.Failed():
		p.counts.messages.Add(1)
	case good:
		p.counts.refused[i].Add(1)
		p.giveUp(o)
	default:
		p.holdBack(o)
		return true
	}
	return false
}
