package kafka

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Fetch sessions (KIP-227): the broker remembers which partitions a consumer reads
// and from where, so that a request names only those that have changed, and the
// answer only those with news. A consumer of a thousand quiet partitions sends and
// gets some twenty bytes.
//
// The epoch of a request says what it wants: -1 no session, 0 a new one, anything
// else is the next request of the session named. A session belongs to no connection,
// so that a client that has to connect anew goes on; clients leak them (sarama, the
// @platformatic client), which is why their number is bounded and the idle ones go.
const (
	finalEpoch   = -1
	initialEpoch = 0
	// sessionIdle is how long a session must have been idle, or have lived, before it
	// may make room for another.
	sessionIdle = 2 * time.Minute
)

// fetchSessions is all sessions of the server.
type fetchSessions struct {
	slots    int
	maxParts int // that all together remember
	most     int // partitions of one
	evicted  atomic.Int64

	mu    sync.Mutex
	all   map[int32]*fetchSession
	parts int // of all
}

// fetchSession is what one consumer reads.
type fetchSession struct {
	id   int32
	byID bool // topics are named by id
	most int  // partitions
	// Guarded by fetchSessions.mu.
	created, used time.Time
	size          int // partitions

	mu      sync.Mutex // taken before fetchSessions.mu
	epoch   int32      // of the next request
	parts   []sessionPart
	places  map[sessionKey]int // in parts
	changes uint64             // grows when a place changes
}

// sessionPart is a partition as the client last asked for it and was answered.
type sessionPart struct {
	topicName
	id, epoch                       int32
	offset                          int64
	maxBytes                        int
	highWatermark, stable, logStart int64
}

// begin makes f whole by what its session remembers. The error is of the request.
func (c *fetchSessions) begin(f *fetchReply) error {
	if f.sessionEpoch == finalEpoch || f.sessionEpoch == initialEpoch {
		if f.sessionID != 0 {
			c.remove(f.sessionID)
		}
		f.sessionID = 0
		return nil
	}
	s := c.use(f.sessionID)
	if s == nil {
		return kerr.FetchSessionIDNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch byID := f.version >= idFetchMin; {
	case s.epoch != f.sessionEpoch:
		return kerr.InvalidFetchSessionEpoch
	case s.byID != byID:
		return kerr.FetchSessionTopicIDError
	}
	s.update(f)
	if len(s.parts) > s.most || !c.resize(s, len(s.parts)) {
		c.remove(s.id)
		return kerr.FetchSessionIDNotFound // evicted meanwhile, or too large to be remembered
	}
	f.take(s)
	if len(s.parts) == 0 {
		c.remove(s.id)
		f.session, f.sessionID = nil, 0
	}
	return nil
}

// update takes over what the request changes.
func (s *fetchSession) update(f *fetchReply) {
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1
	}
	at := 0
	for _, t := range f.topics {
		for i := range f.parts[at : at+t.parts] {
			s.put(t.topicName, &f.parts[at+i])
		}
		at += t.parts
	}
	if len(f.forgotten) == 0 {
		return
	}
	for _, key := range f.forgotten {
		if i, ok := s.places[key]; ok {
			s.parts[i].id = -1
		}
	}
	kept := s.parts[:0]
	for _, p := range s.parts {
		if p.id >= 0 {
			kept = append(kept, p)
		}
	}
	clear(s.parts[len(kept):])
	s.parts = kept
	s.index()
}

func (s *fetchSession) put(of topicName, part *fetchPart) {
	i, ok := s.places[sessionKey{of, part.id}]
	if !ok {
		if len(s.parts) > s.most || part.id < 0 {
			return
		}
		i = len(s.parts)
		s.places[sessionKey{of, part.id}] = i
		s.parts = append(s.parts, sessionPart{topicName: of, id: part.id, highWatermark: -1, stable: -1, logStart: -1})
		s.changes++
	}
	p := &s.parts[i]
	p.epoch, p.offset, p.maxBytes = part.epoch, part.offset, part.maxBytes
}

func (s *fetchSession) index() {
	s.changes++
	s.places = make(map[sessionKey]int, len(s.parts))
	for i := range s.parts {
		p := &s.parts[i]
		of := p.topicName
		if of.byID {
			of.name = "" // as the client names it
		}
		s.places[sessionKey{of, p.id}] = i
	}
}

// take makes f ask for all that its session has.
func (f *fetchReply) take(s *fetchSession) {
	f.session, f.seen = s, s.changes
	f.topics, f.parts = f.topics[:0], f.parts[:0]
	for i := range s.parts {
		p := &s.parts[i]
		if n := len(f.topics); n == 0 || f.topics[n-1].topicName != p.topicName {
			f.topics = append(f.topics, fetchTopic{topicName: p.topicName})
		}
		f.topics[len(f.topics)-1].parts++
		f.parts = append(f.parts, fetchPart{id: p.id, epoch: p.epoch, offset: p.offset, maxBytes: p.maxBytes})
	}
}

