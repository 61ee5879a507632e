package mqtt

import (
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// meter holds something to a rate: it fills up with so much per second, and holds a
// second's worth. The last taker may take more than there is, and what is owed is
// waited for.
type meter struct {
	mu         sync.Mutex
	rate, left float64
	at         time.Time
}

// newMeter is nil for a rate of 0, which is none.
func newMeter(perSecond int) *meter {
	if perSecond == 0 {
		return nil
	}
	return &meter{rate: float64(perSecond), left: float64(perSecond)}
}

// fill fills up to now. mu is held.
func (m *meter) fill(now time.Time) {
	if !m.at.IsZero() {
		m.left = min(m.rate, m.left+max(0, now.Sub(m.at).Seconds())*m.rate)
	}
	m.at = now
}

// has reports whether nothing is owed.
func (m *meter) has(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fill(now)
	return m.left >= 1
}

// take takes n and returns how long it is until nothing is owed.
func (m *meter) take(n int, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fill(now)
	m.left -= float64(n)
	return time.Duration(max(0, -m.left/m.rate) * float64(time.Second))
}

// idle reports whether a new meter would be the same.
func (m *meter) idle(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at.Add(time.Second).Before(now) && m.left+now.Sub(m.at).Seconds()*m.rate >= m.rate
}

// allowance is a rate that a client's messages are held to.
type allowance struct {
	*meter
	of  string // what it counts
	key string // that sets it
}

const (
	ofMessages = "messages/s"
	ofBytes    = "bytes/s"
)

// allowances are the rates of a new connection; none for most.
func (srv *Server) allowances(c *conn) (out []allowance) {
	if c.trusted {
		return nil
	}
	add := func(m *meter, of, key string) {
		if m != nil {
			out = append(out, allowance{m, of, key})
		}
	}
	add(newMeter(srv.opts.MaxPublishRate), ofMessages, "max_publish_rate")
	add(newMeter(srv.opts.MaxPublishBytes), ofBytes, "max_publish_bytes")
	add(c.door.messages, ofMessages, "the listener's max_publish_rate")
	add(c.door.bytes, ofBytes, "the listener's max_publish_bytes")
	return out
}

var errQuota = &packet.Error{Reason: packet.QuotaExceeded, Text: "more bytes/s than the client's quota (producer_byte_rate)"}

// maxPause bounds how long nothing is read from a client at a time; what it owes beyond
// that it owes on.
const maxPause = 10 * time.Second

// permit holds a message against the access rules, the rates and the client's quota.
// Beyond them MQTT 5 is told so in the acknowledgement; from 3.1.1, which cannot be told,
// nothing is read for as long as it owes; QoS 0 is dropped.
func (c *conn) permit(p *packet.Publish, topic []byte) error {
	quota, _ := c.who.(Charger)
	if quota != nil && !quota.Charged() {
		quota = nil
	}
	if err := c.mayPublish(topic); err != nil || len(c.rates) == 0 && quota == nil {
		return err
	}
	now, patient := time.Now(), c.version != packet.V5 && p.QoS > 0
	if quota != nil && !patient && quota.ChargePublish(0, now) > 0 {
		c.srv.throttled.refused.Add(1)
		return &refusal{byQuota, errQuota}
	}
	for _, a := range c.rates {
		if !patient && !a.has(now) {
			c.srv.throttled.refused.Add(1)
			return &refusal{byRate, &packet.Error{Reason: packet.QuotaExceeded, Text: fmt.Sprintf("more than %.0f %s (%s)", a.rate, a.of, a.key)}}
		}
	}
	var wait time.Duration
	for _, a := range c.rates {
		n := 1
		if a.of == ofBytes {
			n = len(topic) + len(p.Payload)
		}
		wait = max(wait, a.take(n, now))
	}
	if quota != nil {
		wait = max(wait, quota.ChargePublish(len(topic)+len(p.Payload), now))
	}
	if patient && wait > 0 {
		c.srv.throttled.slowed.Add(1)
		c.in.stage() // what came before does not wait
		sleep(c.ctx, min(wait, maxPause))
	}
	return nil
}
