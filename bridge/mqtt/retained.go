package mqtt

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// RetainedTopic is the internal topic that holds retained messages: the key is the
// MQTT topic name, the value the payload, a null value the end of the message.
const RetainedTopic = "__weir_retained"

// downlinkPosition begins the keys under which a retaining downlink keeps how far it
// has read. No topic name holds U+0000, so the keys cannot meet.
const downlinkPosition = "\x00downlink\x00"

// retained is the retained messages, in memory and in RetainedTopic.
type retained struct {
	table *table
	opts  *Options

	// stage is held while a message and its retained record are staged, so that
	// both partitions have two publishers' messages of one topic in the same order.
	stage sync.Mutex

	// guarded by table.mu
	byTopic   map[string]*retainedMessage
	bytes     int64
	positions map[string]*retainedMessage
	loading   map[string]int64 // order of tombstones met while loading
}

// retainedMessage never changes; a newer message replaces it.
type retainedMessage struct {
	topic     string
	payload   []byte
	block     []byte
	order     int64
	timestamp int64

	// The message of which this is the retained form, if it came since the server
	// started: who gets that one gets this one not.
	feed   *feed
	offset int64
}

func (m *retainedMessage) record() record.Record {
	return record.Record{Key: []byte(m.topic), Value: m.payload, HeaderBlock: m.block, Timestamp: m.timestamp, Offset: m.order}
}

func openRetained(ctx context.Context, log Log, opts *Options) (*retained, error) {
	r := &retained{opts: opts, byTopic: map[string]*retainedMessage{}, positions: map[string]*retainedMessage{}, loading: map[string]int64{}}
	t, err := openTable(ctx, log, RetainedTopic, r.applyRecord)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	r.table, r.loading = t, nil
	t.mu.Unlock()
	return r, nil
}

func (r *retained) applyRecord(rec *record.Record, order int64) {
	if hasPrefix(rec.Key, downlinkPosition) {
		r.positions[string(rec.Key)] = keep(rec, order)
		return
	}
	old := r.byTopic[string(rec.Key)]
	switch {
	case old != nil && old.order > order:
		return
	case old == nil && r.loading != nil && r.loading[string(rec.Key)] > order:
		return
	}
	if old != nil {
		r.bytes -= old.size()
		delete(r.byTopic, old.topic)
	}
	if rec.Value == nil {
		if r.loading != nil {
			r.loading[string(rec.Key)] = order
		}
		return
	}
	m := keep(rec, order)
	r.byTopic[m.topic] = m
	r.bytes += m.size()
}

func keep(rec *record.Record, order int64) *retainedMessage {
	m := &retainedMessage{topic: string(rec.Key), order: order, timestamp: rec.Timestamp}
	memory := make([]byte, 0, len(rec.Value)+len(rec.HeaderBlock))
	memory = append(append(memory, rec.Value...), rec.HeaderBlock...)
	m.payload, m.block = memory[:len(rec.Value):len(rec.Value)], memory[len(rec.Value):]
	return m
}

func (m *retainedMessage) size() int64 { return int64(len(m.topic) + len(m.payload) + len(m.block)) }

// admit refuses a message that would break the limits. Messages in flight are not
// counted, so the limits may be passed by what one commit round holds.
func (r *retained) admit(topic []byte, size int) error {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	old := r.byTopic[string(topic)]
	switch {
	case old == nil && len(r.byTopic) >= r.opts.MaxRetained:
		return &packet.Error{Reason: packet.QuotaExceeded, Text: "too many retained messages (max_retained)"}
	case r.bytes+int64(size) > r.opts.MaxRetainedBytes && (old == nil || old.size() < int64(size)):
		return &packet.Error{Reason: packet.QuotaExceeded, Text: "retained messages take too much memory (max_retained_bytes)"}
	}
	return nil
}

// write is the retained form of a message as a part of its group: g is completed by
// both. An empty payload ends the retained message of its topic [MQTT-3.3.1-6].
func (r *retained) write(rec *record.Record, g *group, f *feed) (record.AsyncWrite, error) {
	w, err := r.table.write([]record.Record{*rec}, func(err error) { g.Complete(-1, err) })
	if err == nil {
		topic := string(rec.Key)
		w.Done.(*tableWrite).mark = func() {
			if m := r.byTopic[topic]; m != nil {
				m.feed, m.offset = f, g.base+int64(g.count)-1
			}
		}
	}
	return w, err
}

// retainedForm is the record of a message that is retained.
func retainedForm(topic, payload, block []byte, timestamp int64) record.Record {
	rec := record.Record{Key: topic, Value: payload, HeaderBlock: block, Timestamp: timestamp}
	if len(payload) == 0 {
		rec.Value = nil
	}
	return rec
}

// matching returns the retained messages that filter matches. The lock is shared
// with the goroutine that commits rounds, so only pointers are copied under it.
func (r *retained) matching(filter string) []*retainedMessage {
	if !hasWildcard(filter) {
		if m := r.get(filter); m != nil {
			return []*retainedMessage{m}
		}
		return nil
	}
	r.table.mu.Lock()
	all := make([]*retainedMessage, 0, len(r.byTopic))
	for _, m := range r.byTopic {
		all = append(all, m)
	}
	r.table.mu.Unlock()
	var topic []byte
	matched := all[:0]
	for _, m := range all {
		if topic = append(topic[:0], m.topic...); packet.Match(filter, topic) {
			matched = append(matched, m)
		}
	}
	slices.SortFunc(matched, func(a, b *retainedMessage) int { return cmp.Compare(a.order, b.order) })
	return matched
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

func (r *retained) get(topic string) *retainedMessage {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	return r.byTopic[topic]
}

func (r *retained) count() (messages int, bytes int64) {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	return len(r.byTopic), r.bytes
}

// compact bounds the growth of the topic.
func (r *retained) compact(ctx context.Context) error {
	if n, _ := r.count(); !r.table.due(n) {
		return nil
	}
	return r.table.compact(ctx, func() []record.Record {
		out := make([]record.Record, 0, len(r.byTopic)+len(r.positions))
		for _, m := range r.byTopic {
			out = append(out, m.ordered())
		}
		for _, m := range r.positions {
			out = append(out, m.ordered())
		}
		return out
	})
}

// ordered is the record of a snapshot, which says since when it stands.
func (m *retainedMessage) ordered() record.Record {
	rec, order := m.record(), strconv.FormatInt(m.order, 10)
	if orderOf(&record.Record{HeaderBlock: m.block, Offset: -1}) < 0 {
		rec.HeaderBlock = withHeader(m.block, headerOrder, []byte(order))
	}
	return rec
}

// position is how far a retaining downlink has read; -1 when it never did.
func (r *retained) position(tp record.TopicPartition) int64 {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	m := r.positions[downlinkPosition+tp.String()]
	if m == nil || len(m.payload) != 8 {
		return -1
	}
	return int64(binary.BigEndian.Uint64(m.payload))
}

func positionRecord(tp record.TopicPartition, next int64) record.Record {
	return record.Record{Key: []byte(downlinkPosition + tp.String()), Value: binary.BigEndian.AppendUint64(nil, uint64(next))}
}
