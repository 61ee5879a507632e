package mqtt

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// The $SYS topics are the server's own figures, under the names that operators know
// from mosquitto. They are not in the log: a subscription is sent them at once, as
// retained messages, and those that have changed every SysInterval after that, with
// QoS 0. While nobody is subscribed they cost nothing.

const sysPrefix = "$SYS/"

// sysTopics lists the names and what they say.
var sysTopics = []struct {
	name  string
	value func(srv *Server, st *Status) string
}{
	{"broker/version", func(srv *Server, _ *Status) string { return strings.TrimSpace("weir " + srv.opts.Version) }},
	{"broker/uptime", func(srv *Server, _ *Status) string {
		return number(uint64(time.Since(srv.started)/time.Second)) + " seconds"
	}},
	{"broker/clients/connected", func(_ *Server, st *Status) string { return number(uint64(st.Connections)) }},
	{"broker/clients/disconnected", func(_ *Server, st *Status) string {
		return number(uint64(max(0, st.Sessions-st.Connections)))
	}},
	{"broker/clients/total", func(_ *Server, st *Status) string { return number(uint64(max(st.Sessions, st.Connections))) }},
	{"broker/clients/expired", func(_ *Server, st *Status) string { return number(st.SessionsExpired) }},
	{"broker/subscriptions/count", func(_ *Server, st *Status) string { return number(uint64(st.Subscriptions)) }},
	{"broker/shared_subscriptions/count", func(_ *Server, st *Status) string { return number(uint64(st.Shares)) }},
	{"broker/retained messages/count", func(_ *Server, st *Status) string { return number(uint64(st.Retained)) }},
	{"broker/publish/messages/received", func(_ *Server, st *Status) string { return number(st.MessagesIn) }},
	{"broker/publish/messages/stored", func(_ *Server, st *Status) string { return number(st.Committed) }},
	{"broker/publish/messages/sent", func(_ *Server, st *Status) string { return number(st.MessagesOut) }},
	{"broker/publish/messages/refused", func(_ *Server, st *Status) string { return number(st.Refused) }},
	{"broker/publish/messages/dropped", func(_ *Server, st *Status) string { return number(st.Dropped) }},
	{"broker/bytes/received", func(srv *Server, _ *Status) string { return number(srv.traffic.bytesIn.Load()) }},
	{"broker/bytes/sent", func(srv *Server, _ *Status) string { return number(srv.traffic.bytesOut.Load()) }},
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// sysMessage is one figure in the form of a retained message.
func sysMessage(topic, value string) *retainedMessage {
	block := binary.AppendVarint(nil, 3)
	block = AppendHeader(block, HeaderTopic, topic)
	block = AppendHeader(block, HeaderQoS, digits[0])
	block = AppendHeader(block, HeaderRetain, "true")
	return &retainedMessage{topic: topic, payload: []byte(value), block: block}
}

// sysMatching returns the figures that a filter asks for. A filter that begins with a
// wildcard asks for none [MQTT-4.7.2-1].
func (srv *Server) sysMatching(filter string) (out []*retainedMessage) {
	if !strings.HasPrefix(filter, sysPrefix) {
		return nil
	}
	st := srv.Status()
	for _, s := range sysTopics {
		if topic := sysPrefix + s.name; packet.Match(filter, []byte(topic)) {
			out = append(out, sysMessage(topic, s.value(srv, &st)))
		}
	}
	return out
}

// sysLoop sends the figures that have changed to those who are subscribed.
func (srv *Server) sysLoop() {
	defer srv.wg.Done()
	ticker := time.NewTicker(srv.opts.SysInterval)
	defer ticker.Stop()
	last := map[string]string{}
	for {
		select {
		case <-srv.ctx.Done():
			return
		case <-ticker.C:
		}
		if !srv.subs.under("$SYS") {
			clear(last)
			continue
		}
		st := srv.Status()
		for _, s := range sysTopics {
			topic, value := sysPrefix+s.name, s.value(srv, &st)
			if last[topic] == value {
				continue
			}
			last[topic] = value
			srv.sysSend(topic, value)
		}
	}
}

func (srv *Server) sysSend(topic, value string) {
	r := sysMessage(topic, value).record()
	var m message
	m.decode(&r, srv.opts.Age)
	offers := map[*session]*offer{}
	for _, sub := range srv.subs.match(nil, m.topic) {
		if sub.share != nil { // figures are for each who asks, not for one of many
			continue
		}
		if offers[sub.sess] == nil {
			offers[sub.sess] = &offer{}
		}
		offers[sub.sess].merge(sub)
	}
	for s, o := range offers {
		s.mu.Lock()
		c := s.conn
		if c != nil {
			s.send(c, nil, &m, o)
		}
		s.mu.Unlock()
		if c != nil {
			c.out.flush()
		}
	}
}
