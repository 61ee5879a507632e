package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Produce, key 0, versions 3-13 (flexible from 9): append batches.
//
// Version 0 is advertised though 0-2 are refused with UNSUPPORTED_VERSION: without
// it in the range librdkafka 2.0.2 (Debian) silently stops compressing (KAFKA-18659).
// Batches of transactions go by way of their coordinator; see produce_transaction.go
// for what version 12 changes (KIP-890). 13 names topics by id (KIP-516).
//
// The frame is sliced by hand and every batch staged as it lies there; the log
// copies it. The reader goes on to the next request while the commit round runs.
// acks=1 and acks=all both wait for the commit: there is one copy and it is on
// stable storage. acks=0 gets no answer at all, not even on error (clients would
// take it for the answer to the next request); an error closes the connection, as
// Kafka does, so that the client notices.
//
// Since version 3 a partition's records are exactly one batch of magic 2. zstd needs
// version 7 (KIP-110). A duplicate of an idempotent producer's batch is a success
// with the first one's offset; the log decides that.
const produceKey = 0

const (
	produceMin     = 3
	produceMax     = 13
	zstdProduceMin = 7
	idProduceMin   = 13
)

func init() {
	register(api{key: produceKey, name: "Produce", needs: "WRITE Topic", min: produceMin, max: produceMax, advertised: from(0),
		stream: (*Server).produce, unsupported: produceTooOld, maxFrame: func(o *Options) int { return o.MaxProduceBytes },
		notes: "0-2 advertised for old librdkafka, answered UNSUPPORTED_VERSION; acks=1 and all wait for the commit; one batch of magic 2 per partition; topics by id (13)"})
}

// produceReply is one Produce request under way and then its answer.
type produceReply struct {
	version       int16
	correlationID int32
	conn          *conn
	acks          int16
	// transactionalID is empty for a producer that has none.
	transactionalID string
	wide            bool  // to so many partitions that few may be in flight
	throttle        int32 // ms
	topics          []produceTopic
	parts           []producePart
	left            atomic.Int32  // completions to come, and the reader's own
	done            chan struct{} // signalled at the last, unless acks is 0
	buf             []byte
}

type produceTopic struct {
	topicName
	parts int
}

// producePart is one batch and the record.Completion it is staged with.
type producePart struct {
	reply      *produceReply
	id         int32
	records    []byte // in the frame: nil once staged
	partition  *topic.Partition
	baseOffset int64
	appendTime int64 // -1 unless the topic stamps its batches
	err        error
}

var produceReplies = sync.Pool{New: func() any { return &produceReply{done: make(chan struct{}, 1)} }}

// produce stages the batches of one request.
func (s *Server) produce(r *request, body []byte) (reply, error) {
	p := produceReplies.Get().(*produceReply)
	p.version, p.correlationID, p.conn = r.version, r.correlationID, r.conn
	refused, err := p.parse(body)
	if err != nil {
		p.release()
		return nil, err
	}
	if refused == nil && p.transactionalID != "" {
		refused = r.authorize(auth.Write, auth.TransactionalID, p.transactionalID)
	}
	at, acks := 0, p.acks
	if p.wide = acks != 0 && len(p.parts) > wideParts; p.wide && !r.conn.acquire() {
		p.release()
		return nil, context.Cause(r.ctx)
	}
	p.left.Store(int32(len(p.parts)) + 1)
	for _, t := range p.topics {
		err := refused
		if err == nil {
			err = r.authorizeNamed(auth.Write, t.topicName)
		}
		for i := range p.parts[at : at+t.parts] {
			s.stage(&p.parts[at+i], t.topicName, err)
		}
		at += t.parts
	}
	p.throttle = r.throttle(quota.ProduceBytes, len(body))
	p.finish() // with acks=0 p may be gone from here on
	if acks == 0 {
		return nil, nil
	}
	return p, nil
}

// stage hands one batch to its partition, or refuses it.
func (s *Server) stage(part *producePart, of topicName, refused error) {
	batch, err := part.batch(part.reply.version)
	switch {
	case refused != nil:
		err = refused
	case err == nil:
		part.partition, err = s.partitionOf(of, part.id)
	}
	if err == nil && part.partition.Internal() {
		err = fmt.Errorf("%w: only Weir itself writes %s", kerr.InvalidTopicException, part.partition.TopicPartition())
	}
	part.records = nil
	if err != nil {
		part.Complete(-1, err)
		return
	}
	s.bytesIn.Add(int64(len(batch)))
	if batch.Transactional() {
		s.stageTransactional(part, batch)
		return
	}
	part.partition.Append(batch, part)
}

