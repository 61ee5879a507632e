package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirmq/weir/appliance/record"
)

// followAll brings the downlinks into force at the start. Those that were in force before
// go on; a change since then is for the records to come, as in Follow.
func (srv *Server) followAll() error {
	srv.making.Lock()
	defer srv.making.Unlock()
	srv.downlinks = srv.router.Downlinks()
	changed, err := srv.resumeRemoved(srv.downlinks)
	if err != nil {
		return err
	}
	for _, d := range srv.downlinks {
		feeds, err := srv.follow(d)
		if err != nil {
			return err
		}
		for _, f := range feeds {
			keep, err := srv.resume(f, d)
			if err != nil {
				return err
			}
			if keep {
				srv.keep(f, srv.retained.position(f.tp))
			}
			changed = append(changed, f.erasRecord())
		}
	}
	return srv.store.putChanged(changed)
}

// follow makes the feeds of a downlink's topic. making is held.
func (srv *Server) follow(d *Downlink) (feeds []*feed, err error) {
	n, err := srv.log.Ensure(d.Topic, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("mqtt: downlink topic %s: %w", d.Topic, err)
	}
	for p := range n {
		f, err := srv.feed(record.TopicPartition{Topic: d.Topic, Partition: p})
		if err != nil {
			return nil, err
		}
		feeds = append(feeds, f)
	}
	return feeds, nil
}

// Follow brings downlinks into force in the place of those there are, each for the records
// that are written from now on; one that is the same as before goes on. An error changes
// nothing. What changes is in the log.
func (srv *Server) Follow(downlinks []*Downlink) error {
	srv.making.Lock()
	defer srv.making.Unlock()
	for _, d := range downlinks {
		if slices.Contains(srv.downlinks, d) {
			continue
		}
		feeds, err := srv.follow(d)
		if err != nil {
			return err
		}
		for _, f := range feeds {
			if _, _, err := srv.log.Offsets(f.tp); err != nil {
				return fmt.Errorf("mqtt: downlink topic %s: %w", d.Topic, err)
			}
		}
	}
	now := map[string]*Downlink{}
	for _, d := range downlinks {
		now[d.Topic] = d
	}
	var changed []record.Record
	before := map[string]*Downlink{}
	for _, d := range srv.downlinks {
		if before[d.Topic] = d; now[d.Topic] == nil {
			changed = append(changed, srv.turn(d.Topic, nil, "removed")...)
		}
	}
	for _, d := range downlinks {
		switch old := before[d.Topic]; old {
		case d:
		case nil:
			changed = append(changed, srv.turn(d.Topic, d, "added")...)
		default:
			changed = append(changed, srv.turn(d.Topic, d, "changed")...)
		}
	}
	srv.downlinks = slices.Clone(downlinks)
	if err := srv.store.putChanged(changed); err != nil { // in force they are
		srv.opts.Log.Error("mqtt: a restart may send what is written now by the downlinks of before", "err", err)
	}
	return nil
}

// turn begins the next era of a topic's partitions. making is held.
func (srv *Server) turn(topic string, d *Downlink, how string) (changed []record.Record) {
	var offsets []string
	for _, f := range srv.feedList() {
		if f.tp.Topic != topic || f.gone.Load() {
			continue
		}
		_, end, err := srv.log.Offsets(f.tp)
		if err != nil { // deleted this moment: the next of that name has no past
			end = 0
		}
		from, keep := f.eras.begin(d, end)
		if keep {
			srv.keep(f, srv.retained.position(f.tp))
		}
		changed = append(changed, f.erasRecord())
		offsets = append(offsets, fmt.Sprintf("%d:%d", f.tp.Partition, from))
	}
	srv.opts.Log.Info("mqtt: downlink "+how, "topic", topic, "from_offsets", strings.Join(offsets, " "))
	return changed
}

// keep starts the keeper of a feed.
func (srv *Server) keep(f *feed, next int64) {
	k := &keeper{srv: srv, feed: f, id: f.id, next: next, dec: record.Decoder{RawHeaders: true}}
	srv.wg.Add(1)
	go func() {
		defer srv.wg.Done()
		k.run(srv.ctx)
	}()
}

