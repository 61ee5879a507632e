package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// SaslAuthenticate, key 36, versions 0-2 (flexible from 2): one message of the login
// that SaslHandshake began. From 1 the last answer says how long the login holds
// (KIP-368): the client logs in again on the same connection before that, or is cut
// off at its first request after it.
//
// A client of version 0 cannot know (librdkafka 2.0.2, with which kcat ends when its only broker
// closes the connection), so its login does not expire by itself; what it is not allowed any
// more, and that its user is gone, it notices all the same. Kafka cuts it off.
//
// A login that fails is answered after a while, which grows with each failure from the
// same address, with SASL_AUTHENTICATION_FAILED and the same text whether the user or the
// password was wrong. Then the connection is closed.
const saslAuthenticateKey = 36

// lifetimeMin is the version from which the answer says how long the login holds.
const lifetimeMin = 1

func init() {
	register(api{key: saslAuthenticateKey, name: "SaslAuthenticate", min: 0, max: 2, handle: (*Server).saslAuthenticate, waits: true, needs: open,
		notes: "re-authentication (KIP-368) from 1"})
}

func (s *Server) saslAuthenticate(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.SASLAuthenticateRequest), kmsg.NewPtrSASLAuthenticateResponse()
	answer, err := r.conn.step(req.SASLAuthBytes)
	resp.SASLAuthBytes = answer
	if answer == nil {
		resp.SASLAuthBytes = []byte{}
	}
	if err != nil {
		r.conn.login.over = err
		resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorMessage(err)
		return resp
	}
	if session := r.conn.login.session; session != nil {
		if r.version < lifetimeMin {
			session.CannotRenew()
		}
		resp.SessionLifetimeMillis = session.Lifetime().Milliseconds()
	}
	return resp
}

// step takes the next message of the login that is under way.
func (c *conn) step(msg []byte) (answer []byte, err error) {
	l := &c.login
	if l.exchange == nil {
		return nil, fmt.Errorf("%w: SaslAuthenticate without SaslHandshake", kerr.IllegalSaslState)
	}
	answer, session, err := l.exchange.Step(msg)
	var failed *auth.LoginError
	switch {
	case errors.As(err, &failed):
		c.holdBack(failed.Delay)
		return nil, fmt.Errorf("%w: %w", kerr.SaslAuthenticationFailed, err)
	case err != nil || session == nil:
		return answer, err
	}
	l.exchange, l.raw = nil, false
	if l.session != nil && l.session.Principal() != session.Principal() {
		return nil, fmt.Errorf("%w: %w: %s cannot become %s on one connection", kerr.SaslAuthenticationFailed, errLogin, l.session.Principal(), session.Principal())
	}
	c.enter(session)
	return answer, nil
}

func (c *conn) holdBack(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// rawToken takes a SASL message that stands in no request. There is no way to say why
// a login has failed but to close the connection.
func (c *conn) rawToken() error {
	f, err := c.frames.raw()
	if err != nil {
		return err
	}
	defer f.release(c.frames.budget, true)
	answer, err := c.step(f.bytes)
	if err != nil {
		return err
	}
	if c.login.session != nil {
		c.login.session.CannotRenew()
	}
	if !c.acquire() {
		return context.Cause(c.ctx)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(answer)))
	return c.queue(queued{&encoded{buf: append(b, answer...)}, true})
}
