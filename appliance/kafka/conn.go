package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/quota"
)

// readBuffer is the memory in bytes that an idle connection keeps for reading.
const readBuffer = 4 << 10

// conn is one client connection. Two goroutines serve it: the reader takes requests
// and runs their handlers; the writer sends the replies in the order of the
// requests. Produce alone leaves the reader before its answer is known.
type conn struct {
	s      *Server
	nc     net.Conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	frames frameReader
	// replies is the order of answers; its capacity bounds what is in flight.
	replies chan queued
	// heavy has a token for each queued reply that may be large: all but Produce's,
	// and those of a Produce to many partitions.
	heavy chan struct{}
	// request is the one being handled, if its handler does not keep it.
	request request
	// user is who authenticated, clientID what the last request called itself.
	user, clientID string
	// silence is for how long nothing is read after this request.
	silence time.Duration
	// software is what ApiVersions v3+ said the client is; only the reader uses it.
	software string
	// login is who the client is; secure.go says how that comes about.
	login login
	// names are the topic names that hot requests use, so that each is made a string
	// once; only the reader uses it.
	names map[string]string
	// round counts fetches: each starts at the next partition of its list.
	round int
}

// maxNames bounds the names a connection keeps.
const maxNames = 256

// maxTopicName is the length in bytes of the longest name a topic can have.
const maxTopicName = 249

// intern is string(b) without the allocation, the second time.
func (c *conn) intern(b []byte) string {
	if name, ok := c.names[string(b)]; ok {
		return name
	}
	if c.names == nil || len(c.names) >= maxNames {
		c.names = make(map[string]string)
	}
	name := string(b)
	if len(name) <= maxTopicName {
		c.names[name] = name
	}
	return name
}

type queued struct {
	reply
	heavy bool
}

func newConn(s *Server, nc net.Conn, sec *Security) *conn {
	c := &conn{s: s, nc: nc, replies: make(chan queued, s.o.MaxInFlight), heavy: make(chan struct{}, s.o.MaxQueuedReplies)}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.frames = frameReader{ctx: c.ctx, nc: nc, br: bufio.NewReaderSize(nc, readBuffer), o: &s.o, budget: &s.budget}
	c.begin(sec)
	return c
}

// serve runs until the client leaves, breaks the protocol or the server stops. All
// goroutines of the connection have ended when it returns.
func (c *conn) serve() error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	stop := context.AfterFunc(c.ctx, func() { _ = c.nc.SetReadDeadline(longAgo) })
	err := c.greet()
	if err == nil {
		err = c.read()
	}
	close(c.replies)
	<-written // a client that misbehaved gets the answers it is owed all the same
	stop()
	if cause := context.Cause(c.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	c.cancel(nil)
	c.end()
	_ = c.nc.Close()
	return err
}

func (c *conn) read() error {
	for {
		if err := c.proceed(); err != nil {
			return err
		}
		f, err := c.frames.next()
		if err != nil {
			return err
		}
		if err := c.dispatch(f); err != nil {
			return err
		}
		if err := c.rest(); err != nil {
			return err
		}
	}
}

// dispatch runs the handler of one request and queues its reply.
func (c *conn) dispatch(f *frame) error {
	h, err := parseHeader(f.bytes)
	if err != nil {
		f.release(c.frames.budget, true)
		return err
	}
	a := lookup(h.key)
	if a == nil {
		f.release(c.frames.budget, true)
		return fmt.Errorf("%w %d, version %d", errUnknownAPI, h.key, h.version)
	}
	if err := c.checkLogin(a.key); err != nil {
		f.release(c.frames.budget, true)
		return err
	}
	c.s.requests[a.key].Add(1)
	if string(h.clientID) != c.clientID {
		c.clientID = string(h.clientID)
	}
	c.request = request{ctx: c.ctx, conn: c, api: a, version: h.version, correlationID: h.correlationID}
	c.request.begin()
	if a.stream != nil || !a.serves(h.version) {
		defer f.release(c.frames.budget, true)
		return c.stream(&c.request, h.body)
	}
	defer f.release(c.frames.budget, false)
	r := c.request // its own: a handler may keep it
	r.clientID = c.clientID
	return c.handle(&r, h.body)
}

func (c *conn) stream(r *request, body []byte) error {
	heavy := r.api.key != produceKey
	if heavy && !c.acquire() {
		return context.Cause(c.ctx)
	}
	rep, err := c.answer(r, body)
	if err != nil || rep == nil {
		if heavy {
			<-c.heavy
		}
		return err
	}
	if p, ok := rep.(*produceReply); ok {
		heavy = p.wide
	}
	return c.queue(queued{rep, heavy})
}

func (c *conn) answer(r *request, body []byte) (reply, error) {
	a := r.api
	switch {
	case a.serves(r.version):
		return a.stream(c.s, r, body)
	case a.unsupported != nil:
		return a.unsupported(r, body)
	}
	return nil, fmt.Errorf("%w %d of %s, served are %d to %d", errVersion, r.version, a.name, a.min, a.max)
}

func (c *conn) handle(r *request, body []byte) error {
	a := r.api
	r.body = kmsg.RequestForKey(a.key)
	r.body.SetVersion(r.version)
	if err := c.s.decode(r.body, body); err != nil {
		return fmt.Errorf("%w: %s v%d: %w", errMalformed, a.name, r.version, err)
	}
	if !c.acquire() {
		return context.Cause(c.ctx)
	}
	resp := a.handle(c.s, r)
	if resp == nil {
		<-c.heavy
		return nil
	}
	resp.SetVersion(r.version)
	if t, ok := resp.(kmsg.SetThrottleResponse); ok {
		if ms := r.throttle(quota.RequestTime, 0); ms > 0 {
			t.SetThrottle(ms)
		}
	}
	return c.queue(queued{encode(r.correlationID, resp), true})
}

// acquire waits until fewer than maxQueuedReplies wait to be sent.
func (c *conn) acquire() bool {
	select {
	case c.heavy <- struct{}{}:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// queue hands a reply to the writer. It blocks while MaxInFlight are owed: the
// client is not read from until it takes its answers.
func (c *conn) queue(q queued) error {
	select {
	case c.replies <- q:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// write sends replies in order until there are no more. After one could not be
// sent the rest is dropped, until the reader has noticed.
func (c *conn) write() {
	broken := false
	for q := range c.replies {
		if !broken {
			broken = !c.send(q.reply)
		} else if q.ready() == nil {
			q.release()
		}
		if q.heavy {
			<-c.heavy
		}
	}
}

// send waits for one reply, sends it and releases it. A reply that is given up
// before it is known is left to the garbage collector: a commit still owes it.
func (c *conn) send(rep reply) bool {
	if ready := rep.ready(); ready != nil {
		select {
		case <-ready:
		case <-c.s.drained:
			return false
		}
	}
	defer rep.release()
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.s.o.WriteTimeout + time.Duration(rep.size()/minDrainRate)*time.Second))
	if err := rep.writeTo(c.nc); err != nil {
		c.cancel(fmt.Errorf("send: %w", err))
		return false
	}
	return true
}
