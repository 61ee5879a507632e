package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/auth"
)

// Protocol is how a listener is protected, by Kafka's names.
type Protocol string

// The protocols.
const (
	Plaintext     Protocol = "PLAINTEXT"
	SSL           Protocol = "SSL"
	SASLPlaintext Protocol = "SASL_PLAINTEXT"
	SASLSSL       Protocol = "SASL_SSL"
)

// TLS reports whether the protocol encrypts.
func (p Protocol) TLS() bool { return p == SSL || p == SASLSSL }

// SASL reports whether clients have to log in.
func (p Protocol) SASL() bool { return p == SASLPlaintext || p == SASLSSL }

// Security is the protection of one listener. The zero value has none.
type Security struct {
	Protocol Protocol
	TLS      *tls.Config // for the protocols that encrypt
	// Advertised is the "host:port" that clients of this listener are told to dial
	// (advertised.listeners). Empty: Options.AdvertisedListener.
	Advertised string
}

// errLogin is what a client did that has not logged in, or not again.
var errLogin = errors.New("not logged in")

// loginTimeout is how long a client of a SASL listener may take to log in, in
// multiples of HandshakeTimeout: its answers to failures are held back for a while.
const loginTimeout = 3

// login is what a connection knows of its client. Only its reader uses it.
type login struct {
	sec      *Security
	peer     auth.Peer
	session  *auth.Session  // nil until the client is known
	exchange *auth.Exchange // a SASL login under way
	by       auth.Mechanism // what it logs in or has logged in by
	raw      bool           // SaslHandshake v0: tokens come without Kafka's header
	over     error          // the connection ends once its answers are sent
}

// begin says what a client must do before anything else.
func (c *conn) begin(sec *Security) {
	l := &c.login
	l.sec, l.peer = sec, auth.Peer{Host: remoteIP(c.nc), TLS: sec.Protocol.TLS(), Via: auth.ViaKafka}
	if sec.Protocol.SASL() {
		c.frames.before = time.Now().Add(loginTimeout * c.s.o.HandshakeTimeout)
	} else if !l.peer.TLS {
		l.session = c.s.o.Auth.Anonymous(l.peer)
	}
}

// greet is the TLS handshake, and makes a session of the client's certificate.
func (c *conn) greet() error {
	nc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.o.HandshakeTimeout)
	defer cancel()
	if err := nc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: TLS handshake: %w", errLogin, err)
	}
	if c.login.sec.Protocol.SASL() {
		return nil
	}
	certs := nc.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		c.login.session = c.s.o.Auth.Anonymous(c.login.peer)
		return nil
	}
	session, err := c.s.o.Auth.Certificate(c.login.peer, certs[0])
	if err != nil {
		return err
	}
	c.enter(session)
	return nil
}

// enter makes the session the connection's.
func (c *conn) enter(session *auth.Session) {
	if c.login.session != nil {
		c.login.session.Close()
	}
	c.login.session, c.frames.before = session, time.Time{}
	c.user = session.Principal().Name()
	session.OnEnd(func() {
		c.cancel(fmt.Errorf("%w: the user was changed or deleted", errLogin))
	})
}

// end lets go of the session.
func (c *conn) end() {
	if c.login.session != nil {
		c.login.session.Close()
	}
}

// proceed reports why no further request is taken.
func (c *conn) proceed() error {
	for c.login.raw && c.login.over == nil && c.ctx.Err() == nil {
		if err := c.rawToken(); err != nil {
			return err
		}
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return c.login.over
}

// beforeLogin are the requests a client may send that is not known yet.
func beforeLogin(key int16) bool {
	return key == apiVersionsKey || key == saslHandshakeKey || key == saslAuthenticateKey
}

// checkLogin refuses a request of a client that has to log in first, or again (KIP-368).
func (c *conn) checkLogin(key int16) error {
	switch {
	case c.login.session == nil && !beforeLogin(key):
		return fmt.Errorf("%w: API key %d before SaslAuthenticate; this listener speaks %s", errLogin, key, c.login.sec.Protocol)
	case c.login.session != nil && c.login.session.Lifetime() < 0 && !beforeLogin(key):
		return fmt.Errorf("%w: the login has expired", errLogin)
	}
	return nil
}

// may reports whether the client may do op to the resource.
func (r *request) may(op auth.Operation, typ auth.ResourceType, name string) bool {
	return r.conn.login.session.Allowed(op, typ, name)
}

// authorize is may, with the error that the client gets if not.
func (r *request) authorize(op auth.Operation, typ auth.ResourceType, name string) error {
	s := r.conn.login.session
	if s.Authorize(op, typ, name) {
		return nil
	}
	return fmt.Errorf("%w: %s may not %s %s %q", refusals[typ], s.Principal(), op, typ, name)
}

// authorizeCluster is authorize for the one cluster.
func (r *request) authorizeCluster(op auth.Operation) error {
	return r.authorize(op, auth.Cluster, auth.ClusterName)
}

// refusals are the codes by which clients are told, by resource type.
var refusals = map[auth.ResourceType]*kerr.Error{
	auth.Topic: kerr.TopicAuthorizationFailed, auth.Group: kerr.GroupAuthorizationFailed,
	auth.Cluster: kerr.ClusterAuthorizationFailed, auth.TransactionalID: kerr.TransactionalIDAuthorizationFailed,
}

// audit tells the audit trail what a client has changed.
func (r *request) audit(kind string, op auth.Operation, typ auth.ResourceType, name, detail string) {
	r.conn.login.session.Report(auth.Event{Kind: kind, Operation: op.String(), Resource: typ.String(), Name: name, Detail: detail})
}

// dialled is the host name the client has dialled, as far as TLS says it.
func dialled(nc net.Conn) string {
	if t, ok := nc.(*tls.Conn); ok {
		return t.ConnectionState().ServerName
	}
	return ""
}
