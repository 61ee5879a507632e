// Package kafka is the wire: it speaks the Kafka protocol to any Kafka client and
// turns it into appends to and reads from the topics.
//
// A [Server] takes connections. Each has a reader and a writer goroutine and no
// others: a request is decoded and handled on the reader, so that it sees what the
// requests before it did, and answers leave in the order of the requests. Only
// Produce is pipelined: the reader stages its batches and goes on reading, the
// writer waits for the commit round that covers them.
//
// Every API key has a file NN_name.go, whose head says versions, behaviour and what
// known clients do; it registers itself in the dispatch table. Errors of the log
// become Kafka's error codes in errors.go and nowhere else.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/quota"
)

var errServerClosed = errors.New("kafka server closed")

// Server serves the Kafka protocol. Its methods may be called concurrently.
type Server struct {
	o        Options
	budget   budget
	ctx      context.Context // ends when Close starts
	cancel   context.CancelCauseFunc
	sessions fetchSessions
	// accepting paces new connections.
	accepting *quota.Pace
	// drained is closed when connections must no longer wait for commits.
	drained chan struct{}
	// decoding is held while a large request is decoded, see decode.
	decoding sync.Mutex

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perIP     map[string]int
	// The limits of connections, which change at run time.
	maxConns, maxConnsPerIP int
	wg                      sync.WaitGroup
	// Complaints about clients in the current window, see complain.
	complaints int
	window     time.Time

	accepted, turnedAway, refused atomic.Int64
	loginFailures                 atomic.Int64
	requests                      [maxKey + 1]atomic.Int64
	bytesIn, bytesOut             atomic.Int64
}

// New makes a server that listens nowhere yet.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		o: o.withDefaults(), drained: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, perIP: map[string]int{},
	}
	if s.o.Configs == nil {
		s.o.Configs, _ = OpenBrokerConfigs(nil, s.o.Topics.Defaults(), s.o.Topics.Tuning(), s.o.Log) // without a store nothing can fail
	}
	s.budget.limit = s.o.MaxQueuedBytes
	s.sessions.slots, s.sessions.maxParts, s.sessions.most = s.o.MaxFetchSessions, s.o.MaxFetchSessionPartitions, s.o.MaxRequestPartitions
	s.accepting = quota.NewPace(0)
	s.o.Configs.mu.Lock()
	defer s.o.Configs.mu.Unlock()
	if err := s.enforce(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// Serve is ServeSecure without any protection.
func (s *Server) Serve(l net.Listener) error { return s.ServeSecure(l, Security{Protocol: Plaintext}) }

// ServeSecure accepts connections from l, protected as sec says, until Close, when
// it returns nil, or until l fails. It closes l.
func (s *Server) ServeSecure(l net.Listener, sec Security) error {
	defer l.Close()
	if err := CheckAdvertised(sec.Advertised); err != nil {
		return fmt.Errorf("kafka: listener %s: %w", l.Addr(), err)
	}
	if sec.Protocol.TLS() && sec.TLS == nil {
		return fmt.Errorf("kafka: listener %s: %s without a certificate", l.Addr(), sec.Protocol)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	for {
		nc, err := l.Accept()
		switch {
		case s.stopping():
			if err == nil {
				_ = nc.Close()
			}
			return nil
		case err == nil:
			s.pace()
			s.start(nc, &sec)
		case isTemporary(err):
			// Out of descriptors: existing connections go on, new ones wait.
			s.o.Log.Warn("kafka listener: accept failed, trying again", "error", err)
			select {
			case <-time.After(acceptBackoff):
			case <-s.ctx.Done():
			}
		default:
			return fmt.Errorf("kafka: listener %s: %w", l.Addr(), err)
		}
	}
}

const (
	// maxComplaints bounds the log lines that clients can cause within complaintWindow.
	maxComplaints   = 50
	complaintWindow = 10 * time.Second
)

// complain logs what a client did wrong, but does not let it fill the disk.
func (s *Server) complain(msg string, args ...any) {
	s.mu.Lock()
	if now := time.Now(); now.Sub(s.window) > complaintWindow {
		s.window, s.complaints = now, 0
	}
	s.complaints++
	n := s.complaints
	s.mu.Unlock()
	switch {
	case n < maxComplaints:
		s.o.Log.Warn(msg, args...)
	case n == maxComplaints:
		s.o.Log.Warn(msg+"; more of these are not logged for some seconds", args...)
	}
}

// acceptBackoff is the pause after an accept that failed for want of resources.
const acceptBackoff = 100 * time.Millisecond

func isTemporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// start serves nc on goroutines of its own, unless there are too many connections.
func (s *Server) start(nc net.Conn, sec *Security) {
	c, err := s.admit(nc, sec)
	if err != nil {
		s.turnedAway.Add(1)
		s.complain("kafka connection turned away", "remote", nc.RemoteAddr(), "error", err)
		_ = nc.Close()
		return
	}
	go func() {
		defer s.leave(c)
		c.logClosed(c.serve())
	}()
}

// ServeConn serves one connection, which it closes, until it ends.
func (s *Server) ServeConn(nc net.Conn) error {
	c, err := s.admit(nc, &Security{Protocol: Plaintext})
	if err != nil {
		_ = nc.Close()
		return err
	}
	defer s.leave(c)
	err = c.serve()
	c.logClosed(err)
	return err
}

func (s *Server) admit(nc net.Conn, sec *Security) (*conn, error) {
	ip := remoteIP(nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errServerClosed
	case len(s.conns) >= s.maxConns:
		return nil, fmt.Errorf("%d connections are open, max.connections allows no more", len(s.conns))
	case s.perIP[ip] >= s.maxConnsPerIP:
		return nil, fmt.Errorf("%d connections are open from %s, max.connections.per.ip allows no more", s.perIP[ip], ip)
	case !s.o.Quotas.Connect(ip, time.Now()):
		return nil, fmt.Errorf("%s makes connections faster than its quota connection_creation_rate allows", ip)
	}
	if sec.Protocol.TLS() {
		nc = tls.Server(nc, sec.TLS)
	}
	c := newConn(s, nc, sec)
	s.conns[c] = struct{}{}
	s.perIP[ip]++
	s.wg.Add(1)
	s.accepted.Add(1)
	return c, nil
}

func (s *Server) leave(c *conn) {
	ip := remoteIP(c.nc)
	s.mu.Lock()
	delete(s.conns, c)
	if s.perIP[ip]--; s.perIP[ip] <= 0 {
		delete(s.perIP, ip)
	}
	s.mu.Unlock()
	s.wg.Done()
}

func remoteIP(nc net.Conn) string {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return nc.RemoteAddr().String()
}

func (s *Server) stopping() bool { return s.ctx.Err() != nil }

// Close stops listening and reading, lets connections send what they owe for a
// short time, and returns when all have ended. The topics must be open until then.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.cancel(errServerClosed)
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	if first {
		timer := time.AfterFunc(drainTimeout, s.abandon)
		s.wg.Wait()
		if timer.Stop() {
			s.abandon()
		}
	}
	s.wg.Wait()
	return nil
}

// abandon ends the connections that are still there, answers or not.
func (s *Server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.drained)
	for c := range s.conns {
		_ = c.nc.Close()
	}
}

