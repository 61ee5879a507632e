package mqtt

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// counters is what the server counts.
type counters struct {
	traffic struct {
		messagesIn        [3]atomic.Uint64 // by QoS
		committed         atomic.Uint64
		bytesIn, bytesOut atomic.Uint64
		wills             atomic.Uint64
		untimed, copies   atomic.Uint64
	}
	sent     [3]atomic.Uint64 // by QoS
	refusals struct {
		connections, logins, protocol, messages, keepAlive, slow atomic.Uint64
	}
	throttled struct {
		refused, slowed atomic.Uint64
	}
	drops struct {
		slow, tooLarge, retention, corrupt, downlink, route, retained atomic.Uint64
	}
	refused       refusedCounts
	sessionCounts struct {
		takenOver, expired atomic.Uint64
	}
	quiet atomic.Int64 // unix seconds until which refusals are not logged again
	lines quietly      // about connections
}

// Status is a snapshot for GET /v1/status.
type Status struct {
	Connections     int    `json:"connections"`
	Sessions        int    `json:"sessions"`
	Subscriptions   int    `json:"subscriptions"`
	Shares          int    `json:"shared_subscriptions"`
	Retained        int    `json:"retained_messages"`
	RetainedBytes   int64  `json:"retained_bytes"`
	MessagesIn      uint64 `json:"messages_in"`
	Committed       uint64 `json:"messages_committed"`
	MessagesOut     uint64 `json:"messages_out"`
	Refused         uint64 `json:"messages_refused"`
	Dropped         uint64 `json:"messages_dropped"`
	SessionsExpired uint64 `json:"sessions_expired"`
}

// Status returns a snapshot.
func (srv *Server) Status() Status {
	srv.mu.Lock()
	st := Status{Connections: len(srv.conns), Sessions: len(srv.sessions)}
	srv.mu.Unlock()
	srv.subs.mu.RLock()
	st.Subscriptions = srv.subs.size
	srv.subs.mu.RUnlock()
	srv.sharing.Lock()
	st.Shares = len(srv.shares)
	srv.sharing.Unlock()
	st.Retained, st.RetainedBytes = srv.retained.count()
	for qos := range srv.sent {
		st.MessagesIn += srv.traffic.messagesIn[qos].Load()
		st.MessagesOut += srv.sent[qos].Load()
	}
	st.Committed = srv.traffic.committed.Load()
	st.Refused = srv.refused.total()
	for _, d := range srv.dropList() {
		st.Dropped += d.n.Load()
	}
	st.SessionsExpired = srv.sessionCounts.expired.Load()
	return st
}

type reasonCount struct {
	reason string
	n      *atomic.Uint64
}

// dropList is the messages that are not delivered, by reason. A drop by route is what
// the operator asked for; the others are losses.
func (srv *Server) dropList() []reasonCount {
	d := &srv.drops
	return []reasonCount{{"slow_subscriber", &d.slow}, {"packet_too_large", &d.tooLarge}, {"retention", &d.retention},
		{"corrupt_batch", &d.corrupt}, {"downlink_topic", &d.downlink}, {"route", &d.route}, {"retained_limit", &d.retained}}
}

