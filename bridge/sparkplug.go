package bridge

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/bridge/sparkplug"
)

// Sparkplug is what is asked of the bridge about topics of Sparkplug B, spBv1.0/...
type Sparkplug struct {
	Enable bool
	sparkplug.Limits
}

// HeaderStale marks the records of an edge node's messages that came without a birth
// before them, or after a gap. A record without it can be relied on.
const HeaderStale = "mqtt.sparkplug-stale"

// maxAsks is how many requests for births wait to be published; an edge node whose
// request finds no room is asked with a later message.
const maxAsks = 1024

// edge follows the edge nodes of Sparkplug B.
type edge struct {
	tracker *sparkplug.Tracker
	limits  sparkplug.Limits
	now     func() time.Time
	log     *slog.Logger
	full    atomic.Bool // and the log says so
	unsent  atomic.Uint64
	asks    chan string // topics of NCMDs to publish
	done    chan struct{}
}

// follow has the router follow edge nodes, and the server say what it loses of them.
func (o *Options) follow(r *Router) *edge {
	if !o.Sparkplug.Enable {
		return nil
	}
	e := &edge{tracker: sparkplug.New(o.Sparkplug.Limits), limits: o.Sparkplug.WithDefaults(), now: o.MQTT.Now, log: o.MQTT.Log,
		asks: make(chan string, maxAsks), done: make(chan struct{})}
	if e.now == nil {
		e.now = time.Now
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	r.edge, o.MQTT.Lost = e, e.tracker.Doubt
	return e
}

// mark observes a message and marks its records if they cannot be relied on.
func (e *edge) mark(topic, payload []byte, ways []mqtt.Route) {
	t, ok := sparkplug.ParseTopic(topic)
	if !ok {
		return
	}
	v := e.tracker.Observe(e.now(), t, payload)
	if v.Stale {
		for i := range ways {
			ways[i].Headers = mqtt.AppendHeader(ways[i].Headers, HeaderStale, "true")
			ways[i].Count++
		}
	}
	if v.Rebirth {
		e.ask(&t)
	}
	if v.Full && e.full.CompareAndSwap(false, true) {
		e.log.Warn("sparkplug: more edge nodes or devices than are followed: their messages are stored, marked as stale, and no births are asked for; raise mqtt.sparkplug.max_nodes or max_devices",
			"node", string(t.Group)+"/"+string(t.Node), "max_nodes", e.limits.MaxNodes, "max_devices", e.limits.MaxDevices)
	}
}

// ask has a node asked for its birth. It does not wait: it is called while a message is taken.
func (e *edge) ask(t *sparkplug.Topic) {
	select {
	case e.asks <- sparkplug.Command(string(t.Group), string(t.Node)):
	default:
		e.unsent.Add(1)
	}
}

// run publishes the requests until stop is closed.
func (e *edge) run(server *mqtt.Server, stop <-chan struct{}) {
	defer close(e.done)
	for {
		select {
		case <-stop:
			return
		case topic := <-e.asks:
			e.log.Info("sparkplug: an edge node is asked for its birth", "topic", topic)
			m := packet.Publish{Topic: []byte(topic), Payload: sparkplug.AppendRebirth(nil, uint64(e.now().UnixMilli()))}
			if err := server.Publish(&m); err != nil {
				e.unsent.Add(1)
				e.log.Error("sparkplug: the request for a birth cannot be published", "topic", topic, "err", err)
			}
		}
	}
}

// status is nil while edge nodes are not followed.
func (e *edge) status() *sparkplug.Status {
	if e == nil {
		return nil
	}
	st := e.tracker.Status()
	return &st
}

func (e *edge) metrics(w *metric.Writer) {
	if e == nil {
		return
	}
	e.tracker.Metrics(w)
	w.Counter("weir_sparkplug_rebirths_unsent_total", "Requests for births that could not be published.", float64(e.unsent.Load()))
}
