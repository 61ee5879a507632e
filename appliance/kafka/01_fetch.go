package kafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/topic"
)

// Fetch, key 1, versions 4-18 (flexible from 12): read committed batches.
//
// From 13 topics are named by id (KIP-516). What 14 to 18 add is for followers and
// tiered storage, and all of it in tagged fields. Fetch sessions (KIP-227, from 7)
// are in fetch_session.go; a client that wants none, such as librdkafka, says so.
//
// The answer waits on the reader for min_bytes or max_wait, like Kafka's, which does
// not take the next request of a connection either. The first partition with data
// gives at least one whole batch, however large, or a consumer with small limits
// would stand still; after that max_bytes holds. Each fetch begins at another
// partition of the list, so that a busy one does not starve the rest.
//
// Bytes go from the segment file to the socket. Versions before 10 must not see zstd
// (KIP-110): for them batches pass through memory and are looked at.
const (
	fetchKey     = 1
	fetchMin     = 4
	fetchMax     = 18
	zstdFetchMin = 10
	idFetchMin   = 13
	// taggedReplicaMin is where the replica id becomes a tagged field.
	taggedReplicaMin = 15
	// sessionFetchMin is where sessions begin.
	sessionFetchMin = 7
	// inlineSection is the size in bytes up to which records are copied into the
	// answer's head: one write is cheaper than a sendfile of little.
	inlineSection = 8 << 10
	// maxInMemory bounds, in bytes, an answer that passes through memory.
	maxInMemory = 4 << 20
)

func init() {
	register(api{key: fetchKey, name: "Fetch", needs: "READ Topic", min: fetchMin, max: fetchMax, stream: (*Server).fetch, maxFrame: dataFrame,
		notes: "topics by id (13); incremental fetch sessions (7); records by sendfile, never above the high watermark, with read_committed never above the last stable offset"})
}

type fetchRequest struct {
	maxWait       time.Duration
	minBytes      int
	maxBytes      int
	readCommitted bool
	sessionID     int32
	sessionEpoch  int32
}

// fetchReply is the partitions of one Fetch with what was found for them.
type fetchReply struct {
	fetchRequest
	version       int16
	correlationID int32
	s             *Server
	topics        []fetchTopic
	parts         []fetchPart
	forgotten     []sessionKey // partitions to take out of the session
	session       *fetchSession
	seen          uint64 // the session's changes, when its partitions were taken
	err           error  // of the request as a whole
	throttle      int32  // ms
	total         int    // bytes of records
	failed        bool   // a partition has an error, which does not wait
	buf           []byte
}

type fetchTopic struct {
	topicName
	parts int
}

// sessionKey is one partition as the client names it.
type sessionKey struct {
	topicName
	id int32
}

type fetchPart struct {
	id       int32
	epoch    int32 // the leader epoch the client believes in, or -1
	offset   int64
	maxBytes int

	partition               *topic.Partition
	err                     error
	highWatermark, logStart int64
	stable                  int64                      // the last stable offset
	aborted                 []topic.AbortedTransaction // for who reads what is committed
	section                 topic.Section
	held                    bool   // section is open
	records                 []byte // instead of section, for old versions
	cut                     int    // where in buf the section goes, if it is held still
}

var fetchReplies = sync.Pool{New: func() any { return new(fetchReply) }}

func (s *Server) fetch(r *request, body []byte) (reply, error) {
	f := fetchReplies.Get().(*fetchReply)
	f.s, f.version, f.correlationID = s, r.version, r.correlationID
	if err := f.parse(r.conn, body); err != nil {
		f.release()
		return nil, err
	}
	if room, limited := s.o.Quotas.Room(r.conn.client(), quota.FetchBytes); limited {
		f.maxBytes = min(f.maxBytes, room)
	}
	if f.err = s.sessions.begin(f); f.err == nil {
		f.look(s, r)
		r.conn.round++
		if err := f.await(r); err != nil {
			f.release()
			return nil, err
		}
		s.sessions.end(f)
	}
	f.throttle = r.throttle(quota.FetchBytes, f.total)
	f.encode()
	return f, nil
}

