package mqtt

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// share is the members of one shared subscription, $share/NAME/FILTER, and their one
// place in each partition: like a session it is live with the feeds while a member has
// room, and reads the log itself when none has. Each message goes to one member, in
// turn. What a member leaves unacknowledged goes to another, but for QoS 2, which is
// the member's own until its session ends ([MQTT-4.8.2-4], [MQTT-4.8.2-5]).
//
// Lock order: feed.mu, share.mu, session.mu.
type share struct {
	srv   *Server
	key   string        // $share/NAME/FILTER
	entry *subscription // in the trie, while a member is connected

	mu sync.Mutex
	places
	members  map[*session]*subscription
	live     []*subscription // of connected members
	turn     int
	returned []returned
	stored   bool // is in the sessions topic
	gone     bool
	pumping  bool
	starved  atomic.Bool // the pump waits for a member with room
	wake     chan struct{}
}

// returned is a message that a member did not acknowledge before it left.
type returned struct {
	feed   *feed
	offset int64
}

const (
	sharePrefix = "$share/"
	// shareKey begins the keys of shares in SessionsTopic.
	shareKey    = "\x00share\x00"
	shareFormat = 1
)

// cutShare splits a shared subscription's filter ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
func cutShare(filter string) (name, rest string, err error) {
	name, rest, found := strings.Cut(strings.TrimPrefix(filter, sharePrefix), "/")
	if !found || name == "" || rest == "" || strings.ContainsAny(name, "+#") {
		return "", "", &packet.Error{Reason: packet.TopicFilterInvalid, Clause: "MQTT-4.8.2-2", Text: "a shared subscription is $share/NAME/FILTER, without + or # in NAME"}
	}
	return name, rest, packet.CheckFilter(rest)
}

// share returns the share of a filter. since is where a new one begins, by feed; nil
// for one that is restored.
func (srv *Server) share(key string, since []int64) *share {
	srv.sharing.Lock()
	defer srv.sharing.Unlock()
	if g := srv.shares[key]; g != nil {
		return g
	}
	_, filter, _ := cutShare(key)
	g := &share{srv: srv, key: key, members: map[*session]*subscription{}, wake: make(chan struct{}, 1)}
	g.entry = &subscription{filter: filter, share: g}
	for i, offset := range since {
		g.cursorOf(i).next = offset
	}
	if srv.shares == nil {
		srv.shares = map[string]*share{}
	}
	srv.shares[key] = g
	return g
}

// join makes sub a connected member.
func (srv *Server) join(sub *subscription, since []int64) {
	for {
		g := srv.share(sub.filter, since)
		g.mu.Lock()
		if g.gone { // its last member left this moment
			g.mu.Unlock()
			continue
		}
		sub.share = g
		if old := g.members[sub.sess]; old != nil {
			g.withdraw(old)
		}
		g.members[sub.sess] = sub
		g.enter(sub)
		g.mu.Unlock()
		return
	}
}

// enter counts a member as connected. g.mu is held.
func (g *share) enter(sub *subscription) {
	if g.members[sub.sess] != sub {
		return
	}
	if g.live = append(g.live, sub); len(g.live) == 1 {
		g.resume(g.srv.feedList())
		g.srv.subs.add(g.entry)
	}
	g.startPump()
	g.rouse()
}

// withdraw counts a member as not connected. g.mu is held.
func (g *share) withdraw(sub *subscription) {
	i := slices.Index(g.live, sub)
	if i < 0 {
		return
	}
	if g.live = slices.Delete(g.live, i, i+1); len(g.live) == 0 {
		g.srv.subs.remove(g.entry)
		g.suspend(g.srv.feedList())
	}
	g.rouse()
}

// exit is withdraw for a connection that ends; it takes what was not acknowledged back.
func (g *share) exit(sub *subscription, back []returned) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.withdraw(sub)
	g.giveBack(back)
}

func (g *share) giveBack(back []returned) {
	if g.returned = append(g.returned, back...); len(g.returned) > 0 {
		g.startPump()
		g.rouse()
	}
}

// leave ends a membership; the last one ends the share.
func (g *share) leave(sub *subscription, back []returned) {
	g.srv.sharing.Lock()
	defer g.srv.sharing.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.withdraw(sub)
	g.giveBack(back)
	if g.members[sub.sess] == sub {
		delete(g.members, sub.sess)
	}
	if len(g.members) > 0 || g.gone {
		return
	}
	g.gone = true
	if g.srv.shares[g.key] == g {
		delete(g.srv.shares, g.key)
	}
	if g.stored {
		g.srv.store.saves.Add(1)
		g.srv.store.table.put(&record.Record{Key: []byte(shareKey + g.key)}, func(error) { g.srv.store.saves.Done() })
	}
}