// end begins the session that the client has asked for, or leaves out of the answer
// what the session says that the client knows already.
func (c *fetchSessions) end(f *fetchReply) {
	switch {
	case f.session != nil:
		f.session.mu.Lock()
		defer f.session.mu.Unlock()
		// Who uses one session on two connections at a time is told everything.
		if f.session.changes == f.seen {
			f.leaveOut(f.session.parts)
		}
	case f.sessionEpoch == initialEpoch && len(f.parts) > 0:
		f.sessionID = c.create(f)
	}
}

// leaveOut keeps the partitions that have records, an error or other bounds than the
// client was told last.
func (f *fetchReply) leaveOut(told []sessionPart) {
	topics, kept, at := f.topics[:0], 0, 0
	for _, t := range f.topics {
		before := kept
		for i := at; i < at+t.parts; i++ {
			if f.parts[i].news(&told[i]) {
				f.parts[kept] = f.parts[i]
				kept++
			}
		}
		at += t.parts
		if kept > before {
			topics = append(topics, fetchTopic{t.topicName, kept - before})
		}
	}
	clear(f.parts[kept:])
	f.topics, f.parts = topics, f.parts[:kept]
}

// news reports whether the client must be told of the partition, and notes that it is.
func (part *fetchPart) news(told *sessionPart) bool {
	if part.err != nil {
		told.highWatermark, told.stable = -1, -1 // so that the end of the error is news
		return true
	}
	same := part.highWatermark == told.highWatermark && part.stable == told.stable && part.logStart == told.logStart
	told.highWatermark, told.stable, told.logStart = part.highWatermark, part.stable, part.logStart
	if told.byID && told.name == "" {
		told.name = part.partition.TopicPartition().Topic
	}
	return !same || part.held || len(part.records) > 0
}

// create remembers what f asked for; 0 means that there is no room.
func (c *fetchSessions) create(f *fetchReply) (id int32) {
	s := &fetchSession{epoch: initialEpoch + 1, most: c.most, byID: f.version >= idFetchMin, places: make(map[sessionKey]int, len(f.parts))}
	at := 0
	for _, t := range f.topics {
		for i := range f.parts[at : at+t.parts] {
			part := &f.parts[at+i]
			s.put(t.topicName, part)
			if place, ok := s.places[sessionKey{t.topicName, part.id}]; ok {
				part.news(&s.parts[place])
			}
		}
		at += t.parts
	}
	s.size = len(s.parts)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if s.size == 0 || !c.makeRoom(s.size, now) {
		return 0
	}
	for s.id == 0 || c.all[s.id] != nil {
		s.id = rand.Int32N(math.MaxInt32)
	}
	if c.all == nil {
		c.all = map[int32]*fetchSession{}
	}
	s.created, s.used = now, now
	c.all[s.id] = s
	c.parts += s.size
	return s.id
}

// makeRoom evicts at most one session for another of so many partitions, by Kafka's
// rules: one that has been idle for sessionIdle, or else one that has lived as long
// and has fewer partitions, for the larger one saves more.
func (c *fetchSessions) makeRoom(size int, now time.Time) bool {
	fits := func() bool { return len(c.all) < c.slots && c.parts+size <= c.maxParts }
	if fits() {
		return true
	}
	var idle, small *fetchSession
	for _, s := range c.all {
		if now.Sub(s.used) > sessionIdle && (idle == nil || s.used.Before(idle.used)) {
			idle = s
		}
		if now.Sub(s.created) > sessionIdle && s.size < size && (small == nil || s.size < small.size) {
			small = s
		}
	}
	if idle == nil {
		idle = small
	}
	if idle == nil {
		return false
	}
	c.drop(idle)
	c.evicted.Add(1)
	return fits()
}

// use finds a session and notes that it is alive.
func (c *fetchSessions) use(id int32) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.all[id]
	if s != nil {
		s.used = time.Now()
	}
	return s
}

// resize notes how many partitions a session has, and reports whether it may.
func (c *fetchSessions) resize(s *fetchSession, size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[s.id] != s || c.parts+size-s.size > c.maxParts {
		return false
	}
	c.parts += size - s.size
	s.size = size
	return true
}

func (c *fetchSessions) remove(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.all[id]; s != nil {
		c.drop(s)
	}
}

func (c *fetchSessions) drop(s *fetchSession) {
	delete(c.all, s.id)
	c.parts -= s.size
}

func (c *fetchSessions) size() (sessions, partitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all), c.parts
}

// parseForgotten reads which partitions the session is to forget.
func (f *fetchReply) parseForgotten(r *reader, c *conn, byID bool) {
	for range r.arrayLen() {
		of := r.topic(c, byID)
		for range r.arrayLen() {
			if f.forgotten = append(f.forgotten, sessionKey{of, r.int32()}); r.bad || len(f.forgotten) > f.s.o.MaxRequestPartitions {
				return
			}
		}
		r.tags()
	}
}