func (f *fetchReply) parse(c *conn, body []byte) error {
	r := reader{b: body, flexible: isFlexible(fetchKey, f.version)}
	if f.version < taggedReplicaMin {
		r.int32() // replica id: there are no followers
	}
	f.maxWait = min(time.Duration(r.int32())*time.Millisecond, f.s.o.MaxFetchWait)
	f.minBytes = int(r.int32())
	f.maxBytes = max(0, min(int(r.int32()), f.s.o.MaxFetchBytes))
	if f.version < zstdFetchMin {
		f.maxBytes = min(f.maxBytes, maxInMemory)
	}
	f.readCommitted = r.int8() == 1
	f.sessionID, f.sessionEpoch = 0, finalEpoch
	if f.version >= sessionFetchMin {
		f.sessionID, f.sessionEpoch = r.int32(), r.int32()
	}
	byID, most := f.version >= idFetchMin, f.s.o.MaxRequestPartitions
	for range r.arrayLen() {
		of := r.topic(c, byID)
		n := r.arrayLen()
		for i := 0; i < n && !r.bad && len(f.parts) <= most; i++ {
			f.parts = append(f.parts, readFetchPart(&r, f.version))
		}
		r.tags()
		if r.bad || len(f.parts) > most {
			break
		}
		f.topics = append(f.topics, fetchTopic{of, n})
	}
	if f.version >= sessionFetchMin {
		f.parseForgotten(&r, c, byID)
	}
	if len(f.parts) > most || len(f.forgotten) > most {
		return fmt.Errorf("%w: Fetch of more than %d partitions (max.request.partitions)", errMalformed, most)
	}
	// What is left (rack, tags) is of no use here.
	if r.bad {
		return fmt.Errorf("%w: Fetch v%d", errMalformed, f.version)
	}
	return nil
}

func readFetchPart(r *reader, version int16) (part fetchPart) {
	part.id, part.epoch = r.int32(), -1
	if version >= 9 {
		part.epoch = r.int32()
	}
	part.offset = r.int64()
	if version >= 12 {
		r.int32() // last fetched epoch: committed records never change, so nothing diverges
	}
	if version >= 5 {
		r.int64() // a follower's log start offset
	}
	part.maxBytes = max(0, int(r.int32()))
	r.tags()
	return part
}

// look finds the partitions.
func (f *fetchReply) look(s *Server, r *request) {
	at := 0
	for _, t := range f.topics {
		refused := r.authorizeNamed(auth.Read, t.topicName)
		for i := range f.parts[at : at+t.parts] {
			part := &f.parts[at+i]
			if part.err = refused; refused == nil {
				part.partition, part.err = s.partitionOf(t.topicName, part.id)
			}
			if part.err == nil {
				part.err = checkEpoch(part.partition, part.epoch)
			}
			f.failed = f.failed || part.err != nil
		}
		at += t.parts
	}
}

// checkEpoch compares the leader epoch a client believes in (KIP-320) with ours.
func checkEpoch(p *topic.Partition, epoch int32) error {
	switch ours := p.LeaderEpoch(); {
	case epoch == -1 || epoch == ours:
		return nil
	case epoch < ours:
		return kerr.FencedLeaderEpoch
	}
	return kerr.UnknownLeaderEpoch
}

