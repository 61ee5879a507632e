package upstream

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// forGood is the reason codes by which a receiver says that it will never take a
// message: the link goes on without it, for what comes behind must not wait for ever.
// All others are for now: quota exceeded (0x97) is what a full disk and a limit of rates
// say, unspecified error (0x80) what storage that fails does (MQTT 5, table 3-4).
var forGood = [...]packet.Reason{packet.NotAuthorized, packet.TopicNameInvalid, packet.PacketTooLarge, packet.ImplementationSpecificError, packet.PayloadFormatInvalid}

func refusedForGood(r packet.Reason) (index int, ok bool) {
	for i, g := range forGood {
		if g == r {
			return i, true
		}
	}
	return 0, false
}

// label is a reason in a metric.
func label(r packet.Reason) string { return strings.ReplaceAll(r.String(), " ", "_") }

// giveUp logs a message that will not be on the other side.
func (p *pump) giveUp(o outcome) {
	if skipped, ok := p.counts.saidGivenUp.may(time.Now()); ok {
		p.log.Error("upstream: message given up, it is refused for good", "topic", o.m.topic, "bytes", len(o.m.payload), "cause", o.cause(), "mend", p.mend(o.reason), "more_since_last_line", skipped)
	}
}

// holdBack logs a message that is tried again, and keeps the reason for the status.
func (p *pump) holdBack(o outcome) {
	why := fmt.Sprintf("messages are held back: %s refuses one on %s: %s; %s", p.receiver(), o.m.topic, o.cause(), p.mend(o.reason))
	p.counts.why.Store(&why)
	if skipped, ok := p.counts.saidHeld.may(time.Now()); ok {
		p.log.Warn("upstream: messages are held back, the receiver refuses one for now", "topic", o.m.topic, "cause", o.cause(), "mend", p.mend(o.reason), "more_since_last_line", skipped)
	}
}

func (o outcome) cause() string {
	if o.text == "" {
		return o.reason.String()
	}
	return fmt.Sprintf("%v (%s)", o.reason, o.text)
}

func (p *pump) receiver() string {
	if p.from == there {
		return "Weir's own MQTT server"
	}
	return "the upstream broker"
}

// mend says what an operator can do about a refusal.
func (p *pump) mend(r packet.Reason) string {
	in := p.from == there
	switch r {
	case packet.NotAuthorized:
		return "allow the link's user to publish on this topic there, or leave the topic out of the link's filters"
	case packet.TopicNameInvalid:
		if in {
			return "raise mqtt.max_topic_levels or mqtt.max_topic_bytes, mend the route that makes a Kafka topic name of it, or leave the topic out of the link's filters"
		}
		return "leave the topic out of the link's filters, or give it another remote_prefix"
	case packet.PacketTooLarge:
		if in {
			return "raise mqtt.max_packet"
		}
		return "raise the broker's limit of packets"
	case packet.ImplementationSpecificError:
		if in {
			return "see the route that the message takes, and max.message.bytes of its Kafka topic"
		}
		return "see the broker's log"
	case packet.PayloadFormatInvalid:
		return "the publisher says that the payload is UTF-8 and it is not: mend the publisher"
	case packet.QuotaExceeded:
		if in {
			return "make room on the disk, or raise the limit that is named; nothing is lost meanwhile"
		}
		return "raise the broker's quota; nothing is lost meanwhile"
	}
	if in {
		return "see the log for why Weir cannot store; nothing is lost meanwhile"
	}
	return "see the broker's log, or leave the topic out of the link's filters; nothing is lost meanwhile"
}

// quiet keeps one cause from filling the log: a line in ten seconds.
type quiet struct {
	mu      sync.Mutex
	until   time.Time
	skipped int
}

const quietFor = 10 * time.Second

// may reports whether a line may be written, and how many were not since the last.
func (q *quiet) may(now time.Time) (skipped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.until) {
		q.skipped++
		return 0, false
	}
	skipped, q.skipped, q.until = q.skipped, 0, now.Add(quietFor)
	return skipped, true
}
