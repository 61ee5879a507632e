package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// positions is the positions topic at the target and what was read of it.
type positions struct {
	topic  string
	leader int32
	next   int64 // offset to read on from
	book   book
	fresh  int64 // producer id of this process's claims, -1 until one is needed
	epoch  int16
}

func (p *positions) partition() record.TopicPartition { return record.TopicPartition{Topic: p.topic} }

// open finds or creates the topic and reads all anchors.
func (p *positions) open(ctx context.Context, f *flow) error {
	*p = positions{topic: positionsTopic(f.site), book: book{}, fresh: -1}
	if err := p.locate(ctx, f); err != nil {
		return err
	}
	return p.read(ctx, f)
}

func (p *positions) locate(ctx context.Context, f *flow) error {
	for try := range 2 {
		found, err := f.target.describe(ctx, p.topic)
		if err != nil {
			return err
		}
		if rt, ok := found[p.topic]; ok {
			if len(rt.leaders) == 0 || rt.leaders[0] < 0 {
				return fmt.Errorf("topic %s has no leader yet", p.topic)
			}
			p.leader = rt.leaders[0]
			return nil
		}
		if try == 0 {
			compact := "compact"
			configs := map[string]*string{"cleanup.policy": &compact}
			if err := f.target.create(ctx, p.topic, 1, f.opt.ReplicationFactor, configs); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("topic %s was created and is not there yet", p.topic)
}

// read goes on to the end of the topic.
func (p *positions) read(ctx context.Context, f *flow) error {
	ends, err := f.target.ends(ctx, p.topic)
	if err != nil {
		return err
	}
	end, ok := ends.Lookup(p.topic, 0)
	if !ok || end.Err != nil {
		return fmt.Errorf("end of topic %s: %w", p.topic, end.Err)
	}
	for p.next < end.Offset {
		raw, err := f.target.fetch(ctx, p.leader, p.partition(), p.next)
		if err != nil {
			return err
		}
		if err := p.book.read(f.opt.Name, raw); err != nil {
			return err
		}
		before := p.next
		for b := range raw.All() {
			p.next = max(p.next, b.NextOffset())
		}
		if p.next == before {
			return fmt.Errorf("topic %s ends at %d, but nothing can be read at %d", p.topic, end.Offset, before)
		}
	}
	return nil
}

// write appends anchors. They are not read back by it.
func (p *positions) write(ctx context.Context, f *flow, anchors map[record.TopicPartition]anchor) error {
	var w record.Builder
	now := time.Now().UnixMilli()
	for tp, a := range anchors {
		value, err := json.Marshal(a)
		if err != nil {
			return err
		}
		w.Add(&record.Record{Key: []byte(anchorKey(f.opt.Name, tp)), Value: value, Timestamp: now})
		if w.Size() < mergedBatchBytes {
			continue
		}
		if err := p.append(ctx, f, &w); err != nil {
			return err
		}
	}
	return p.append(ctx, f, &w)
}

func (p *positions) append(ctx context.Context, f *flow, w *record.Builder) error {
	b, err := w.Build(record.None)
	if err != nil || b == nil {
		return err
	}
	defer w.Reset()
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = b
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = p.topic, append(t.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, int32(produceTimeout.Milliseconds()), append(req.Topics, t)
	kresp, err := f.target.cl.Broker(int(p.leader)).RetriableRequest(ctx, produceByName{req})
	if err == nil {
		resp := kresp.(*kmsg.ProduceResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			err = errNotAnswered
		} else {
			err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		}
	}
	if err != nil {
		f.connected = false // find the topic again
		return fmt.Errorf("write positions: %w", err)
	}
	return nil
}

// produceByName keeps a Produce below version 13, which would want topic ids.
type produceByName struct{ *kmsg.ProduceRequest }

func (produceByName) MaxVersion() int16 { return 12 }

// A claim is a position that must stand in the positions topic before anything
// is sent from it.
type claim struct {
	lane   *lane
	leader int32
	from   int64 // source offset
	dst    targetView
	renew  bool // with a producer id of its own: the old one's sequence is broken
	bridge bool // keep the identity, only move over a gap at the front
}

// claim writes the claims, reads them back to see who won, and opens the lanes.
func (f *flow) claim(ctx context.Context, claims []claim) error {
	if len(claims) == 0 {
		return nil
	}
	wanted := make(map[record.TopicPartition]anchor, len(claims))
	for i := range claims {
		a, err := f.claimed(ctx, &claims[i])
		if err != nil {
			return err
		}
		wanted[claims[i].lane.tp] = a
	}
	p := &f.positions
	if err := p.write(ctx, f, wanted); err != nil {
		return err
	}
	if err := p.read(ctx, f); err != nil {
		return err
	}
	// Written once more, so that compaction can never leave a loser's claim as
	// the last one of its key.
	winners := make(map[record.TopicPartition]anchor, len(claims))
	for tp := range wanted {
		winners[tp] = p.book[tp]
	}
	if err := p.write(ctx, f, winners); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range claims {
		f.occupy(&claims[i], wanted[claims[i].lane.tp], winners[claims[i].lane.tp])
	}
	return nil
}

// claimed makes the anchor of a claim.
func (f *flow) claimed(ctx context.Context, c *claim) (a anchor, err error) {
	p, l := &f.positions, c.lane
	old := p.book[l.tp]
	if c.bridge {
		f.mu.Lock()
		defer f.mu.Unlock()
		a = l.win.anchor
		a.SourceOffset, a.TargetOffset = c.from, c.dst.end
		return a, nil
	}
	if p.fresh < 0 || c.renew {
		id, epoch, err := f.target.newProducerID(ctx)
		if err != nil {
			return a, err
		}
		p.fresh, p.epoch = id, epoch
	}
	return anchor{
		Generation: old.Generation + 1, SourceID: l.sourceID, SourceOffset: c.from,
		Target: l.remote, TargetID: c.dst.id, TargetOffset: c.dst.end,
		ProducerID: p.fresh, ProducerEpoch: p.epoch, SequenceBase: c.dst.end,
	}, nil
}

// occupy starts a lane whose claim stands, or leaves it to the next turn, which
// finds the winner's anchor. Under mu.
func (f *flow) occupy(c *claim, mine, winner anchor) {
	l := c.lane
	if f.lanes[l.tp] != l {
		return
	}
	switch {
	case !mine.same(&winner) || winner.Generation != mine.Generation:
		f.shut(l)
		l.win.state = Connecting
	case c.bridge:
		f.finish(l.win.pop(1))
		f.stream(l)
	case l.started && c.from == l.win.source && c.dst.end == l.win.target:
		l.win.anchor = mine // a new identity at the same place: what is pending stays
		f.assign(l, c.leader)
		f.stream(l)
	default:
		f.assign(l, c.leader)
		f.open(l, mine, c.from, c.dst.end)
	}
}

// refreshAnchors writes where each lane stands, if it moved.
func (f *flow) refreshAnchors(ctx context.Context) error {
	moved := map[record.TopicPartition]anchor{}
	f.mu.Lock()
	for tp, l := range f.lanes {
		if l.started && l.win.source != l.anchored {
			a := l.win.anchor
			a.SourceOffset, a.TargetOffset = l.win.source, l.win.target
			moved[tp] = a
		}
	}
	f.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	if err := f.positions.write(ctx, f, moved); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for tp, a := range moved {
		f.positions.book.note(tp, a)
		if l := f.lanes[tp]; l != nil {
			l.anchored = a.SourceOffset
		}
	}
	return nil
}