// largeDecode is the request size in bytes from which decoding takes turns.
const largeDecode = 4 << 10

// decode reads a request. The decoder allocates what array lengths claim as far as
// bytes are left. Requests that may be large are held to their shape first; of the
// others, taking turns keeps what a forged one can waste to once maxAdminFrame
// times the size of an element, however many connections send one.
func (s *Server) decode(req kmsg.Request, body []byte) error {
	if err := checkShape(req.Key(), req.GetVersion(), body, s.o.MaxRequestElements); err != nil {
		return err
	}
	if len(body) > largeDecode {
		s.decoding.Lock()
		defer s.decoding.Unlock()
	}
	return req.ReadFrom(body)
}

// Status is the server's part of GET /v1/status.
type Status struct {
	Connections int   `json:"connections"`
	Accepted    int64 `json:"connections_accepted"`
	TurnedAway  int64 `json:"connections_turned_away"`
	BadRequests int64 `json:"connections_closed_bad_request"`
	NotLoggedIn int64 `json:"connections_closed_not_logged_in"`
}

// Status is what the server does now.
func (s *Server) Status() Status {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	return Status{Connections: n, Accepted: s.accepted.Load(), TurnedAway: s.turnedAway.Load(), BadRequests: s.refused.Load(), NotLoggedIn: s.loginFailures.Load()}
}

// Metrics writes the server's figures.
func (s *Server) Metrics(w *metric.Writer) {
	st := s.Status()
	w.Gauge("weir_kafka_connections", "Open Kafka connections.", float64(st.Connections))
	w.Counter("weir_kafka_connections_accepted_total", "Kafka connections accepted.", float64(st.Accepted))
	w.Counter("weir_kafka_connections_turned_away_total", "Kafka connections over a connection limit.", float64(st.TurnedAway))
	w.Counter("weir_kafka_connections_bad_request_total", "Kafka connections closed for a request that could not be read.", float64(st.BadRequests))
	w.Counter("weir_kafka_connections_not_logged_in_total", "Kafka connections closed because the client was not or no more logged in.", float64(st.NotLoggedIn))
	w.Counter("weir_kafka_produce_bytes_total", "Bytes of record batches received.", float64(s.bytesIn.Load()))
	w.Counter("weir_kafka_fetch_bytes_total", "Bytes of record batches sent.", float64(s.bytesOut.Load()))
	s.o.Quotas.Metrics(w)
	sessions, partitions := s.sessions.size()
	w.Gauge("weir_kafka_fetch_sessions", "Incremental fetch sessions kept.", float64(sessions))
	w.Gauge("weir_kafka_fetch_session_partitions", "Partitions that fetch sessions remember.", float64(partitions))
	w.Counter("weir_kafka_fetch_sessions_evicted_total", "Fetch sessions that made room for others.", float64(s.sessions.evicted.Load()))
	for key, a := range table {
		if a != nil {
			w.Counter("weir_kafka_requests_total", "Requests by API.", float64(s.requests[key].Load()), "api", a.name)
		}
	}
}
