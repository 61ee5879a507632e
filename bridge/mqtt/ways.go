package mqtt

import (
	"cmp"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// A message of several ways is a record in each of their partitions, all or none: the
// batches are one group of the write-ahead log, with the receipts of QoS 2, and share one
// group of acks, which waits for all of them. MQTT subscribers get the record of the first
// way; the others are marked as copies of it.

// further is a group as the completion of its further batches, whose offsets it does not keep.
type further group

// Complete implements record.Completion.
func (g *further) Complete(_ int64, err error) { (*group)(g).Complete(-1, err) }

// acceptMany adds a message to the batches of all its ways, in.ways.
func (c *conn) acceptMany(p *packet.Publish, topic []byte) error {
	in := &c.in
	for i := range in.ways {
		r := &in.ways[i]
		var err error
		if r.feed, err = c.feedFor(r); err != nil {
			return err // before any is added
		}
	}
	var kept *record.Record
	for i := range in.ways {
		r := &in.ways[i]
		if r.Untimed {
			c.srv.traffic.untimed.Add(1)
		}
		r.copy = i > 0
		in.block = appendHeaderBlock(in.block[:0], p, topic, c.id, r)
		rec := record.Record{Timestamp: cmp.Or(r.Timestamp, in.now), Key: r.Key, Value: p.Payload, HeaderBlock: in.block}
		if i == 0 && p.Retain {
			if err := c.admitRetained(topic, &rec); err != nil {
				return err
			}
			form := retainedForm(topic, p.Payload, append([]byte(nil), in.block...), in.now)
			kept = &form
		}
		if i == 0 && (len(in.lots) > 0 || kept != nil || !in.takesMany(p)) {
			in.stage() // the client's earlier messages go first, and do not share the fate of a great one
		}
		in.lotOfMany(r.feed).builder.Add(&rec)
	}
	c.srv.traffic.copies.Add(uint64(len(in.ways) - 1))
	l := in.many
	in.owe(l.group, p)
	switch {
	case kept != nil:
		in.many = nil
		c.acks.wait(l.group, 1)
		in.append(l, kept)
	case l.size() >= maxBatchBytes:
		in.stage()
	}
	return nil
}

// lotOfMany returns the batch of in.many for a partition.
func (in *intake) lotOfMany(f *feed) *lot {
	l := in.many
	if l == nil {
		first := in.newLot(f, in.c.acks.group(in.c, f.tp.Topic, 1))
		in.many = &first
		return &first
	}
	if l.feed == f {
		return l
	}
	for i := range l.more {
		if l.more[i].feed == f {
			return &l.more[i]
		}
	}
	l.group.also = append(l.group.also, f.tp.Topic)
	in.c.acks.wait(l.group, 1)
	l.more = append(l.more, in.newLot(f, l.group))
	return &l.more[len(l.more)-1]
}

// takesMany reports whether the batches in.many have room for all records of a message, the
// first of which in.block is the headers of.
func (in *intake) takesMany(p *packet.Publish) bool {
	if in.many == nil {
		return true
	}
	n := 0
	for i := range in.ways {
		r := &in.ways[i]
		n += recordOverhead + copyOverhead + len(r.Key) + len(p.Payload) + len(in.block) + len(r.Headers)
	}
	if in.many.size()+n >= maxBatchBytes || !in.many.fits(n) {
		return false
	}
	for i := range in.many.more {
		if !in.many.more[i].fits(n) {
			return false
		}
	}
	return true
}

// copyOverhead is the most that the header takes by which a record is known as a copy.
const copyOverhead = 64

// wait has the group wait for n more commits.
func (a *acks) wait(g *group, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g.waits += n
}

// size is the bytes of all batches of the lot.
func (l *lot) size() int {
	if l == nil {
		return 0
	}
	n := l.builder.Size()
	for i := range l.more {
		n += l.more[i].builder.Size()
	}
	return n
}

// build makes the batches.
func (l *lot) build() (err error) {
	if l.batch, err = l.builder.Build(record.None); err != nil {
		return err
	}
	for i := range l.more {
		if err := l.more[i].build(); err != nil {
			return err
		}
	}
	return nil
}

// free gives the builders back.
func (l *lot) free() {
	builders.Put(l.builder)
	for i := range l.more {
		l.more[i].free()
	}
}
