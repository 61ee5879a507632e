// Package mqtt is the device-facing MQTT 3.1.1 and 5.0 server. It has no store of its
// own: a message is a record of the partition log, PUBACK means that the record is
// committed, and a session is its subscriptions with a cursor for each partition.
//
// The way in: a conn's read loop decodes what one socket read delivered, asks the
// Router where each message goes, and stages one record batch for each partition
// (publish.go); the log tells the batch's group when it is committed, and the
// connection's writer sends the PUBACKs in order (outbox.go).
//
// The way out: a feed for each partition reads what is committed and offers it to the
// sessions whose subscriptions match (feed.go, trie.go). A session that is slow or
// was away reads the log itself from its cursor until it has caught up (session.go).
// Retained messages and sessions are tables kept in internal topics (table.go).
//
// Clauses are named by their numbers in MQTT 5.0.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// MaxQoS is the greatest QoS that is granted and accepted.
const MaxQoS = 2

// Options of a Server. The zero value of a field is its default.
type Options struct {
	MaxConnections      int           // at once; 25,000
	MaxConnectionsPerIP int           // from one address, loopback excepted; 1,000
	MaxRatePerIP        int           // new connections per second from one address, loopback excepted; 0: any
	MaxPublishRate      int           // messages per second of one client; 0: any
	MaxPublishBytes     int           // bytes of topic names and payloads per second of one client; 0: any
	MaxSessions         int           // connected or not; 100,000
	MaxWaitingWills     int           // that cannot be published yet, as on a full disk; 10,000
	ConnectTimeout      time.Duration // for TLS and CONNECT; 10 s
	MaxConnectBytes     int           // length of CONNECT; 16 KiB, or MaxPacketBytes
	MaxPacketBytes      int           // length of other packets; 1,000,000
	WriteTimeout        time.Duration // for one write to a client; 30 s
	MaxOutgoingBytes    int           // output that waits for one client; 256 KiB
	ReceiveMaximum      int           // unacknowledged messages from one client; 1,024, at most 65,535
	MaxInflight         int           // unacknowledged messages to one client; 1,024, at most 65,535
	MaxFilters          int           // subscriptions of one client; 256
	MaxTopicBytes       int           // length of a topic name or filter; 1 KiB
	MaxTopicLevels      int           // levels of a topic name or filter; 16
	TopicAliasMaximum   int           // aliases of one client; 16
	MaxClientIDBytes    int           // length of a client identifier; 256
	MaxRetained         int           // retained messages; 100,000
	MaxRetainedBytes    int64         // memory for them; 64 MiB
	MaxTopics           int           // Kafka topics that routes may make; 1,000
	MaxKeepAlive        time.Duration // of an MQTT 5 client, which is told; 1 h
	MaxSessionExpiry    time.Duration // of a session without connection; 7 days
	SessionSaveInterval time.Duration // how often the progress of sessions is stored; 10 s
	SysInterval         time.Duration // how often $SYS topics are sent; 10 s

	// ServerReference is where MQTT 5 clients are sent when the server shuts down,
	// "host:port" or several with blanks between; "": they are told no other.
	ServerReference string
	Version         string // of the program, for $SYS

	// Identify decides who may connect and says what it may do; nil lets everybody do
	// everything.
	Identify func(Login) (Identity, error)
	// Exchange begins an enhanced authentication by a method, such as SCRAM-SHA-256;
	// nil: none is offered. Its errors may be a Refusal.
	Exchange func(l Login, method string) (Exchange, error)
	// Lost is called when messages that the Router has seen are not stored, for no fault
	// of theirs; nil: nobody is told. It must not wait.
	Lost func()
	// Now is the best wall time known, for records; nil: time.Now. Age is how long ago
	// Now said so, at least; nil: time.Since.
	Now func() time.Time
	Age func(time.Time) time.Duration
	Log *slog.Logger // nil: no log
}