func (g *share) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// offer is called by a feed with a message that matches. It returns the connection
// whose output has grown, if any.
func (g *share) offer(f *feed, m *message) *conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	cur := g.cursorOf(f.idx)
	if len(g.live) == 0 || cur.behind || m.offset < cur.next {
		return nil
	}
	c, ok := g.hand(f, m)
	if !ok {
		g.fallBehind(cur, m.offset)
		g.startPump()
		return nil
	}
	cur.next = m.offset + 1
	return c
}

// hand gives a message to the next member that has room; false when none has. g.mu is held.
func (g *share) hand(f *feed, m *message) (*conn, bool) {
	for i := range g.live {
		at := (g.turn + i) % len(g.live)
		if c, ok := g.live[at].sess.share(g.live[at], f, m); ok {
			g.turn = at + 1
			return c, true
		}
	}
	if m.qos == 0 {
		g.srv.drops.slow.Add(1)
		return nil, true
	}
	return nil, false
}

// share is offer for a message of a shared subscription; false when there is no room.
func (s *session) share(sub *subscription, f *feed, m *message) (*conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	if c == nil || sub.ended || !c.out.room() {
		return nil, false
	}
	var o offer
	o.merge(sub)
	o.local, o.share = true, sub.share
	return c, s.send(c, f, m, &o)
}

// rouseShares tells the shares that the session has room again. s.mu is held.
func (s *session) rouseShares() {
	for _, g := range s.shares {
		if g.starved.Load() {
			g.rouse()
		}
	}
}

// giveUp takes the messages of shares out of the session: those of QoS 1, and, when the
// session ends, those of QoS 2 that the client has never been sent. s.mu is held.
func (s *session) giveUp(ends bool) map[*share][]returned {
	var ids []uint16
	for id, fl := range s.inflight {
		if fl.share != nil && (fl.qos == 1 || ends && !fl.sent && !fl.tried) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(a, b uint16) int { return cmp.Compare(s.inflight[a].seq, s.inflight[b].seq) })
	out := map[*share][]returned{}
	for _, id := range ids {
		fl := s.inflight[id]
		out[fl.share] = append(out[fl.share], returned{fl.feed, fl.offset})
		s.land(id)
	}
	return out
}

// startPump starts the goroutine that serves the share from the log, if there is
// anything to serve. g.mu is held.
func (g *share) startPump() {
	if g.pumping || len(g.live) == 0 || len(g.returned) == 0 && g.behind == 0 {
		return
	}
	g.pumping = true
	g.srv.wg.Add(1)
	go func() {
		defer g.srv.wg.Done()
		p := sharePump{g: g, ctx: g.srv.ctx}
		for p.step() {
		}
	}()
}

// sharePump serves a share from the log: first what members returned, then what none
// had room for.
type sharePump struct {
	g    *share
	ctx  context.Context
	dec  record.Decoder
	seek seeker
	msg  message
}

// step does a bounded piece of work; false when there is none left.
func (p *sharePump) step() bool {
	g := p.g
	g.mu.Lock()
	if p.ctx.Err() != nil || len(g.live) == 0 || len(g.returned) == 0 && g.behind == 0 {
		g.pumping = false
		g.mu.Unlock()
		return false
	}
	err := error(nil)
	if len(g.returned) > 0 {
		r := g.returned[0]
		g.mu.Unlock()
		err = p.again(r)
	} else {
		idx, next := g.hindmost()
		g.mu.Unlock()
		err = p.catchUp(g.srv.feedAt(idx), next)
	}
	if err != nil && p.ctx.Err() == nil {
		g.srv.opts.Log.Error("mqtt: shared subscription cannot be served from the log", "filter", g.key, "err", err)
		sleep(p.ctx, retryAfter)
	}
	return true
}

// wait is called with g.mu held and returns without it, once there may be room.
func (p *sharePump) wait() {
	p.g.starved.Store(true)
	defer p.g.starved.Store(false)
	p.g.mu.Unlock()
	select {
	case <-p.g.wake:
	case <-p.ctx.Done():
	}
}

