package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Login is what is known of a client before it is let in.
type Login struct {
	ClientID string
	UserName string // with HasUser
	Password []byte
	HasUser  bool
	// Remote is the client's address.
	Remote net.Addr
	// TLS is the connection's state; nil without TLS.
	TLS *tls.ConnectionState
	// Takes is what the listener takes.
	Takes Kinds
}

// Identity is a client that was let in. It is asked by its connection's read loop
// alone, OnEnd and Close apart.
type Identity interface {
	// MayPublish reports whether the client may publish on a topic name.
	MayPublish(topic []byte) bool
	// MaySubscribe reports whether it may have all that matches a topic filter.
	MaySubscribe(filter string) bool
	// Expired reports whether the login does not hold any more.
	Expired() bool
	// MayKeep reports whether it may still have what it is subscribed to. It may be
	// asked from any goroutine.
	MayKeep(filter string) bool
	// OnNarrowed has look called, which does not block, when MayKeep may say no.
	OnNarrowed(look func())
	// OnEnd has end called, which does not block, when the login holds no more.
	OnEnd(end func())
	Close()
}

// Charger is an Identity whose client has a quota (Kafka's producer_byte_rate), which may
// be set, changed and removed at any time.
type Charger interface {
	// Charged reports whether there may be such a quota; it is asked for each message.
	Charged() bool
	// ChargePublish takes so many bytes, of topic name and payload, of the quota, and
	// returns how long it is until nothing is owed. 0 bytes only ask.
	ChargePublish(bytes int, now time.Time) time.Duration
}

// Refusal is an error of Options.Identify by which the client is refused after a
// while, so that it cannot try passwords fast.
type Refusal struct {
	Err   error
	After time.Duration
}

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// identify finds out who the client is, and whether its will may be published.
func (c *conn) identify(p *packet.Connect) error {
	if c.srv.opts.Identify == nil || c.trusted {
		return nil
	}
	who, err := c.srv.opts.Identify(login(c, p))
	if err != nil {
		var slow *Refusal
		if errors.As(err, &slow) {
			c.holdBack(slow.After)
		}
		c.srv.refusals.logins.Add(1)
		return c.unknown(err, packet.BadUserNameOrPassword)
	}
	return c.become(who, p)
}

// unknown is the answer to a client that is not let in, unless err has one of its own.
func (c *conn) unknown(err error, reason packet.Reason) *packet.Error {
	var pe *packet.Error
	if errors.As(err, &pe) {
		return pe
	}
	return &packet.Error{Reason: reason, Text: err.Error()}
}

// login is what CONNECT and the connection say of the client.
func login(c *conn, p *packet.Connect) Login {
	return Login{ClientID: string(p.ClientID), UserName: string(p.UserName), Password: p.Password, HasUser: p.HasUserName,
		Remote: c.nc.RemoteAddr(), TLS: tlsState(c.nc), Takes: c.door.Takes}
}

// become makes the client known from here on.
func (c *conn) become(who Identity, p *packet.Connect) error {
	c.who = who
	who.OnEnd(func() {
		c.revoked.Store(true)
		c.kick()
	})
	who.OnNarrowed(func() { c.review(who) })
	if p.HasWill && !who.MayPublish(p.Will.Topic) {
		return &packet.Error{Reason: packet.NotAuthorized, Text: fmt.Sprintf("the will may not be published on %q", p.Will.Topic)}
	}
	return nil
}

// review ends the connection of a client that is subscribed to what it may not have any
// more. When it comes again its session begins anew.
func (c *conn) review(who Identity) {
	s := c.served.Load()
	if s == nil { // CONNECT is under way, and has asked or will ask
		return
	}
	s.mu.Lock()
	filters := slices.Collect(maps.Keys(s.subs))
	s.mu.Unlock()
	if slices.ContainsFunc(filters, func(f string) bool { return !who.MayKeep(f) }) {
		c.revoked.Store(true)
		c.kick()
	}
}

// tlsState is the state of a connection's TLS; nil without.
func tlsState(nc net.Conn) *tls.ConnectionState {
	switch nc := nc.(type) {
	case *tls.Conn:
		state := nc.ConnectionState()
		return &state
	case interface{ TLSState() *tls.ConnectionState }: // a WebSocket over TLS
		return nc.TLSState()
	}
	return nil
}

func (c *conn) holdBack(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// mayPublish holds a message against the access rules.
func (c *conn) mayPublish(topic []byte) error {
	if c.who == nil || c.who.MayPublish(topic) {
		return nil
	}
	return &refusal{byACL, &packet.Error{Reason: packet.NotAuthorized, Text: fmt.Sprintf("not allowed to publish on %q", topic)}}
}

// maySubscribe holds a filter against the access rules.
func (c *conn) maySubscribe(filter string) bool { return c.who == nil || c.who.MaySubscribe(filter) }

// checkLogin ends a connection whose login does not hold any more.
func (c *conn) checkLogin() error {
	if c.who == nil || !c.who.Expired() {
		return nil
	}
	return &packet.Error{Reason: packet.NotAuthorized, Text: "the login has expired"}
}

// forgetIdentity lets go of the login.
func (c *conn) forgetIdentity() {
	if c.who != nil {
		c.who.Close()
	}
}

// mayResume reports whether the client may have all that the session is subscribed to.
// One that was another's, or is from before the rules changed, begins anew: what it
// has in flight is not this client's to see.
func (c *conn) mayResume(s *session) bool {
	if c.who == nil {
		return true
	}
	s.mu.Lock()
	filters := slices.Collect(maps.Keys(s.subs))
	s.mu.Unlock()
	return !slices.ContainsFunc(filters, func(f string) bool { return !c.maySubscribe(f) })
}

// FixedPart is the part of a filter before its first wildcard: every topic name that
// the filter matches begins with it, but for the parent level that "/#" includes.
func FixedPart(filter string) string {
	if at := strings.IndexAny(filter, "+#"); at >= 0 {
		return filter[:at]
	}
	return filter
}
