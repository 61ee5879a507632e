package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// GapSession is the reason of a gap that is one client's only: retention was faster.
const GapSession = "mqtt-session"

const (
	feedBytes  = 256 << 10       // one read of a feed
	retryAfter = 1 * time.Second // after a read that failed
)

// feed reads one partition at its committed end and offers every message to the
// sessions that are up to date there ("live"). A session that cannot take a
// QoS 1 message falls behind: it keeps the offset and reads the log itself until
// it has caught up. So a feed never waits for a subscriber and holds no queue.
//
// Lock order: feed.mu, session.mu, outbox.mu.
type feed struct {
	srv    *Server
	tp     record.TopicPartition
	id     [16]byte // of the topic when the feed began
	idx    int      // in Server.feeds and session.cursors
	origin int64    // offset from which the partition concerns MQTT at all
	eras   eras     // what its records are
	wake   chan struct{}
	gone   atomic.Bool // the topic was deleted; another feed follows the next of that name

	mu     sync.Mutex // held while one batch is offered, and to join the live sessions
	next   atomic.Int64
	parked bool // nobody is subscribed; next is stale
	dec    record.Decoder
	msg    message
	found  []*subscription
	seen   map[*session]int
	offers []offer
	shares []*share
	touch  []*conn
}

// offer is one session's claim to the message at hand.
type offer struct {
	best   *subscription // the one with the greatest QoS
	subIDs []uint32
	local  bool // a subscription without No Local is among those that match
	rap    bool // one with Retain As Published is
	qos    byte
	share  *share // the message comes by a shared subscription
}

func newFeed(srv *Server, tp record.TopicPartition, idx int, origin int64) *feed {
	f := &feed{srv: srv, tp: tp, idx: idx, origin: origin, parked: true,
		wake: make(chan struct{}, 1), seen: make(map[*session]int), dec: record.Decoder{RawHeaders: true}}
	f.id, _ = srv.log.TopicID(tp.Topic)
	f.next.Store(origin)
	return f
}

// unpark makes the feed follow the partition from its present end on. On return
// whatever is committed later will be offered.
func (f *feed) unpark() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.parked {
		return nil
	}
	_, end, err := f.srv.log.Offsets(f.tp)
	if err != nil {
		return err
	}
	f.next.Store(end)
	f.parked = false
	f.rouse()
	return nil
}

func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// park reports whether the feed may rest because nobody is subscribed.
func (f *feed) park() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.srv.live.Load() == 0 {
		f.parked = true
	}
	return f.parked
}

func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil && !f.gone.Load() {
		if f.park() {
			select {
			case <-f.wake:
			case <-ctx.Done():
			}
			continue
		}
		bs, err := f.fetch(ctx)
		if err != nil {
			f.mend(ctx, err)
			continue
		}
		if f.park() {
			continue
		}
		for b := range bs.All() {
			f.batch(b)
		}
		f.flush()
	}
}

// fetch waits for what comes next in the topic that this feed is for. It looks
// twice, because another topic may take the name before or while it waits.
func (f *feed) fetch(ctx context.Context) (record.Batches, error) {
	if f.replaced() {
		return nil, record.ErrUnknownTopicOrPartition
	}
	bs, err := f.srv.log.Fetch(ctx, f.tp, f.next.Load(), feedBytes)
	if err == nil && f.replaced() {
		return nil, record.ErrUnknownTopicOrPartition
	}
	return bs, err
}

// replaced reports whether there is another topic of that name now. Its offsets
// mean nothing to this feed, even where they happen to exist.
func (f *feed) replaced() bool {
	id, ok := f.srv.log.TopicID(f.tp.Topic)
	return ok && id != f.id
}

// mend deals with a failed read: retention, or the end of the topic, may have moved
// the log under the feed.
func (f *feed) mend(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	start, end, oerr := f.srv.log.Offsets(f.tp)
	next := f.next.Load()
	switch {
	case errors.Is(oerr, record.ErrUnknownTopicOrPartition), f.replaced(), oerr == nil && next > end:
		f.end(ctx)
	case errors.Is(err, record.ErrOffsetOutOfRange) && oerr == nil && next < start:
		f.lost("", next, start)
		f.mu.Lock()
		f.next.Store(start)
		f.tellLive(next, start)
		f.mu.Unlock()
	default:
		f.srv.opts.Log.Error("mqtt: feed cannot read", "partition", f.tp.String(), "err", err)
		sleep(ctx, retryAfter)
	}
}

// end ends a feed whose topic was deleted. A topic of the same name has other
// messages at the same offsets, so it gets another feed: at once if it is there
// already, with the next message that is routed there, or, for a downlink, as soon
// as somebody makes it.
func (f *feed) end(ctx context.Context) {
	f.srv.opts.Log.Warn("mqtt: topic was deleted", "partition", f.tp.String())
	f.leave()
	for {
		start, _, err := f.srv.log.Offsets(f.tp)
		if err == nil {
			err = f.srv.replace(f, start)
		}
		switch {
		case err == nil || ctx.Err() != nil || f.eras.latest() == nil && errors.Is(err, record.ErrUnknownTopicOrPartition):
			return
		case !errors.Is(err, record.ErrUnknownTopicOrPartition):
			f.srv.opts.Log.Error("mqtt: feed cannot begin again", "partition", f.tp.String(), "err", err)
		}
		sleep(ctx, retryAfter)
	}
}