func (p *sharePump) again(r returned) error {
	found, err := p.seek.find(p.ctx, r.feed, r.offset, &p.msg)
	if err != nil {
		return err
	}
	g := p.g
	g.mu.Lock()
	if len(g.returned) == 0 || g.returned[0] != r {
		g.mu.Unlock()
		return nil
	}
	c, ok := (*conn)(nil), true
	if found {
		c, ok = g.hand(r.feed, &p.msg)
	} else {
		g.srv.drops.retention.Add(1)
	}
	if !ok {
		p.wait()
		return nil
	}
	g.returned = g.returned[1:]
	g.mu.Unlock()
	if c != nil {
		c.out.flush()
	}
	return nil
}

// catchUp is pump.catchUp for a share.
func (p *sharePump) catchUp(f *feed, next int64) error {
	g := p.g
	if next >= f.next.Load() || f.gone.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.overtake(f)
		return nil
	}
	bs, err := g.srv.log.Fetch(p.ctx, f.tp, next, catchUpBytes)
	if errors.Is(err, record.ErrOffsetOutOfRange) {
		start, _, err := g.srv.log.Offsets(f.tp)
		if err != nil {
			return err
		}
		if next < start {
			f.lost(g.key, next, start)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cursorOf(f.idx).next = start
		return nil
	}
	if err != nil {
		return err
	}
	p.dec.RawHeaders = true
	for b := range bs.All() {
		if full, err := p.batch(f, b, next); err != nil || full {
			return err
		}
	}
	return nil
}

func (p *sharePump) batch(f *feed, b record.Batch, next int64) (full bool, err error) {
	g := p.g
	var r record.Record
	if !b.Control() {
		err = p.dec.Reset(b)
	}
	for ok := !b.Control(); ok && err == nil; {
		if ok, err = p.dec.Next(&r); !ok || err != nil {
			break
		}
		if r.Offset < next || !f.read(&r, &p.msg) || !packet.Match(g.entry.filter, p.msg.topic) {
			continue
		}
		g.mu.Lock()
		if g.cursorOf(f.idx).next = r.Offset; len(g.live) == 0 {
			g.mu.Unlock()
			return true, nil
		}
		c, ok := g.hand(f, &p.msg)
		if !ok {
			p.wait()
			return true, nil
		}
		g.cursorOf(f.idx).next = r.Offset + 1
		g.mu.Unlock()
		if c != nil {
			c.out.flush()
		}
	}
	if err != nil {
		g.srv.drops.corrupt.Add(1)
		g.srv.opts.Log.Error("mqtt: batch cannot be delivered", "filter", g.key, "partition", f.tp.String(), "offset", b.BaseOffset(), "err", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cursorOf(f.idx).next = b.NextOffset()
	return false, nil
}

// record is the share as it is stored: format, places, and what would have to go to
// another member after a restart. Members' messages of QoS 1 are here and not with
// their sessions. g.mu is held, and no session's.
func (g *share) record() record.Record {
	dst := g.encode([]byte{shareFormat}, g.srv.feedList(), len(g.live) > 0)
	open := slices.Clone(g.returned)
	for s := range g.members {
		s.mu.Lock()
		for _, fl := range s.inflight {
			if fl.share == g && fl.qos == 1 {
				open = append(open, returned{fl.feed, fl.offset})
			}
		}
		s.mu.Unlock()
	}
	open = slices.DeleteFunc(open, func(r returned) bool { return r.feed.gone.Load() })
	slices.SortFunc(open, func(a, b returned) int {
		return cmp.Or(cmp.Compare(a.feed.idx, b.feed.idx), cmp.Compare(a.offset, b.offset))
	})
	dst = binary.AppendUvarint(dst, uint64(len(open)))
	for _, r := range open {
		dst = binary.AppendUvarint(appendText(dst, r.feed.tp.Topic), uint64(r.feed.tp.Partition))
		dst = binary.AppendUvarint(dst, uint64(r.offset))
	}
	g.stored = true
	return record.Record{Key: []byte(shareKey + g.key), Value: dst}
}

func (g *share) restore(b []byte) error {
	f := fields{b: b}
	if f.byte() != shareFormat {
		return errSession
	}
	feeds := g.srv.feedsByName()
	g.decode(&f, g.srv.feedList())
	for n := f.num(); n > 0 && !f.bad; n-- {
		tp := record.TopicPartition{Topic: f.text(), Partition: int32(f.num())}
		offset := int64(f.num())
		if fd := feeds[tp]; fd != nil {
			g.returned = append(g.returned, returned{fd, offset})
		}
	}
	g.stored = true
	if f.bad || len(f.b) != 0 {
		return errSession
	}
	return nil
}
