package mqtt

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// maxBatchBytes ends a batch early, as does max.message.bytes of a Kafka topic that takes
// less: a batch beyond that is refused with all the messages in it.
const maxBatchBytes = 256 << 10

// recordOverhead is the most that a record is longer than its key, value and headers.
const recordOverhead = 1 + 10 + 4*5

// intake is the messages of one pass of the read loop, by partition.
type intake struct {
	c     *conn
	now   int64 // ms; when the pass began
	lots  []lot
	many  *lot    // messages of several ways, for one commit (ways.go); lots is empty then
	ways  []Route // of the message at hand
	block []byte  // and its header block
	topic *target

	releases *group // of the PUBRELs of this pass, which one commit answers
}

// lot is the messages for one partition: they become one record batch.
type lot struct {
	feed    *feed
	builder *record.Builder
	group   *group
	batch   record.Batch
	limit   int   // bytes of the batch
	more    []lot // to be committed together with this one, in its group
}

var builders = sync.Pool{New: func() any { return new(record.Builder) }}

func (in *intake) begin() { in.now = in.c.srv.opts.Now().UnixMilli() }

// lotFor returns the batch under construction for a partition, with room for a record; one
// that is too large for any has a batch of its own, and is refused alone.
func (in *intake) lotFor(f *feed, rec *record.Record) *lot {
	l := in.lot(f)
	if !l.fits(recordOverhead + len(rec.Key) + len(rec.Value) + len(rec.HeaderBlock)) {
		in.stage()
		l = in.lot(f)
	}
	return l
}

// lot returns the batch under construction for a partition.
func (in *intake) lot(f *feed) *lot {
	if in.many != nil {
		in.stage() // so that nothing is overtaken
	}
	for i := range in.lots {
		if in.lots[i].feed == f {
			return &in.lots[i]
		}
	}
	in.lots = append(in.lots, in.newLot(f, in.c.acks.group(in.c, f.tp.Topic, 1)))
	return &in.lots[len(in.lots)-1]
}

func (in *intake) newLot(f *feed, g *group) lot {
	b := builders.Get().(*record.Builder)
	b.Reset()
	return lot{feed: f, builder: b, group: g, limit: min(maxBatchBytes, in.c.srv.log.MaxMessageBytes(f.tp.Topic))}
}

// fits reports whether n bytes more keep to the limit, with what is there already.
func (l *lot) fits(n int) bool { return l.builder.Len() == 0 || l.builder.Size()+n <= l.limit }

// stage hands all batches under construction to the log. It does not wait for them.
func (in *intake) stage() {
	for i := range in.lots {
		in.append(&in.lots[i], nil)
		in.lots[i] = lot{}
	}
	in.lots = in.lots[:0]
	if l := in.many; l != nil {
		in.many = nil
		in.append(l, nil)
	}
	if g := in.releases; g != nil {
		in.releases = nil
		in.c.storeReceipts(g)
	}
}

// append stages one batch; retained is the retained form of its only message. A batch
// that a full disk refuses is tried again until there is room if its client cannot be
// told to wait: meanwhile nothing is read from it.
func (in *intake) append(l *lot, retained *record.Record) {
	g := l.group
	if err := l.build(); err != nil {
		for range g.waits {
			g.Complete(-1, err)
		}
		return
	}
	for in.put(l, retained); g.refused; in.put(l, retained) {
		in.c.srv.logRefused(in.c, []byte(g.topic), record.ErrDiskFull)
		sleep(in.c.ctx, diskRetry)
		g.refused, g.patient = false, in.c.ctx.Err() == nil
	}
	l.free()
}

func (in *intake) put(l *lot, retained *record.Record) {
	switch {
	case retained != nil:
		in.c.srv.retained.stage.Lock()
		defer in.c.srv.retained.stage.Unlock()
		in.appendTogether(l, retained)
	case len(l.group.ids) > 0, len(l.more) > 0, in.c.testament != nil:
		in.appendTogether(l, nil)
	default:
		in.c.srv.log.AppendAsync(l.feed.tp, l.batch, l.group) // copies the batch
	}
}

// diskRetry is how often a 3.1.1 client's messages are tried on a full disk.
const diskRetry = 250 * time.Millisecond

// owe notes that the message p is in the batch of g and is to be acknowledged.
func (in *intake) owe(g *group, p *packet.Publish) {
	g.count++
	g.patient = g.patient || p.QoS > 0 && in.c.version != packet.V5
	switch {
	case p.QoS == 0:
		g.silent++
	case in.c.sess == nil: // nobody waits
	case p.QoS == 1:
		in.c.acks.push(packet.TypePuback, p.PacketID, g, packet.Success)
	default:
		in.c.sess.receipts.add(p.PacketID)
		g.ids = append(g.ids, p.PacketID)
		in.c.acks.push(packet.TypePubrec, p.PacketID, g, packet.Success)
	}
}

// ackOf is the packet that answers a PUBLISH.
func ackOf(qos byte) packet.Type {
	if qos == 2 {
		return packet.TypePubrec
	}
	return packet.TypePuback
}

// publish takes one PUBLISH of the client.
func (c *conn) publish(f packet.Frame) error {
	p := &c.pub
	topic, err := c.decodePublish(f)
	if err != nil {
		return c.breach(err)
	}
	if p.QoS == 2 && c.received(p.PacketID) {
		return nil
	}
	if p.QoS > 0 {
		if err := c.admit(); err != nil {
			return c.breach(err)
		}
	}
	c.srv.traffic.messagesIn[p.QoS].Add(1)
	if err = c.checkTopic(topic); err == nil {
		err = c.permit(p, topic)
	}
	if err == nil {
		err = c.accept(p, topic)
	}
	if err != nil {
		return c.refuse(p, topic, err)
	}
	return nil
}

