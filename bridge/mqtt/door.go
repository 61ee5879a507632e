package mqtt

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// Kinds are ways to say who one is, as bits.
type Kinds uint8

// The kinds.
const (
	Users        Kinds = 1 << iota // by name and password, or SCRAM
	Certificates                   // by the client's certificate
	Tokens                         // by a JSON Web Token in place of the password
	Anonymous                      // not at all
	AnyKind      = Users | Certificates | Tokens | Anonymous
)

// Has reports whether a kind is among them.
func (k Kinds) Has(one Kinds) bool { return k&one != 0 }

// Listener is what one listener asks and allows, beside Options, which are for all
// listeners together. The zero value of a limit is none.
type Listener struct {
	Name              string // for logs and metrics
	Takes             Kinds
	MaxConnections    int // at once
	MaxConnectionRate int // new ones per second; more wait to be accepted
	MaxPublishRate    int // messages per second of all its clients
	MaxPublishBytes   int // bytes of topic names and payloads per second of all its clients
}

// door is a listener with what has come through it.
type door struct {
	Listener
	pace     *meter // nil: any number
	messages *meter // nil: any number
	bytes    *meter
	open     int // connections; guarded by Server.mu
	refused  atomic.Uint64
}

func newDoor(l Listener) *door {
	return &door{Listener: l, pace: newMeter(l.MaxConnectionRate), messages: newMeter(l.MaxPublishRate), bytes: newMeter(l.MaxPublishBytes)}
}

// Serve accepts connections until the listener or the server is closed; the error
// is nil then.
func (srv *Server) Serve(l net.Listener) error { return srv.ServeFor(l, Listener{Takes: AnyKind}) }

// ServeFor is Serve for a listener with rules of its own.
func (srv *Server) ServeFor(l net.Listener, rules Listener) error {
	d := newDoor(rules)
	srv.mu.Lock()
	if srv.closed {
		srv.mu.Unlock()
		return l.Close()
	}
	srv.listener = append(srv.listener, l)
	srv.doors = append(srv.doors, d)
	srv.mu.Unlock()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			if d.pace != nil {
				sleep(srv.ctx, d.pace.take(1, time.Now()))
			}
			srv.serveConn(nc, d, false)
		case srv.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default: // out of file descriptors, most likely: it passes
			srv.opts.Log.Error("mqtt: accept", "err", err)
			sleep(srv.ctx, retryAfter)
		}
	}
}

// ServeConn takes over one connection and returns at once.
func (srv *Server) ServeConn(nc net.Conn) { srv.serveConn(nc, srv.back, false) }

// ServeTrusted is ServeConn for a client that is a part of this process.
func (srv *Server) ServeTrusted(nc net.Conn) { srv.serveConn(nc, srv.back, true) }

// enlist counts a connection in; the answer is why not.
func (srv *Server) enlist(c *conn) string {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	ip := limitedIP(c.nc)
	switch {
	case srv.closed:
		return "the server is shutting down"
	case len(srv.conns) >= srv.opts.MaxConnections:
		return "too many connections (max_connections)"
	case c.door.MaxConnections > 0 && c.door.open >= c.door.MaxConnections:
		return "too many connections of this listener (its max_connections)"
	case ip != "" && srv.perIP[ip] >= srv.opts.MaxConnectionsPerIP:
		return "too many connections of one address (max_connections_per_ip)"
	case ip != "" && !srv.arrivals.admit(ip, time.Now()):
		return "too many new connections of one address (max_connection_rate_per_ip)"
	}
	if ip != "" {
		srv.perIP[ip]++
	}
	c.door.open++
	srv.conns[c] = struct{}{}
	srv.wg.Add(1)
	return ""
}

// forget counts a connection out.
func (srv *Server) forget(c *conn) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.conns, c)
	c.door.open--
	if ip := limitedIP(c.nc); ip != "" {
		if srv.perIP[ip]--; srv.perIP[ip] == 0 {
			delete(srv.perIP, ip)
		}
	}
}

// limitedIP is the address that the limits per address count by; "" is not limited.
func limitedIP(nc net.Conn) string {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		return string(a.IP)
	}
	return ""
}

// maxArrivals bounds the addresses whose new connections are counted. Beyond it all
// others share one rate.
const maxArrivals = 10_000

// arrivals counts the new connections of each address. Server.mu guards it.
type arrivals struct {
	rate int // per second; 0: any
	of   map[string]*meter
}

func (a *arrivals) admit(ip string, now time.Time) bool {
	if a.rate == 0 {
		return true
	}
	m := a.of[ip]
	if m == nil && len(a.of) >= maxArrivals {
		a.forget(now)
	}
	if m == nil && len(a.of) >= maxArrivals {
		ip = ""
		m = a.of[ip]
	}
	if m == nil {
		m = newMeter(a.rate)
		a.of[ip] = m
	}
	if !m.has(now) {
		return false
	}
	m.take(1, now)
	return true
}

// forget forgets the addresses that nothing has come from for a while.
func (a *arrivals) forget(now time.Time) {
	for ip, m := range a.of {
		if m.idle(now) {
			delete(a.of, ip)
		}
	}
}