// leave marks the feed as gone, in memory and in the store.
func (f *feed) leave() {
	if !f.gone.Swap(true) {
		f.srv.forgetTopic(f.tp.Topic)
		f.srv.store.dropOrigin(f.tp)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (f *feed) batch(b record.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.next.Load()
	if b.NextOffset() <= next {
		return
	}
	var r record.Record
	err := error(nil)
	if !b.Control() {
		err = f.dec.Reset(b)
		for ok := true; err == nil; {
			if ok, err = f.dec.Next(&r); !ok || err != nil {
				break
			}
			if r.Offset >= next && f.read(&r, &f.msg) {
				f.offer(&f.msg)
			}
		}
	}
	if err != nil {
		f.srv.drops.corrupt.Add(1)
		f.srv.opts.Log.Error("mqtt: batch cannot be delivered", "partition", f.tp.String(), "offset", b.BaseOffset(), "err", err)
	}
	f.next.Store(b.NextOffset())
}

// read makes a message of a record; false when it is not one for MQTT.
func (f *feed) read(r *record.Record, m *message) bool {
	if d := f.eras.at(r.Offset); d != nil {
		return f.readDown(d, r, m)
	}
	return m.decode(r, f.srv.opts.Age) && (!m.expired || m.late)
}

// offer gives the message once to every session that has a filter for it, by the
// greatest QoS of its filters [MQTT-3.3.4-2].
func (f *feed) offer(m *message) {
	f.found = f.srv.subs.match(f.found[:0], m.topic)
	if len(f.found) == 0 {
		return
	}
	f.offers, f.shares = f.offers[:0], f.shares[:0]
	if len(f.found) > 1 {
		clear(f.seen)
	}
	for _, sub := range f.found {
		if sub.share != nil {
			f.shares = append(f.shares, sub.share)
			continue
		}
		if !sub.covers(f, m.offset) {
			continue
		}
		if len(f.found) > 1 {
			if i, ok := f.seen[sub.sess]; ok {
				f.offers[i].merge(sub)
				continue
			}
			f.seen[sub.sess] = len(f.offers)
		}
		f.offers = append(f.offers, offer{})
		f.offers[len(f.offers)-1].merge(sub)
	}
	for i := range f.offers {
		if c := f.offers[i].best.sess.offer(f, m, &f.offers[i]); c != nil && c.out.touch() {
			f.touch = append(f.touch, c)
		}
	}
	for _, g := range f.shares {
		if c := g.offer(f, m); c != nil && c.out.touch() {
			f.touch = append(f.touch, c)
		}
	}
}

func (o *offer) merge(sub *subscription) {
	if o.best == nil || sub.qos > o.best.qos {
		o.best = sub
	}
	o.qos = max(o.qos, sub.qos)
	o.local = o.local || !sub.noLocal
	o.rap = o.rap || sub.retainAsPublished
	if sub.id != 0 {
		o.subIDs = append(o.subIDs, sub.id) // [MQTT-3.3.4-3]
	}
}

// flush starts the writers of all connections that were given something, once each.
func (f *feed) flush() {
	for i, c := range f.touch {
		c.out.untouch()
		f.touch[i] = nil
	}
	f.touch = f.touch[:0]
}

// tellLive has the sessions that are live here told of messages that nobody got.
func (f *feed) tellLive(from, to int64) {
	for _, s := range f.srv.sessionList() {
		s.mu.Lock()
		if s.conn != nil && len(s.subs) > 0 && !s.cursorOf(f.idx).behind {
			s.noteGap(f, from, to)
		}
		s.mu.Unlock()
	}
}

// lost notes that a client or a share asked for offsets that retention has removed.
func (f *feed) lost(who string, from, to int64) {
	detail := "not delivered to any MQTT client"
	if who != "" {
		detail = "not delivered to MQTT client " + who
	}
	f.srv.drops.retention.Add(uint64(to - from))
	f.srv.opts.Log.Warn("mqtt: retention has removed messages before they were delivered", "client", who,
		slog.String("partition", f.tp.String()), "from", from, "to", to)
	f.srv.log.ReportGap(record.Gap{Topic: f.tp.Topic, Partition: f.tp.Partition, FirstOffset: from, LastOffset: to - 1, Count: to - from,
		Reason: GapSession, Detail: detail, Time: f.srv.opts.Now().UTC()})
}

// subscription is one filter of one session. It never changes; SUBSCRIBE to the same
// filter puts another in its place [MQTT-3.8.4-3].
type subscription struct {
	sess              *session
	filter            string
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                uint32
	// since is the high watermark of each feed when SUBSCRIBE came: what had been
	// published before is not for this subscription. Feeds beyond its end are newer.
	since []int64
	asked []int64 // the same for the last SUBSCRIBE, whose retained messages lie before
	ended bool    // guarded by sess.mu: unsubscribed or replaced
	share *share  // of a shared subscription
}

func (s *subscription) covers(f *feed, offset int64) bool { return covers(s.since, f, offset) }

func covers(since []int64, f *feed, offset int64) bool {
	return f.idx >= len(since) || offset >= since[f.idx]
}

func (s *subscription) matches(f *feed, m *message) bool {
	return s.share == nil && s.covers(f, m.offset) && packet.Match(s.filter, m.topic)
}
