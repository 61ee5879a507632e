package mqtt

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// SessionsTopic is the internal topic that holds the sessions which outlive their
// connections, by client identifier, and where each feed begins.
const SessionsTopic = "__weir_sessions"

// originKey begins the keys of feed origins. No client identifier holds U+0000.
const originKey = "\x00feed\x00"

// Formats are the first byte of a stored session: 1 knew no QoS 2.
const (
	sessionFormat1 = 1
	sessionFormat  = 2
)

// store keeps sessions across restarts. What a session was sent since it was last
// stored is sent again after a crash: QoS 1 is at least once.
type store struct {
	srv   *Server
	table *table
	saves sync.WaitGroup // that are not committed yet

	// guarded by table.mu
	values  map[string][]byte // by key, as stored
	orders  map[string]int64
	loading bool
}

func openStore(ctx context.Context, srv *Server) (*store, error) {
	st := &store{srv: srv, values: map[string][]byte{}, orders: map[string]int64{}, loading: true}
	t, err := openTable(ctx, srv.log, SessionsTopic, st.applyRecord)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	st.table, st.loading = t, false
	maps.DeleteFunc(st.orders, func(k string, _ int64) bool { return st.values[k] == nil })
	return st, nil
}

func (st *store) applyRecord(r *record.Record, order int64) {
	key := string(r.Key)
	if st.orders[key] > order {
		return
	}
	st.orders[key] = order
	if r.Value == nil {
		if delete(st.values, key); !st.loading {
			delete(st.orders, key)
		}
		return
	}
	st.values[key] = slices.Clone(r.Value)
}

func (st *store) compact(ctx context.Context) error {
	st.table.mu.Lock()
	live := len(st.values)
	st.table.mu.Unlock()
	if !st.table.due(live) {
		return nil
	}
	return st.table.compact(ctx, func() []record.Record {
		out := make([]record.Record, 0, len(st.values))
		for k, v := range st.values {
			order := strconv.FormatInt(st.orders[k], 10)
			out = append(out, record.Record{Key: []byte(k), Value: v, Headers: []record.Header{{Key: headerOrder, Value: []byte(order)}}})
		}
		return out
	})
}

func originKeyOf(tp record.TopicPartition) string {
	return originKey + tp.Topic + "\x00" + strconv.Itoa(int(tp.Partition))
}

// dropOrigin forgets a partition whose topic was deleted.
func (st *store) dropOrigin(tp record.TopicPartition) {
	for _, key := range []string{originKeyOf(tp), erasKeyOf(tp)} {
		st.saves.Add(1)
		st.table.put(&record.Record{Key: []byte(key)}, func(error) { st.saves.Done() })
	}
}

// origin returns the offset from which a partition concerns MQTT. For a partition
// not met before that is at, or its present end when at is negative; it is stored first.
func (st *store) origin(tp record.TopicPartition, at int64) (int64, error) {
	key := originKeyOf(tp)
	st.table.mu.Lock()
	v := st.values[key]
	st.table.mu.Unlock()
	if len(v) == 8 && at < 0 {
		return int64(binary.BigEndian.Uint64(v)), nil
	}
	_, end, err := st.srv.log.Offsets(tp)
	if err != nil {
		return 0, err
	}
	if at >= 0 {
		end = at
	}
	r := record.Record{Key: []byte(key), Value: binary.BigEndian.AppendUint64(nil, uint64(end))}
	if err := st.table.putAll(st.srv.ctx, []record.Record{r}); err != nil {
		return 0, fmt.Errorf("mqtt: store where %s begins: %w", tp, err)
	}
	return end, nil
}

// restore makes the stored feeds and sessions.
func (st *store) restore() error {
	st.table.mu.Lock()
	values := maps.Clone(st.values)
	st.table.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(values)) { // feeds sort first, then receipts
		if rest, ok := strings.CutPrefix(key, originKey); ok {
			if err := st.restoreFeed(key, rest); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(key, erasKey) {
			continue
		}
		if name, ok := strings.CutPrefix(key, shareKey); ok {
			if err := st.srv.share(name, nil).restore(values[key]); err != nil {
				return fmt.Errorf("mqtt: stored %s: %w", name, err)
			}
			continue
		}
		if id, ok := strings.CutPrefix(key, receiptsKey); ok {
			if err := st.restoreReceipts(id, values[key]); err != nil {
				return fmt.Errorf("mqtt: client %q: %w", id, err)
			}
			continue
		}
		if err := st.restoreSession(key, values[key]); err != nil {
			return fmt.Errorf("mqtt: stored session of client %q: %w", key, err)
		}
	}
	for _, g := range maps.Clone(st.srv.shares) { // whose members have gone with a crash
		g.leave(&subscription{}, nil)
	}
	return nil
}