// decodePublish fills c.pub and returns the topic name, which an alias may stand for.
func (c *conn) decodePublish(f packet.Frame) (topic []byte, err error) {
	p := &c.pub
	if err := p.Decode(f, c.version); err != nil {
		return nil, err
	}
	if len(p.Props.SubscriptionIDs) > 0 {
		return nil, &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-3.3.4-6", Text: "PUBLISH of a client with a subscription identifier"}
	}
	return c.resolveAlias(p)
}

// checkTopic holds a topic name against the limits.
func (c *conn) checkTopic(topic []byte) error {
	opts := &c.srv.opts
	switch depth := packet.Depth(topic); {
	case len(topic) > opts.MaxTopicBytes:
		return topicRefused("", "topic name of %d bytes, the limit is %d (max_topic_bytes)", len(topic), opts.MaxTopicBytes)
	case depth > opts.MaxTopicLevels:
		return topicRefused("", "topic name of %d levels, the limit is %d (max_topic_levels)", depth, opts.MaxTopicLevels)
	case hasPrefix(topic, "$SYS/"):
		return topicRefused("MQTT-4.7.2-1", "$SYS is the server's own")
	}
	return nil
}

func topicRefused(clause, format string, args ...any) error {
	return &refusal{byTopic, &packet.Error{Reason: packet.TopicNameInvalid, Clause: clause, Text: fmt.Sprintf(format, args...)}}
}

// admit bounds the messages of the connection that are not acknowledged: an MQTT 5
// client has been told the Receive Maximum [MQTT-3.3.4-7]; from a 3.1.1 client,
// which cannot be told, nothing more is read until some are committed.
func (c *conn) admit() error {
	limit := c.srv.opts.ReceiveMaximum
	all, pubacks := c.acks.len()
	if c.version == packet.V5 {
		if pubacks+c.sess.receipts.len() >= limit {
			return &packet.Error{Reason: packet.ReceiveMaximumExceeded, Clause: "MQTT-3.3.4-7", Text: fmt.Sprintf("more than %d messages in flight", limit)}
		}
		return nil
	}
	if all < limit {
		return nil
	}
	c.in.stage()
	if !c.acks.await(limit) {
		return errDone
	}
	return nil
}

// accept routes one message and adds it to the batch of its partition.
func (c *conn) accept(p *packet.Publish, topic []byte) (err error) {
	in := &c.in
	if in.ways, err = c.srv.router.Route(topic, p.Payload, in.ways[:0]); err != nil {
		return err
	}
	switch len(in.ways) {
	case 0:
		c.srv.drops.route.Add(1)
		if p.QoS > 0 { // a PUBREL will find no receipt, which is no error
			c.acks.push(ackOf(p.QoS), p.PacketID, nil, packet.Success)
			c.out.flush()
		}
		return nil
	case 1:
	default:
		return c.acceptMany(p, topic)
	}
	r := &in.ways[0]
	if r.Untimed {
		c.srv.traffic.untimed.Add(1)
	}
	f, err := c.feedFor(r)
	if err != nil {
		return err
	}
	in.block = appendHeaderBlock(in.block[:0], p, topic, c.id, r)
	rec := record.Record{Timestamp: cmp.Or(r.Timestamp, in.now), Key: r.Key, Value: p.Payload, HeaderBlock: in.block}
	if p.Retain {
		return c.acceptRetained(p, topic, f, &rec)
	}
	l := in.lotFor(f, &rec)
	l.builder.Add(&rec)
	in.owe(l.group, p)
	if l.builder.Size() >= l.limit {
		in.stage()
	}
	return nil
}

// feedFor finds the partition of a routed message.
func (c *conn) feedFor(r *Route) (*feed, error) {
	in := &c.in
	if in.topic == nil || in.topic.name != r.Topic || in.topic.stale.Load() {
		t, err := c.srv.target(r.Topic)
		if err != nil {
			return nil, err
		}
		in.topic = t
	}
	partition := int(r.Partition)
	if partition < 0 {
		partition = partitionFor(r.Key, len(in.topic.feeds))
	}
	if partition >= len(in.topic.feeds) {
		return nil, &packet.Error{Reason: packet.ImplementationSpecificError, Text: fmt.Sprintf("route names partition %d of topic %s, which has %d", partition, r.Topic, len(in.topic.feeds))}
	}
	return in.topic.feeds[partition], nil
}

// acceptRetained stages a message and its retained form, both or none [MQTT-3.3.1-5].
func (c *conn) acceptRetained(p *packet.Publish, topic []byte, f *feed, rec *record.Record) error {
	if err := c.admitRetained(topic, rec); err != nil {
		return err
	}
	in := &c.in
	in.stage() // the client's earlier messages go first
	l := in.newLot(f, c.acks.group(c, f.tp.Topic, 2))
	l.builder.Add(rec)
	in.owe(l.group, p)
	kept := retainedForm(topic, p.Payload, rec.HeaderBlock, in.now)
	in.append(&l, &kept)
	return nil
}

func (c *conn) admitRetained(topic []byte, rec *record.Record) error {
	if len(rec.Value) == 0 {
		return nil
	}
	if err := c.srv.retained.admit(topic, len(topic)+len(rec.Value)+len(rec.HeaderBlock)); err != nil {
		return &refusal{byRetained, err}
	}
	return nil
}