// await collects records until there are enough or the time is over.
func (f *fetchReply) await(r *request) error {
	if f.collect(r.conn.round) || f.maxWait <= 0 {
		return nil
	}
	defer r.waiting()()
	advanced := make(chan struct{}, 1)
	for i := range f.parts {
		f.parts[i].partition.Watch(advanced)
		defer f.parts[i].partition.Unwatch(advanced)
	}
	timer := time.NewTimer(f.maxWait)
	defer timer.Stop()
	for !f.collect(r.conn.round) {
		select {
		case <-advanced:
		case <-timer.C:
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	return nil
}

// collect reads every partition, beginning with the one at start, and reports
// whether that is enough to answer.
func (f *fetchReply) collect(start int) bool {
	f.drop()
	for i := range f.parts {
		part := &f.parts[(start+i)%len(f.parts)]
		if part.err == nil {
			f.read(part)
		}
		f.failed = f.failed || part.err != nil
	}
	return f.failed || len(f.parts) == 0 || f.total >= f.minBytes
}

func (f *fetchReply) read(part *fetchPart) {
	if part.err = part.partition.Err(); part.err != nil {
		return // deleted, or its disk has failed, while this waited
	}
	part.highWatermark, part.logStart = part.partition.HighWatermark(), part.partition.LogStartOffset()
	part.stable = min(part.partition.LastStableOffset(), part.highWatermark)
	room := f.maxBytes - f.total
	if part.offset == part.highWatermark || f.total > 0 && room <= 0 {
		return
	}
	section, err := f.section(part, min(part.maxBytes, max(room, 0)))
	if err != nil {
		part.err = err
		return
	}
	if f.total > 0 && section.Len() > room {
		_ = section.Close()
		part.aborted = nil
		return
	}
	part.section, part.held = section, true
	f.total += section.Len()
	if f.version < zstdFetchMin {
		part.err = part.loadWithoutZstd()
	}
}

func (part *fetchPart) close() {
	if part.held {
		_ = part.section.Close()
	}
	part.section, part.held = topic.Section{}, false
}

// drop forgets what collect has found.
func (f *fetchReply) drop() {
	for i := range f.parts {
		f.parts[i].close()
		f.parts[i].records, f.parts[i].aborted = nil, nil
	}
	f.total = 0
}

func (f *fetchReply) ready() <-chan struct{} { return nil }
func (f *fetchReply) size() int              { return len(f.buf) + f.total }

func (f *fetchReply) release() {
	f.drop()
	clear(f.parts)
	clear(f.topics)
	clear(f.forgotten)
	f.parts, f.topics, f.forgotten, f.failed, f.s, f.session, f.err = f.parts[:0], f.topics[:0], f.forgotten[:0], false, nil, nil, nil
	if cap(f.parts) <= keepParts && cap(f.buf) <= freeFrame {
		fetchReplies.Put(f)
	}
}

// encode lays out the answer around the sections, which writeTo puts in their places.
func (f *fetchReply) encode() {
	flexible := isFlexible(fetchKey, f.version)
	e := encoder{b: appendResponseHeader(f.buf[:0], f.correlationID, fetchKey, flexible), flexible: flexible}
	e.int32(f.throttle)
	if f.err != nil {
		f.topics, f.sessionID = f.topics[:0], 0
	}
	if f.version >= sessionFetchMin {
		e.int16(errorCode(f.err))
		e.int32(f.sessionID)
	}
	e.arrayLen(len(f.topics))
	at, outside := 0, 0
	for _, t := range f.topics {
		e.topic(t.topicName)
		e.arrayLen(t.parts)
		for i := range f.parts[at : at+t.parts] {
			outside += f.appendPart(&e, &f.parts[at+i])
		}
		at += t.parts
		e.tags()
	}
	e.tags()
	f.buf = e.b
	binary.BigEndian.PutUint32(f.buf, uint32(len(f.buf)-4+outside))
}

// appendPart returns how many bytes of records are to be put at part.cut.
func (f *fetchReply) appendPart(e *encoder, part *fetchPart) (outside int) {
	start := len(e.b)
	if part.err != nil {
		part.close()
		part.records, part.highWatermark, part.stable, part.logStart, part.aborted = nil, -1, -1, -1, nil
	}
	e.int32(part.id)
	e.int16(errorCode(part.err))
	e.int64(part.highWatermark)
	e.int64(part.stable)
	if f.version >= 5 {
		e.int64(part.logStart)
	}
	e.aborted(part.aborted, f.readCommitted)
	if f.version >= 11 {
		e.int32(-1) // preferred read replica
	}
	switch {
	case !part.held:
		e.bytesLen(len(part.records))
		e.b = append(e.b, part.records...)
	case part.section.Len() > inlineSection:
		outside = part.section.Len()
		e.bytesLen(outside)
		part.cut = len(e.b)
	default:
		e.bytesLen(part.section.Len())
		e.b, part.err = part.section.AppendTo(e.b)
		part.close()
		if part.err != nil { // the disk failed: answer that instead
			e.b = e.b[:start]
			return f.appendPart(e, part)
		}
	}
	e.tags()
	return outside
}

func (f *fetchReply) writeTo(w io.Writer) error {
	sent := 0
	for i := range f.parts {
		part := &f.parts[i]
		if !part.held {
			continue
		}
		if _, err := w.Write(f.buf[sent:part.cut]); err != nil {
			return err
		}
		sent = part.cut
		n, err := part.section.WriteTo(w)
		if err == nil && n != int64(part.section.Len()) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("%s from offset %d: %w", part.partition.TopicPartition(), part.offset, err)
		}
	}
	f.s.bytesOut.Add(int64(f.total))
	if sent == len(f.buf) {
		return nil
	}
	_, err := w.Write(f.buf[sent:])
	return err
}