// keeper turns the records of a retaining downlink into retained messages. They and
// its position are one batch, so that a crash neither repeats nor skips any. It ends when
// the downlink is removed, or retains no more, and it has read up to there.
type keeper struct {
	srv  *Server
	feed *feed
	id   [16]byte // of the topic that next is an offset of
	next int64    // -1: from the start of the log
	msg  message
	dec  record.Decoder
}

func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil && !k.feed.gone.Load() && !k.feed.eras.done(k.next) {
		if err := k.step(ctx); err != nil && ctx.Err() == nil {
			k.srv.opts.Log.Error("mqtt: retaining downlink", "partition", k.feed.tp.String(), "offset", k.next, "err", err)
			sleep(ctx, retryAfter)
		}
	}
}

func (k *keeper) step(ctx context.Context) error {
	if id, ok := k.srv.log.TopicID(k.feed.tp.Topic); ok && id != k.id {
		k.id, k.next = id, -1 // deleted, and made again
	}
	if k.next < 0 {
		start, _, err := k.srv.log.Offsets(k.feed.tp)
		if err != nil {
			return err
		}
		k.next = start
	}
	bs, err := k.srv.log.Fetch(ctx, k.feed.tp, k.next, feedBytes)
	if errors.Is(err, record.ErrOffsetOutOfRange) {
		k.next = -1
		return nil
	}
	if err != nil {
		return err
	}
	var out []record.Record
	next := k.next
	for b := range bs.All() {
		if k.feed.eras.over(next) { // what is written now is for one that may retain later
			break
		}
		if out, err = k.batch(out, b); err != nil {
			k.srv.drops.corrupt.Add(1)
			k.srv.opts.Log.Error("mqtt: batch cannot be retained", "partition", k.feed.tp.String(), "offset", b.BaseOffset(), "err", err)
		}
		next = b.NextOffset()
	}
	if next == k.next {
		return nil
	}
	out = append(out, positionRecord(k.feed.tp, next))
	if err := k.srv.retained.table.putAll(ctx, out); err != nil {
		return err
	}
	k.next = next
	return nil
}

func (k *keeper) batch(out []record.Record, b record.Batch) ([]record.Record, error) {
	if b.Control() {
		return out, nil
	}
	if err := k.dec.Reset(b); err != nil {
		return out, err
	}
	for r := (record.Record{}); ; {
		ok, err := k.dec.Next(&r)
		if !ok || err != nil {
			return out, err
		}
		value := r.Value
		if r.Value == nil { // a tombstone ends the retained message
			r.Value = []byte{}
		}
		if r.Offset < k.next {
			continue
		}
		d := k.feed.eras.retains(r.Offset)
		if d == nil || !k.feed.readDown(d, &r, &k.msg) {
			continue
		}
		if len(value) > 0 {
			size := len(k.msg.topic) + len(value) + len(k.msg.block)
			if err := k.srv.retained.admit(k.msg.topic, size); err != nil {
				k.srv.drops.retained.Add(1)
				k.srv.opts.Log.Warn("mqtt: downlink message is not retained", "topic", string(k.msg.topic), "err", err)
				continue
			}
		}
		out = append(out, k.retained(value, r.Timestamp))
	}
}

// retained is the record of a retained message: with the headers of one that came by MQTT.
func (k *keeper) retained(value []byte, timestamp int64) record.Record {
	rec := record.Record{Key: append([]byte(nil), k.msg.topic...), Timestamp: timestamp}
	if len(value) > 0 {
		rec.Value = append([]byte(nil), value...)
	}
	var own []byte
	own = AppendHeader(own, HeaderTopic, k.msg.topic)
	own = AppendHeader(own, HeaderQoS, digits[k.msg.qos])
	own = AppendHeader(own, HeaderRetain, "true")
	count := int64(3)
	for key, value := range func(y func(k, v []byte) bool) { headers(k.msg.block, y) } {
		if !hasPrefix(key, headerPrefix) {
			own = AppendHeader(own, key, value)
			count++
		}
	}
	rec.HeaderBlock = append(binary.AppendVarint(nil, count), own...)
	return rec
}
