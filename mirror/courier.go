package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A courier takes produce requests to one broker, in order over one connection.
// Its fields are guarded by the flow's mutex, but for queue.
type courier struct {
	leader   int32
	ready    []*lane // with something to send, each once
	queue    chan *shipment
	requests int // on their way or queued, at most cap(queue)
	bytes    int
	pace     pace
}

// shipment is one produce request: at most one batch per partition, as Kafka wants it.
type shipment struct {
	parcels []parcel
	bytes   int
}

type parcel struct {
	lane   *lane
	wire   wire
	anchor anchor
	offset int64 // where the target must put it
}

func newCourier(leader int32) *courier {
	return &courier{leader: leader, queue: make(chan *shipment, maxRequests), pace: newPace()}
}

// load takes what is ready into one shipment; nil when nothing may go now.
func (c *courier) load() *shipment {
	if len(c.ready) == 0 || c.requests == cap(c.queue) || !c.pace.allows(c.bytes) {
		return nil
	}
	s := &shipment{}
	for range len(c.ready) {
		l := c.ready[0]
		if l.courier != c || !l.win.sendable() {
			c.ready = c.ready[1:]
			l.queued = false
			continue
		}
		if size := len(l.win.pending[l.win.sent].batch); s.bytes > 0 && s.bytes+size > shipmentBytes {
			break
		}
		c.ready = c.ready[1:]
		x, offset := l.win.send()
		s.parcels = append(s.parcels, parcel{lane: l, wire: x, anchor: l.win.anchor, offset: offset})
		s.bytes += len(x.batch)
		if l.queued = l.win.sendable(); l.queued {
			c.ready = append(c.ready, l)
		}
	}
	if len(s.parcels) == 0 {
		return nil
	}
	c.requests++
	c.bytes += s.bytes
	return s
}

// carry sends the shipments of one courier until ctx ends.
func (f *flow) carry(ctx context.Context, c *courier) {
	var requests sync.WaitGroup
	defer requests.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-c.queue:
			req := s.request()
			done := make(chan struct{})
			requests.Go(func() {
				defer close(done)
				resp, err := f.target.cl.Broker(int(c.leader)).Request(ctx, req)
				f.answered(c, s, resp, err)
			})
			// The client keeps the order of requests on a connection, but each
			// is asked for on a goroutine of its own: the next one may start
			// when this one has been encoded for writing.
			select {
			case <-req.encoded:
			case <-done:
			}
		}
	}
}

// produce is a request that says when it is being written.
type produce struct {
	*kmsg.ProduceRequest
	encoded chan struct{}
	once    *sync.Once
	byName  bool
}

func (p produce) AppendTo(dst []byte) []byte {
	p.once.Do(func() { close(p.encoded) })
	return p.ProduceRequest.AppendTo(dst)
}

// MaxVersion keeps to names when a topic has no id: from version 13 on only ids count.
func (p produce) MaxVersion() int16 {
	if p.byName {
		return 12
	}
	return p.ProduceRequest.MaxVersion()
}

func (s *shipment) request() produce {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(produceTimeout.Milliseconds())
	byName := false
	at := make(map[string]int, len(s.parcels))
	for i := range s.parcels {
		p := &s.parcels[i]
		p.wire.batch.SetProducer(p.anchor.ProducerID, p.anchor.ProducerEpoch, p.anchor.sequence(p.offset))
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p.lane.tp.Partition, p.wire.batch
		j, ok := at[p.lane.remote]
		if !ok {
			j = len(req.Topics)
			at[p.lane.remote] = j
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = p.lane.remote, p.anchor.TargetID
			req.Topics = append(req.Topics, t)
			byName = byName || p.anchor.TargetID == hexID{}
		}
		req.Topics[j].Partitions = append(req.Topics[j].Partitions, part)
	}
	return produce{req, make(chan struct{}), new(sync.Once), byName}
}

var errNotAnswered = errors.New("the target's answer leaves the partition out")

// outcome finds what the target says of one parcel.
func (p *parcel) outcome(kresp kmsg.Response, err error) (t trouble, base int64, reason string) {
	if err != nil {
		return unsure, -1, err.Error()
	}
	resp := kresp.(*kmsg.ProduceResponse)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if resp.Version >= 13 && t.TopicID != p.anchor.TargetID || resp.Version < 13 && t.Topic != p.lane.remote {
			continue
		}
		for j := range t.Partitions {
			if part := &t.Partitions[j]; part.Partition == p.lane.tp.Partition {
				trouble := classify(part.ErrorCode)
				if trouble == calm {
					return calm, part.BaseOffset, ""
				}
				return trouble, -1, explain(part)
			}
		}
	}
	return unsure, -1, errNotAnswered.Error()
}

func explain(p *kmsg.ProduceResponseTopicPartition) string {
	text := kerr.ErrorForCode(p.ErrorCode).Error()
	if p.ErrorMessage != nil && *p.ErrorMessage != "" {
		text = fmt.Sprintf("%s (%s)", text, *p.ErrorMessage)
	}
	return text
}

// classify turns an answer's code into what is to be done.
func classify(code int16) trouble {
	err := kerr.ErrorForCode(code)
	switch {
	case err == nil, errors.Is(err, kerr.DuplicateSequenceNumber):
		return calm
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return tooLarge
	case errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp), errors.Is(err, kerr.UnsupportedForMessageFormat):
		return rejected
	case errors.Is(err, kerr.UnknownProducerID), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerIDMapping):
		return expelled
	}
	return unsure
}