// Metrics writes the server's figures.
func (srv *Server) Metrics(w *metric.Writer) {
	st := srv.Status()
	w.Gauge("weir_mqtt_connections", "MQTT connections.", float64(st.Connections))
	w.Gauge("weir_mqtt_sessions", "MQTT sessions, connected or not.", float64(st.Sessions))
	w.Gauge("weir_mqtt_subscriptions", "Subscriptions of connected MQTT sessions.", float64(st.Subscriptions))
	w.Gauge("weir_mqtt_shared_subscriptions", "Shared subscriptions, with or without connected members.", float64(st.Shares))
	w.Gauge("weir_mqtt_retained_messages", "Retained MQTT messages.", float64(st.Retained))
	w.Gauge("weir_mqtt_retained_bytes", "Memory taken by retained MQTT messages.", float64(st.RetainedBytes))
	for qos := range srv.sent {
		w.Counter("weir_mqtt_messages_received_total", "MQTT messages received.", float64(srv.traffic.messagesIn[qos].Load()), "qos", digits[qos])
	}
	w.Counter("weir_mqtt_messages_committed_total", "MQTT messages on stable storage.", float64(st.Committed))
	for qos := range srv.sent {
		w.Counter("weir_mqtt_messages_sent_total", "MQTT messages sent to subscribers.", float64(srv.sent[qos].Load()), "qos", digits[qos])
	}
	for _, d := range srv.dropList() {
		w.Counter("weir_mqtt_messages_dropped_total", "MQTT messages not delivered, by reason.", float64(d.n.Load()), "reason", d.reason)
	}
	srv.refused.metrics(w)
	r := &srv.refusals
	for _, c := range []reasonCount{{"refused", &r.connections}, {"protocol_error", &r.protocol}, {"message_refused", &r.messages}, {"keep_alive", &r.keepAlive},
		{"slow", &r.slow}, {"taken_over", &srv.sessionCounts.takenOver}} {
		w.Counter("weir_mqtt_connections_closed_total", "MQTT connections ended by the server, by reason.", float64(c.n.Load()), "reason", c.reason)
	}
	w.Counter("weir_mqtt_logins_failed_total", "Connections of MQTT clients that could not say who they are.", float64(r.logins.Load()))
	w.Counter("weir_mqtt_throttled_total", "Messages beyond a rate: refused, or waited for.", float64(srv.throttled.refused.Load()), "how", "refused")
	w.Counter("weir_mqtt_throttled_total", "Messages beyond a rate: refused, or waited for.", float64(srv.throttled.slowed.Load()), "how", "slowed")
	srv.doorMetrics(w)
	w.Counter("weir_mqtt_sessions_expired_total", "MQTT sessions that expired.", float64(st.SessionsExpired))
	w.Counter("weir_mqtt_wills_total", "Wills published.", float64(srv.traffic.wills.Load()))
	w.Gauge("weir_mqtt_wills_waiting", "Wills whose time has come and which cannot be published yet.", float64(srv.wills.count()))
	w.Counter("weir_mqtt_copies_total", "Further records of MQTT messages that several routes store (continue).", float64(srv.traffic.copies.Load()))
	w.Counter("weir_mqtt_untimed_total", "MQTT messages whose payload did not have the timestamp that their route names.", float64(srv.traffic.untimed.Load()))
	w.Counter("weir_mqtt_received_bytes_total", "Bytes from MQTT clients.", float64(srv.traffic.bytesIn.Load()))
	w.Counter("weir_mqtt_sent_bytes_total", "Bytes to MQTT clients.", float64(srv.traffic.bytesOut.Load()))
}

// logRefused and storageFailed log that messages are refused, at most once a second:
// when the disk is full, every device would write a line.
func (srv *Server) logRefused(c *conn, topic []byte, err error) {
	if srv.mayLog() {
		srv.opts.Log.Error("mqtt: message refused", "client", c.id, "topic", string(topic), "err", err)
	}
}

func (srv *Server) storageFailed(err error) {
	if srv.mayLog() {
		srv.opts.Log.Error("mqtt: messages not committed", "err", err)
	}
}

func (srv *Server) mayLog() bool {
	now, until := time.Now().Unix(), srv.quiet.Load()
	return now >= until && srv.quiet.CompareAndSwap(until, now+1)
}

// quietly keeps what hostile clients cause from filling the log: a line a second, which
// says how many there were that it stands for.
type quietly struct {
	until   atomic.Int64 // unix seconds
	skipped atomic.Uint64
}

// may reports whether a line may be written, and how many were not since the last.
func (q *quietly) may() (skipped uint64, ok bool) {
	now, until := time.Now().Unix(), q.until.Load()
	if now >= until && q.until.CompareAndSwap(until, now+1) {
		return q.skipped.Swap(0), true
	}
	q.skipped.Add(1)
	return 0, false
}

// turnedAway notes a connection that was not served at all.
func (srv *Server) turnedAway(c *conn, cause string) {
	srv.refusals.connections.Add(1)
	c.door.refused.Add(1)
	if n, ok := srv.lines.may(); ok {
		srv.opts.Log.Warn("mqtt: connection refused", "listener", c.door.Name, "remote", c.remote, "cause", cause, "not_logged", n)
	}
}

// closedFor notes a connection that ends by its client's fault.
func (srv *Server) closedFor(c *conn, pe *packet.Error) {
	if n, ok := srv.lines.may(); ok {
		srv.opts.Log.Warn("mqtt: connection closed", "client", c.id, "listener", c.door.Name, "remote", c.remote, "reason", pe.Reason.String(), "err", pe, "not_logged", n)
	}
}

// doorMetrics writes the figures of each listener.
func (srv *Server) doorMetrics(w *metric.Writer) {
	srv.mu.Lock()
	doors := slices.Clone(srv.doors)
	open := make([]int, len(doors))
	for i, d := range doors {
		open[i] = d.open
	}
	srv.mu.Unlock()
	for i, d := range doors {
		w.Gauge("weir_mqtt_listener_connections", "MQTT connections, by listener.", float64(open[i]), "listener", d.Name)
	}
	for _, d := range doors {
		w.Counter("weir_mqtt_listener_refused_total", "MQTT connections refused before a word, by listener.", float64(d.refused.Load()), "listener", d.Name)
	}
}