func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.MaxConnections, 25_000)
	set(&o.MaxConnectionsPerIP, 1_000)
	set(&o.MaxSessions, 100_000)
	set(&o.MaxWaitingWills, 10_000)
	set(&o.MaxPacketBytes, 1_000_000)
	set(&o.MaxConnectBytes, min(16<<10, o.MaxPacketBytes))
	set(&o.MaxOutgoingBytes, 256<<10)
	set(&o.ReceiveMaximum, 1_024)
	set(&o.MaxInflight, 1_024)
	set(&o.MaxFilters, 256)
	set(&o.MaxTopicBytes, 1<<10)
	set(&o.MaxTopicLevels, 16)
	set(&o.TopicAliasMaximum, 16)
	set(&o.MaxClientIDBytes, 256)
	set(&o.MaxRetained, 100_000)
	set(&o.MaxTopics, 1_000)
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	wait(&o.ConnectTimeout, 10*time.Second)
	wait(&o.WriteTimeout, 30*time.Second)
	wait(&o.MaxKeepAlive, time.Hour)
	wait(&o.MaxSessionExpiry, 7*24*time.Hour)
	wait(&o.SessionSaveInterval, 10*time.Second)
	wait(&o.SysInterval, 10*time.Second)
	if o.Lost == nil {
		o.Lost = func() {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Age == nil {
		o.Age = time.Since
	}
	if o.MaxRetainedBytes == 0 {
		o.MaxRetainedBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports the first option that cannot be.
func (o Options) Validate() error {
	d := o.withDefaults()
	switch {
	case d.ReceiveMaximum < 1 || d.ReceiveMaximum > 0xFFFF:
		return fmt.Errorf("mqtt: ReceiveMaximum is %d, it must be 1 to 65535", d.ReceiveMaximum)
	case d.MaxInflight < 1 || d.MaxInflight > 0xFFFF:
		return fmt.Errorf("mqtt: MaxInflight is %d, it must be 1 to 65535", d.MaxInflight)
	case d.TopicAliasMaximum < 0 || d.TopicAliasMaximum > 0xFFFF:
		return fmt.Errorf("mqtt: TopicAliasMaximum is %d, it must be 0 to 65535", d.TopicAliasMaximum)
	case d.MaxTopicBytes > 0xFFFF:
		return fmt.Errorf("mqtt: MaxTopicBytes is %d, MQTT's own limit is 65535", d.MaxTopicBytes)
	case d.MaxPacketBytes > packet.MaxRemainingLength:
		return fmt.Errorf("mqtt: MaxPacketBytes is %d, MQTT's own limit is %d", d.MaxPacketBytes, packet.MaxRemainingLength)
	case d.MaxConnectBytes > d.MaxPacketBytes:
		return fmt.Errorf("mqtt: MaxConnectBytes is %d, more than MaxPacketBytes (%d)", d.MaxConnectBytes, d.MaxPacketBytes)
	}
	return nil
}

// Server serves MQTT clients. Its methods may be called concurrently.
type Server struct {
	opts     Options
	log      Log
	router   Router
	subs     trie
	retained *retained
	store    *store
	started  time.Time
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	live     atomic.Int64 // connected sessions with subscriptions

	mu       sync.Mutex // sessions, admitted, conns, perIP, arrivals, listeners, doors, closed
	sessions map[string]*session
	admitted uint64 // CONNECTs that were let in
	conns    map[*conn]struct{}
	perIP    map[string]int
	arrivals arrivals
	listener []net.Listener
	doors    []*door
	closed   bool
	back     *door // of connections that no listener has accepted

	sharing sync.Mutex // shares; before a share's own lock
	shares  map[string]*share

	making    sync.Mutex  // feeds and targets grow by one maker at a time
	downlinks []*Downlink // in force; guarded by making
	feeds     atomic.Pointer[[]*feed]
	targets   atomic.Pointer[map[string]*target]

	wills   wills
	writers writers
	digests digests
	counters
}

// target is a Kafka topic that routes lead to.
type target struct {
	name  string
	feeds []*feed // by partition
	stale atomic.Bool
}

// New makes a server on a log: it loads retained messages and sessions and starts to
// read the topics that concern it. ctx bounds the loading only.
func New(ctx context.Context, opts Options, log Log, router Router) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	srv := &Server{opts: opts.withDefaults(), log: log, router: router, sessions: map[string]*session{}, conns: map[*conn]struct{}{}, perIP: map[string]int{}, started: time.Now(),
		arrivals: arrivals{rate: opts.MaxRatePerIP, of: map[string]*meter{}}, back: newDoor(Listener{Takes: AnyKind}),
		wills: wills{more: make(chan struct{}, 1)}, writers: writers{next: make(chan *conn)}}
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	srv.feeds.Store(&[]*feed{})
	srv.targets.Store(&map[string]*target{})
	if err := srv.load(ctx); err != nil {
		srv.Close()
		return nil, err
	}
	srv.wg.Add(3)
	go srv.housekeep()
	go srv.retryWills()
	go srv.sysLoop()
	return srv, nil
}

func (srv *Server) load(ctx context.Context) (err error) {
	if srv.retained, err = openRetained(ctx, srv.log, &srv.opts); err != nil {
		return err
	}
	if srv.store, err = openStore(ctx, srv); err != nil {
		return err
	}
	if err := srv.followAll(); err != nil {
		return err
	}
	for _, name := range srv.router.Topics() {
		if _, err := srv.target(name); err != nil {
			return err
		}
	}
	return srv.store.restore()
}

func (srv *Server) serveConn(nc net.Conn, d *door, trusted bool) {
	c := &conn{srv: srv, nc: nc, door: d, trusted: trusted, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(srv.ctx)
	c.acks.init()
	c.out.limit, c.out.start = srv.opts.MaxOutgoingBytes, func() { srv.write(c) }
	_, c.frail = nc.(Frail)
	c.remote = nc.RemoteAddr().String()
	if reason := srv.enlist(c); reason != "" {
		srv.turnedAway(c, reason)
		c.cancel()
		nc.Close()
		return
	}
	go c.serve()
}

// Close ends all connections, tells MQTT 5 clients so, stores the sessions and
// returns when all goroutines have ended. Wills are not sent: the clients are not
// dead, the server is. Those of sessions that are stored wait there for the next start.
// The log must still be open.
func (srv *Server) Close() error {
	srv.mu.Lock()
	srv.closed = true
	listeners, conns := srv.listener, slices.Collect(maps.Keys(srv.conns))
	srv.listener = nil
	srv.mu.Unlock()
	srv.cancel()
	for _, l := range listeners {
		l.Close()
	}
	for _, c := range conns {
		c.kick()
	}
	srv.wg.Wait()
	srv.mu.Lock()
	sessions := slices.Collect(maps.Values(srv.sessions))
	srv.mu.Unlock()
	for _, s := range sessions {
		s.mu.Lock()
		if s.timer != nil {
			s.timer.Stop()
		}
		s.stopWill()
		s.mu.Unlock()
	}
	if srv.store != nil {
		srv.store.saves.Wait()
	}
	srv.abandonWills()
	return nil
}

// housekeep stores the progress of sessions and keeps the internal topics small.
func (srv *Server) housekeep() {
	defer srv.wg.Done()
	ticker := time.NewTicker(srv.opts.SessionSaveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-srv.ctx.Done():
			return
		case <-ticker.C:
		}
		srv.writers.shrink()
		for _, s := range srv.sessionList() {
			srv.store.save(s, func(error) {})
		}
		err := errors.Join(srv.retained.compact(srv.ctx), srv.store.compact(srv.ctx))
		if err != nil && srv.ctx.Err() == nil {
			srv.opts.Log.Error("mqtt: housekeeping", "err", err)
		}
	}
}

func (srv *Server) sessionList() []*session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return slices.Collect(maps.Values(srv.sessions))
}

func (srv *Server) feedList() []*feed    { return *srv.feeds.Load() }
func (srv *Server) feedAt(idx int) *feed { return (*srv.feeds.Load())[idx] }

// feedsByName is the feeds that are not gone.
func (srv *Server) feedsByName() map[record.TopicPartition]*feed {
	feeds := map[record.TopicPartition]*feed{}
	for _, f := range srv.feedList() {
		if !f.gone.Load() {
			feeds[f.tp] = f
		}
	}
	return feeds
}

// target returns a Kafka topic that a route leads to, and makes it if need be.
func (srv *Server) target(name string) (*target, error) {
	if t := (*srv.targets.Load())[name]; t != nil && !t.stale.Load() {
		return t, nil
	}
	srv.making.Lock()
	defer srv.making.Unlock()
	targets := *srv.targets.Load()
	old := targets[name]
	if old != nil && !old.stale.Load() {
		return old, nil
	}
	if old == nil && len(targets) >= srv.opts.MaxTopics {
		return nil, &packet.Error{Reason: packet.QuotaExceeded, Text: "routes lead to too many Kafka topics (max_topics)"}
	}
	n, err := srv.log.Ensure(name, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", name, err)
	}
	t := &target{name: name}
	for p := range n {
		f, err := srv.feed(record.TopicPartition{Topic: name, Partition: p})
		if err != nil {
			return nil, err
		}
		t.feeds = append(t.feeds, f)
	}
	targets = maps.Clone(targets)
	targets[name] = t
	srv.targets.Store(&targets)
	return t, nil
}

// forgetTopic has a topic looked up anew: it may have been deleted.
func (srv *Server) forgetTopic(name string) {
	if t := (*srv.targets.Load())[name]; t != nil {
		t.stale.Store(true)
	}
}

// feed returns the feed of a partition. Where it begins is stored before the first
// message goes there, so that sessions that are away miss nothing. making is held.
func (srv *Server) feed(tp record.TopicPartition) (*feed, error) {
	for _, f := range srv.feedList() {
		if f.tp == tp && !f.gone.Load() {
			return f, nil
		}
	}
	origin, err := srv.store.origin(tp, -1)
	if err != nil {
		return nil, err
	}
	f := srv.addFeed(tp, origin, nil)
	if srv.live.Load() > 0 {
		return f, f.unpark()
	}
	return f, nil
}

// replace makes a feed for a topic that was made again under the name of one that
// was deleted; nothing in it has been delivered.
func (srv *Server) replace(old *feed, start int64) error {
	srv.making.Lock()
	defer srv.making.Unlock()
	for _, f := range srv.feedList() {
		if f.tp == old.tp && !f.gone.Load() {
			return nil
		}
	}
	origin, err := srv.store.origin(old.tp, start)
	if err != nil {
		return err
	}
	f := srv.addFeed(old.tp, origin, old.eras.latest())
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.parked && srv.live.Load() > 0 {
		f.parked = false // and next is the origin
		f.rouse()
	}
	if f.eras.mapped.Load() {
		return srv.store.putChanged([]record.Record{f.erasRecord()})
	}
	return nil
}

func (srv *Server) addFeed(tp record.TopicPartition, origin int64, down *Downlink) *feed {
	feeds := srv.feedList()
	f := newFeed(srv, tp, len(feeds), origin)
	if f.eras.set(down) {
		srv.keep(f, -1)
	}
	next := append(slices.Clip(feeds), f)
	srv.feeds.Store(&next)
	srv.wg.Add(1)
	go func() {
		defer srv.wg.Done()
		f.run(srv.ctx)
	}()
	return f
}