// batch checks what the wire alone knows; the log checks the rest.
func (part *producePart) batch(version int16) (record.Batch, error) {
	b, rest, ok := record.Split(part.records)
	switch {
	case len(part.records) > record.PrefixLen+4 && part.records[16] != 2:
		return nil, fmt.Errorf("%w: record format %d, Produce v3 and later take format 2 alone", record.ErrInvalidRecord, part.records[16])
	case len(part.records) == 0:
		return nil, fmt.Errorf("%w: no record batch", record.ErrInvalidRecord)
	case !ok:
		return nil, fmt.Errorf("%w: batch cut short", record.ErrCorrupt)
	case len(rest) != 0:
		return nil, fmt.Errorf("%w: more than one record batch for a partition", record.ErrInvalidRecord)
	case b.Codec() == record.Zstd && version < zstdProduceMin:
		return nil, fmt.Errorf("%w: zstd needs Produce v7 or later, this is v%d", record.ErrUnsupportedCodec, version)
	}
	return b, nil
}

// Complete notes one batch's outcome; it is a record.Completion.
func (part *producePart) Complete(baseOffset int64, err error) {
	part.baseOffset, part.err = baseOffset, err
	if err != nil && part.reply.acks == 0 {
		part.reply.conn.cancel(fmt.Errorf("produce with acks=0: %w", err))
	}
	part.reply.finish()
}

// Stamped implements record.Stamped.
func (part *producePart) Stamped(ms int64) { part.appendTime = ms }

func (p *produceReply) finish() {
	if p.left.Add(-1) > 0 {
		return
	}
	if p.acks == 0 {
		p.release()
		return
	}
	p.done <- struct{}{}
}

// parse slices the request into topics and parts. refused is why none of it can be
// appended although it is well formed.
func (p *produceReply) parse(body []byte) (refused, err error) {
	r, most := reader{b: body, flexible: isFlexible(produceKey, p.version)}, p.conn.s.o.MaxRequestPartitions
	p.transactionalID = p.conn.intern(r.nullableString())
	p.acks = r.int16()
	r.int32() // timeout: a commit round is not given up, the client's own timeout stands
	for range r.arrayLen() {
		of := r.topic(p.conn, p.version >= idProduceMin)
		n := r.arrayLen()
		for i := 0; i < n && !r.bad && len(p.parts) <= most; i++ {
			p.parts = append(p.parts, producePart{reply: p, id: r.int32(), records: r.nullableBytes(), appendTime: -1})
			r.tags()
		}
		r.tags()
		if r.bad || len(p.parts) > most {
			break
		}
		p.topics = append(p.topics, produceTopic{of, n})
	}
	r.tags()
	if len(p.parts) > most {
		return nil, fmt.Errorf("%w: Produce to more than %d partitions (max.request.partitions)", errMalformed, most)
	}
	if r.bad || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: Produce v%d", errMalformed, p.version)
	}
	if p.acks < -1 || p.acks > 1 {
		refused = fmt.Errorf("%w: %d", kerr.InvalidRequiredAcks, p.acks)
	}
	return refused, nil
}

func (p *produceReply) ready() <-chan struct{} { return p.done }
func (p *produceReply) size() int              { return 128 * len(p.parts) }

func (p *produceReply) release() {
	clear(p.parts)
	clear(p.topics)
	p.topics, p.parts, p.conn, p.acks, p.transactionalID = p.topics[:0], p.parts[:0], nil, -1, ""
	if cap(p.parts) <= keepParts && cap(p.buf) <= freeFrame {
		produceReplies.Put(p)
	}
}

// wideParts is the number of partitions of a Produce above which it is not pipelined
// freely: what it is remembered by until its answer is taken adds up.
const wideParts = 64

// keepParts is the most partitions whose memory is kept for a later request.
const keepParts = 1024

func (p *produceReply) writeTo(w io.Writer) error {
	flexible := isFlexible(produceKey, p.version)
	e := encoder{b: appendResponseHeader(p.buf[:0], p.correlationID, produceKey, flexible), flexible: flexible}
	e.arrayLen(len(p.topics))
	at := 0
	for _, t := range p.topics {
		e.topic(t.topicName)
		e.arrayLen(t.parts)
		for i := range p.parts[at : at+t.parts] {
			p.appendPart(&e, &p.parts[at+i])
		}
		at += t.parts
		e.tags()
	}
	e.int32(p.throttle)
	e.tags()
	p.buf = e.b
	binary.BigEndian.PutUint32(p.buf, uint32(len(p.buf)-4))
	_, err := w.Write(p.buf)
	return err
}

func (p *produceReply) appendPart(e *encoder, part *producePart) {
	logStart := int64(-1)
	if part.err == nil {
		logStart = part.partition.LogStartOffset()
	} else {
		part.baseOffset = -1
	}
	e.int32(part.id)
	e.int16(errorCode(part.err))
	e.int64(part.baseOffset)
	e.int64(part.appendTime)
	if p.version >= 5 {
		e.int64(logStart)
	}
	if p.version >= 8 {
		e.arrayLen(0) // record errors
		e.nullableString(errorMessage(part.err))
	}
	e.tags()
}