func (st *store) restoreFeed(key, name string) error {
	topic, number, _ := strings.Cut(name, "\x00")
	partition, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return fmt.Errorf("mqtt: %s holds the feed %q: %w", SessionsTopic, name, err)
	}
	tp := record.TopicPartition{Topic: topic, Partition: int32(partition)}
	switch _, _, err := st.srv.log.Offsets(tp); {
	case errors.Is(err, record.ErrUnknownTopicOrPartition): // deleted since
		st.table.put(&record.Record{Key: []byte(key)}, func(error) {})
		return nil
	case err != nil:
		return err
	}
	st.srv.making.Lock()
	defer st.srv.making.Unlock()
	_, err = st.srv.feed(tp)
	return err
}

// restoreReceipts makes a session of its receipts, which may be all that there is.
func (st *store) restoreReceipts(id string, value []byte) (err error) {
	s := newSession(st.srv, id)
	if s.expiry, err = s.receipts.decode(value); err != nil {
		return err
	}
	st.restored(s)
	return nil
}

func (st *store) restoreSession(id string, value []byte) error {
	st.srv.mu.Lock()
	s := st.srv.sessions[id]
	st.srv.mu.Unlock()
	if s == nil {
		s = newSession(st.srv, id)
	}
	if err := s.decode(value); err != nil {
		return err
	}
	s.stored = true
	st.restored(s)
	return nil
}

func (st *store) restored(s *session) {
	st.srv.mu.Lock()
	st.srv.sessions[s.id] = s
	st.srv.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	st.srv.startExpiry(s)
	if s.will != nil {
		s.startWill(max(willGrace, time.Duration(s.will.delay)*time.Second))
	}
	for _, w := range s.due {
		st.srv.wills.wait(0, w)
	}
}

// receipts is the part of a group that stores a session's receipts, with ids among them.
func (st *store) receipts(s *session, ids []uint16, expiry uint32, now int64, done func(error)) (record.AsyncWrite, error) {
	r := record.Record{Key: []byte(receiptsKey + s.id), Value: s.receipts.stage(ids, expiry), Timestamp: now}
	w, err := st.table.write([]record.Record{r}, func(err error) {
		defer st.saves.Done()
		done(err)
	})
	if err == nil {
		st.saves.Add(1)
	}
	return w, err
}

// save stages what a session is now, or its end; false when there is nothing to
// store and done will not be called. It may wait for room in the commit round.
func (st *store) save(s *session, done func(error)) bool {
	return st.saveWithout(s, nil, done, st.stage)
}

func (st *store) stage(writes ...record.AsyncWrite) {
	for _, w := range writes {
		st.srv.log.AppendAsync(w.TopicPartition, w.Batch, w.Done)
	}
}

// saveWithout is save of a session that has a due will no longer: stage stages its record,
// if there is one, and whatever shall be committed together with that.
func (st *store) saveWithout(s *session, w *will, done func(error), stage func(...record.AsyncWrite)) bool {
	s.saving.Lock()
	defer s.saving.Unlock()
	shares, unlock := s.lockShares()
	defer unlock()
	s.mu.Lock()
	if w != nil {
		s.due, s.dirty = slices.DeleteFunc(s.due, func(have *will) bool { return have == w }), true
	}
	keep := s.persistent() && !s.gone // without subscriptions, too: CONNACK has promised it
	var out []record.Record
	if s.dirty && (keep || s.stored) {
		r := record.Record{Key: []byte(s.id)}
		if keep {
			r.Value = s.encode(nil)
		}
		out = append(append(out, shares...), r)
	}
	if s.receipts.end(s.gone) {
		out = append(out, record.Record{Key: []byte(receiptsKey + s.id)})
	}
	if len(out) == 0 {
		if s.mu.Unlock(); w != nil {
			stage()
		}
		return false
	}
	was, seq := s.stored, s.seq
	s.dirty, s.stored = false, keep
	s.mu.Unlock()
	st.saves.Add(1)
	saved := func(err error) {
		defer st.saves.Done()
		s.mu.Lock()
		if err != nil {
			s.dirty, s.stored = true, s.stored || was
		} else {
			s.durable = max(s.durable, seq)
		}
		s.mu.Unlock()
		done(err)
	}
	aw, err := st.table.write(out, saved)
	if err != nil {
		saved(err)
		return true
	}
	stage(aw)
	return true
}

// lockShares locks the shares of a session, so that they and the session are stored as
// of one moment and in the order of the moments, and returns what is to be stored.
func (s *session) lockShares() (out []record.Record, unlock func()) {
	s.mu.Lock()
	shares := slices.Clone(s.shares)
	s.mu.Unlock()
	slices.SortFunc(shares, func(a, b *share) int { return strings.Compare(a.key, b.key) })
	for _, g := range shares {
		g.mu.Lock()
		if !g.gone {
			out = append(out, g.record())
		}
	}
	return out, func() {
		for _, g := range shares {
			g.mu.Unlock()
		}
	}
}

