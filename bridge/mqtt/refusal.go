package mqtt

import (
	"errors"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// cause is why a message is not taken: the label "reason" of the metrics that count
// refusals. docs/bridge.md says of each what a client hears and what mends it.
type cause uint8

const (
	byProtocol cause = iota // not as the standard has it: the connection ends
	byTopic                 // its name is too long, too deep or the server's own
	byACL
	byRate     // max_publish_rate, max_publish_bytes, of the client or its listener
	byQuota    // the client's, of Kafka's kind
	byRoute    // the routes lead it nowhere
	byOversize // for a packet, or for its Kafka topic
	byRetained // max_retained, max_retained_bytes
	byDiskFull
	byStorage
	causes
)

var causeNames = [causes]string{"protocol", "topic", "acl", "rate", "quota", "route", "oversize", "retained", "disk_full", "storage"}

// refusal is an error for which a message is not taken, of a cause that it does not tell.
type refusal struct {
	cause
	error
}

func (r *refusal) Unwrap() error { return r.error }

// causeOf is the cause that an error is counted as.
func causeOf(err error) cause {
	var r *refusal
	var pe *packet.Error
	switch {
	case errors.As(err, &r):
		return r.cause
	case errors.Is(err, record.ErrDiskFull):
		return byDiskFull
	case errors.Is(err, record.ErrTooLarge):
		return byOversize
	case errors.As(err, &pe), errors.Is(err, record.ErrInvalidRecord): // a router's, or of a topic that it chose
		return byRoute
	}
	return byStorage
}

// refusedCounts counts the messages that are not taken, each once.
type refusedCounts struct {
	all    [causes]atomic.Uint64
	silent [causes]atomic.Uint64 // of all: of QoS 0, whose clients are not told
	wills  [causes]atomic.Uint64 // of all: wills, which are lost at any QoS
}

// countRefused counts n messages that are not taken because of err, silent of which are of
// QoS 0.
func (srv *Server) countRefused(err error, n, silent int) {
	why := causeOf(err)
	srv.refused.all[why].Add(uint64(n))
	srv.refused.silent[why].Add(uint64(silent))
	if why == byDiskFull || why == byStorage {
		srv.opts.Lost()
	}
}

// silent is 1 for a message of QoS 0.
func silent(m *packet.Publish) int {
	if m.QoS == 0 {
		return 1
	}
	return 0
}

// total is all that is counted.
func (r *refusedCounts) total() (n uint64) {
	for i := range r.all {
		n += r.all[i].Load()
	}
	return n
}

func (r *refusedCounts) metrics(w *metric.Writer) {
	for i, name := range causeNames {
		w.Counter("weir_mqtt_messages_refused_total", "MQTT messages that came in and were not taken, by reason.", float64(r.all[i].Load()), "reason", name)
	}
	for i, name := range causeNames {
		w.Counter("weir_mqtt_qos0_lost_total", "Those of the refused MQTT messages that are of QoS 0, so that nobody was told, by reason.", float64(r.silent[i].Load()), "reason", name)
	}
	for i, name := range causeNames {
		w.Counter("weir_mqtt_wills_lost_total", "Wills that were not published, by reason.", float64(r.wills[i].Load()), "reason", name)
	}
}

// refuse answers a message that cannot be taken: MQTT 5 is told in the PUBACK, in
// its turn; 3.1.1 gets none and is closed, so that it does not believe otherwise.
func (c *conn) refuse(p *packet.Publish, topic []byte, err error) error {
	c.srv.logRefused(c, topic, err)
	c.srv.countRefused(err, 1, silent(p))
	switch {
	case p.QoS == 0:
		return nil
	case c.version == packet.V5:
		c.acks.refuse(c, ackOf(p.QoS), p.PacketID, err)
		c.out.flush()
		return nil
	}
	return &refusal{causeOf(err), err}
}

// breach counts a PUBLISH that ends the connection, which tells the client, and returns err.
func (c *conn) breach(err error) error {
	if err != errDone {
		c.srv.countRefused(&refusal{byProtocol, err}, 1, 0)
	}
	return err
}

// countOversize counts a packet that is not even read if it is a PUBLISH.
func (c *conn) countOversize(f packet.Frame, err error) {
	if c.sess == nil || f.Type != packet.TypePublish {
		return
	}
	why := byProtocol
	if reasonOf(err) == packet.PacketTooLarge {
		why = byOversize
	}
	c.srv.countRefused(&refusal{why, err}, 1, 0)
}
