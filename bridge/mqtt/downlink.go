package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// follow makes the feeds of a downlink topic. One that retains is also read into the
// retained messages, whether or not anybody is subscribed.
func (srv *Server) follow(d *Downlink) error {
	n, err := srv.log.Ensure(d.Topic, 0, nil)
	if err != nil {
		return fmt.Errorf("mqtt: downlink topic %s: %w", d.Topic, err)
	}
	srv.making.Lock()
	defer srv.making.Unlock()
	for p := range n {
		f, err := srv.feed(record.TopicPartition{Topic: d.Topic, Partition: p}, d)
		if err != nil {
			return err
		}
		if d.Retain {
			k := &keeper{srv: srv, feed: f, next: srv.retained.position(f.tp)}
			srv.wg.Add(1)
			go func() {
				defer srv.wg.Done()
				k.run(srv.ctx)
			}()
		}
	}
	return nil
}

// keeper turns the records of a retaining downlink into retained messages. They and
// its position are one batch, so that a crash neither repeats nor skips any.
type keeper struct {
	srv  *Server
	feed *feed
	next int64 // -1: from the start of the log
	msg  message
	dec  record.Decoder
}

func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := k.step(ctx); err != nil && ctx.Err() == nil {
			k.srv.opts.Log.Error("mqtt: retaining downlink", "partition", k.feed.tp.String(), "offset", k.next, "err", err)
			sleep(ctx, retryAfter)
		}
	}
}

func (k *keeper) step(ctx context.Context) error {
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
		if out, err = k.batch(out, b); err != nil {
			k.srv.drops.corrupt.Add(1)
			k.srv.opts.Log.Error("mqtt: batch cannot be retained", "partition", k.feed.tp.String(), "offset", b.BaseOffset(), "err", err)
		}
		next = b.NextOffset()
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
		if r.Offset < k.next || !k.feed.read(&r, &k.msg) {
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