// encode appends the session: format, expiry, subscriptions, cursors, flights, will, and
// the wills that are due, if there are any. s.mu is held.
func (s *session) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, sessionFormat), uint64(s.expiry))
	dst = binary.AppendUvarint(dst, uint64(len(s.subs)))
	for _, sub := range s.subs {
		flags := sub.qos
		if sub.noLocal {
			flags |= 4
		}
		if sub.retainAsPublished {
			flags |= 8
		}
		dst = append(appendText(dst, sub.filter), flags)
		dst = binary.AppendUvarint(dst, uint64(sub.id))
	}
	dst = s.places.encode(dst, s.srv.feedList(), s.conn != nil)
	flights := slices.SortedFunc(maps.Keys(s.inflight), func(a, b uint16) int { return cmp.Compare(s.inflight[a].seq, s.inflight[b].seq) })
	flights = slices.DeleteFunc(flights, func(id uint16) bool { return s.inflight[id].share != nil && s.inflight[id].qos == 1 })
	dst = binary.AppendUvarint(dst, uint64(len(flights)))
	for _, id := range flights {
		fl := s.inflight[id]
		dst = binary.AppendUvarint(dst, uint64(id))
		state := fl.qos
		if fl.released {
			state |= flightReleased
		}
		if fl.feed == nil {
			dst = appendText(append(dst, state|flightRetained), fl.topic)
			continue
		}
		if fl.share != nil {
			dst = appendText(append(dst, state|flightShared), fl.share.key)
		} else {
			dst = append(dst, state)
		}
		dst = binary.AppendUvarint(appendText(dst, fl.feed.tp.Topic), uint64(fl.feed.tp.Partition))
		dst = binary.AppendUvarint(dst, uint64(fl.offset))
	}
	if s.will == nil {
		dst = append(dst, 0)
	} else {
		dst = appendText(binary.AppendUvarint(append(dst, 1), uint64(s.will.delay)), s.will.encode())
	}
	if len(s.due) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(s.due)))
	}
	for _, w := range s.due {
		dst = appendText(dst, w.encode())
	}
	return dst
}

// The byte of a stored flight: its QoS and these.
const (
	flightReleased = 4
	flightRetained = 8
	flightShared   = 16
)

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// fields reads what encode wrote; after a fault everything is zero.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) num() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) byte() byte {
	if len(f.b) == 0 {
		f.bad = true
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) text() string {
	n := f.num()
	if n > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return ""
	}
	v := string(f.b[:n])
	f.b = f.b[n:]
	return v
}

var errSession = errors.New("cannot be read: format unknown or bytes damaged")

func (s *session) decode(b []byte) error {
	f := fields{b: b}
	format := f.byte()
	if format != sessionFormat && format != sessionFormat1 {
		return errSession
	}
	s.expiry = uint32(f.num())
	for n := f.num(); n > 0 && !f.bad; n-- {
		sub := &subscription{sess: s, filter: f.text()}
		flags := f.byte()
		sub.qos, sub.noLocal, sub.retainAsPublished, sub.id = flags&3, flags&4 != 0, flags&8 != 0, uint32(f.num())
		s.keep(sub)
		if strings.HasPrefix(sub.filter, sharePrefix) {
			sub.share = s.srv.share(sub.filter, nil)
			sub.share.members[s] = sub
			s.shared(sub.share)
		}
	}
	s.places.decode(&f, s.srv.feedList())
	feeds := s.srv.feedsByName()
	s.inflight = map[uint16]flight{}
	for n := f.num(); n > 0 && !f.bad; n-- {
		id, state := uint16(f.num()), f.byte()
		if format == sessionFormat1 { // 0 was retained, 1 was not
			state = 1 | (1-state&1)*flightRetained
		}
		fl := flight{qos: state & 3, released: state&flightReleased != 0, tried: true}
		f.bad = f.bad || fl.qos == 0 || fl.qos == 3
		if state&flightRetained != 0 {
			fl.topic = f.text()
		} else {
			if state&flightShared != 0 {
				fl.share = s.srv.shares[f.text()]
			}
			tp := record.TopicPartition{Topic: f.text(), Partition: int32(f.num())}
			if fl.feed, fl.offset = feeds[tp], int64(f.num()); fl.feed == nil {
				continue // the topic has been deleted
			}
		}
		s.seq++
		fl.seq, fl.mark, s.lastID = s.seq, s.seq, id
		s.inflight[id] = fl
	}
	s.durable = s.seq
	if format != sessionFormat1 && f.byte() == 1 {
		delay := uint32(f.num())
		w, err := decodeWill(s, delay, f.text())
		if s.will = w; err != nil {
			return errSession
		}
	}
	if len(f.b) > 0 {
		for n := f.num(); n > 0 && !f.bad; n-- {
			w, err := decodeWill(s, 0, f.text())
			if err != nil {
				return errSession
			}
			s.due = append(s.due, w)
		}
	}
	if f.bad || len(f.b) != 0 {
		return errSession
	}
	return nil
}
