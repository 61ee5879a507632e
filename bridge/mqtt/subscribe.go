package mqtt

import (
	"context"
	"errors"
	"strings"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// subscribe answers SUBSCRIBE. The subscriptions of a session that outlives its
// connection are stored before SUBACK says that they exist.
func (c *conn) subscribe(f packet.Frame) error {
	var p packet.Subscribe
	if err := p.Decode(f, c.version); err != nil {
		return err
	}
	for i := range p.Filters {
		if f := &p.Filters[i]; f.NoLocal && hasPrefix(f.Filter, sharePrefix) {
			return &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.8.3-4", Text: "No Local on a shared subscription"}
		}
	}
	c.in.stage() // do not hold up what was published before
	ack := packet.Suback{Type: packet.TypeSuback, PacketID: p.PacketID}
	since, err := c.srv.horizon(c.sess)
	for i := range p.Filters {
		code := packet.UnspecifiedError
		if err == nil {
			code = c.subscribeOne(&p, &p.Filters[i], since)
		}
		if code.Failed() && c.version != packet.V5 {
			code = packet.UnspecifiedError // the only failure of 3.1.1
		}
		ack.Codes = append(ack.Codes, code)
	}
	if err == nil {
		err = c.srv.save(c.ctx, c.sess)
	}
	if err != nil {
		return &packet.Error{Reason: packet.UnspecifiedError, Text: "subscriptions cannot be stored: " + err.Error()}
	}
	if err := c.answer(func(dst []byte) []byte { return ack.Append(dst, c.version) }); err != nil {
		return err
	}
	c.sess.mu.Lock()
	defer c.sess.mu.Unlock()
	if len(c.sess.retain) > 0 {
		c.sess.startPump(c)
	}
	return nil
}

func (c *conn) subscribeOne(p *packet.Subscribe, f *packet.Subscription, since []int64) packet.Reason {
	s := c.sess
	opts := &c.srv.opts
	if err := packet.CheckFilter(f.Filter); err != nil {
		return packet.TopicFilterInvalid
	}
	sub := &subscription{sess: s, filter: string(f.Filter), qos: min(f.QoS, MaxQoS), noLocal: f.NoLocal,
		retainAsPublished: f.RetainAsPublished, since: since, asked: since}
	if len(p.Props.SubscriptionIDs) > 0 {
		sub.id = p.Props.SubscriptionIDs[0]
	}
	shared := strings.HasPrefix(sub.filter, sharePrefix)
	if len(sub.filter) > opts.MaxTopicBytes || packet.Depth(f.Filter) > opts.MaxTopicLevels {
		return packet.TopicFilterInvalid
	}
	if !c.maySubscribe(sub.filter) {
		return packet.NotAuthorized
	}
	if shared {
		if _, _, err := cutShare(sub.filter); err != nil {
			return packet.TopicFilterInvalid
		}
	}
	s.mu.Lock()
	_, known := s.subs[sub.filter]
	full := !known && len(s.subs) >= opts.MaxFilters
	s.mu.Unlock()
	if full {
		return packet.QuotaExceeded
	}
	if shared {
		c.srv.join(sub, since)
	}
	c.add(sub, f.RetainHandling)
	return packet.Reason(sub.qos)
}

// add makes a subscription one of the session's.
func (c *conn) add(sub *subscription, retainHandling byte) {
	s := c.sess
	s.mu.Lock()
	old := s.subscribed(sub)
	if old != nil {
		old.ended = true
	}
	if sub.share != nil { // gets no retained messages
		s.shared(sub.share)
		s.mu.Unlock()
		return
	}
	if retainHandling == 0 || retainHandling == 1 && old == nil { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
		s.retain = append(s.retain, sub)
	}
	s.mu.Unlock()
	c.srv.subs.add(sub)
	if old != nil {
		c.srv.subs.remove(old)
	}
}

// unsubscribe answers UNSUBSCRIBE.
func (c *conn) unsubscribe(f packet.Frame) error {
	var p packet.Unsubscribe
	if err := p.Decode(f, c.version); err != nil {
		return err
	}
	c.in.stage()
	s := c.sess
	ack := packet.Suback{Type: packet.TypeUnsuback, PacketID: p.PacketID}
	for _, filter := range p.Filters {
		code := packet.Success
		if !c.srv.endSubscription(s, string(filter)) {
			code = packet.NoSubscriptionExisted
		}
		ack.Codes = append(ack.Codes, code)
	}
	if err := c.srv.save(c.ctx, s); err != nil {
		return &packet.Error{Reason: packet.UnspecifiedError, Text: "subscriptions cannot be stored: " + err.Error()}
	}
	c.srv.idle(s)
	return c.answer(func(dst []byte) []byte { return ack.Append(dst, c.version) })
}

// endSubscription reports whether there was one.
func (srv *Server) endSubscription(s *session, filter string) bool {
	s.mu.Lock()
	sub := s.subs[filter]
	if sub != nil {
		sub.ended, s.dirty = true, true // [MQTT-3.10.4-2]
		delete(s.subs, sub.filter)
		if sub.share != nil {
			s.unshared(sub.share) // what it has been sent stays its own [MQTT-3.10.4-3]
		}
	}
	s.mu.Unlock()
	switch {
	case sub == nil:
		return false
	case sub.share != nil:
		sub.share.leave(sub, nil)
	default:
		srv.subs.remove(sub)
	}
	return true
}

// horizon makes the feeds run and returns where each of them ends: a subscription
// that is made now gets what is committed from there on.
func (srv *Server) horizon(s *session) ([]int64, error) {
	s.mu.Lock()
	if !s.counted {
		s.counted = true
		srv.live.Add(1)
	}
	s.mu.Unlock()
	feeds := srv.feedList()
	since := make([]int64, len(feeds))
	for i, f := range feeds {
		if f.gone.Load() {
			continue
		}
		if err := f.unpark(); err != nil && !errors.Is(err, record.ErrUnknownTopicOrPartition) {
			return nil, err
		}
		_, end, err := srv.log.Offsets(f.tp)
		if err != nil && !errors.Is(err, record.ErrUnknownTopicOrPartition) {
			return nil, err
		}
		since[i] = end // 0 when the topic was just deleted
	}
	return since, nil
}

// idle lets the feeds rest once no connected session has a subscription.
func (srv *Server) idle(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted && (s.conn == nil || len(s.subs) == 0 && len(s.inflight) == 0) {
		s.counted = false
		srv.live.Add(-1)
	}
}

// save stores a session that outlives its connection, if it differs from what is
// stored, and waits until it is committed.
func (srv *Server) save(ctx context.Context, s *session) error {
	result := make(chan error, 1)
	if !srv.store.save(s, func(err error) { result <- err }) {
		return nil
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
