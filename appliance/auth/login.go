package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrAuthentication is wrapped by every error of a login that failed.
var ErrAuthentication = errors.New("authentication failed")

// errWrongPassword is the one answer to a wrong password, to a user that does not
// exist and to one without a credential of the mechanism.
var errWrongPassword = errors.New("unknown user or wrong password")

// ErrMechanism is returned for a mechanism that a connection is not offered.
var ErrMechanism = errors.New("SASL mechanism is not offered")

// LoginError says why a login failed. The client is to be told after Delay.
type LoginError struct {
	Cause error
	Delay time.Duration
}

func (e *LoginError) Error() string   { return ErrAuthentication.Error() + ": " + e.Cause.Error() }
func (e *LoginError) Unwrap() []error { return []error{ErrAuthentication, e.Cause} }

// failed notes a login that failed.
func (a *Authority) failed(peer Peer, name string, cause error) error {
	name = strings.ToValidUTF8(name[:min(len(name), maxUserName)], "?")
	a.Report(Event{Kind: LoginFailed, Principal: UserPrincipal(name), Host: peer.Host, Via: peer.Via, Detail: cause.Error()})
	return &LoginError{Cause: cause, Delay: a.failures.add(peer.Host, a.o.Now())}
}

func (a *Authority) succeeded(s *Session, how string) *Session {
	s.report(Event{Kind: Login, Detail: how})
	return s
}

// Password logs a user in by name and password.
func (a *Authority) Password(peer Peer, name, password string) (*Session, error) {
	u := a.user(name)
	if !a.verify(u, name, password) {
		return nil, a.failed(peer, name, errWrongPassword)
	}
	s := a.session(peer, UserPrincipal(name))
	s.user = u
	return a.succeeded(s, "password"), nil
}

// verify checks a password against either credential. What was right once is
// remembered in memory under a key of this process: HTTP sends it with every request.
func (a *Authority) verify(u *user, name, password string) bool {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte(password))
	fingerprint := h.Sum(nil)
	m, cred := ScramSHA256, a.decoy(ScramSHA256, name)
	if u != nil {
		u.mu.Lock()
		known := u.verified
		u.mu.Unlock()
		if known != nil && subtle.ConstantTimeCompare(known, fingerprint) == 1 {
			return true
		}
		for _, mech := range []Mechanism{ScramSHA512, ScramSHA256} {
			if c, ok := u.credentials[mech]; ok {
				m, cred = mech, c
			}
		}
	}
	a.hashing <- struct{}{}
	ok := cred.matches(m, password)
	<-a.hashing
	if !ok || u == nil {
		return false
	}
	u.mu.Lock()
	u.verified = fingerprint
	u.mu.Unlock()
	return true
}

// Token logs a client in by a JSON Web Token.
func (a *Authority) Token(peer Peer, token string) (*Session, error) {
	if a.o.Tokens == nil {
		return nil, a.failed(peer, "token", errors.New("no tokens are taken here"))
	}
	who, err := a.o.Tokens.Verify(token, a.o.Now())
	if err == nil {
		err = checkUserName(who.User)
	}
	if err != nil {
		return nil, a.failed(peer, "token", err)
	}
	s := a.session(peer, UserPrincipal(who.User))
	s.join(who.Groups)
	if s.tokenEnds = who.Expires; s.expires.IsZero() || who.Expires.Before(s.expires) {
		s.expires = who.Expires
	}
	return a.succeeded(s, "token"), nil
}

// Certificate makes the session of a client whose certificate TLS has verified.
func (a *Authority) Certificate(peer Peer, cert *x509.Certificate) (*Session, error) {
	name, err := a.o.Names.Apply(cert)
	if err != nil {
		return nil, a.failed(peer, "certificate", err)
	}
	s := a.session(peer, UserPrincipal(name))
	s.expires = time.Time{} // TLS cannot log in again; a certificate has an end of its own
	if !cert.NotAfter.IsZero() {
		s.expires = cert.NotAfter
	}
	return a.succeeded(s, "certificate"), nil
}

// Exchange is one SASL login under way.
type Exchange struct {
	a         *Authority
	peer      Peer
	mechanism Mechanism
	scram     *scram // once its first message is there
	user      *user
	over      bool
}

// Begin starts a login by a mechanism that the connection is offered.
func (a *Authority) Begin(peer Peer, m Mechanism) (*Exchange, error) {
	if !slices.Contains(a.Mechanisms(peer), m) {
		return nil, fmt.Errorf("%w: %.32q", ErrMechanism, string(m))
	}
	return &Exchange{a: a, peer: peer, mechanism: m}, nil
}

// Step takes the client's next message and returns the answer to it. The session is
// there once the client is known. After an error the exchange is over.
func (e *Exchange) Step(msg []byte) (answer []byte, s *Session, err error) {
	if e.over || len(msg) > maxSASLBytes {
		e.over = true
		return nil, nil, e.a.failed(e.peer, "", errors.New("unexpected or oversized SASL message"))
	}
	switch e.mechanism {
	case Plain:
		s, err = e.plain(msg)
	case OAuthBearer:
		s, err = e.bearer(msg)
	default:
		answer, s, err = e.scramStep(msg)
	}
	e.over = err != nil || s != nil
	return answer, s, err
}

// plain is RFC 4616: authorization id, user and password, parted by zero bytes.
func (e *Exchange) plain(msg []byte) (*Session, error) {
	parts := bytes.Split(msg, []byte{0})
	if len(parts) != 3 {
		return nil, e.a.failed(e.peer, "", errors.New("malformed PLAIN message"))
	}
	name := string(parts[1])
	if authzid := string(parts[0]); authzid != "" && authzid != name {
		return nil, e.a.failed(e.peer, name, errors.New("a user can only be authorized as itself"))
	}
	return e.a.Password(e.peer, name, string(parts[2]))
}

func (e *Exchange) scramStep(msg []byte) ([]byte, *Session, error) {
	if e.scram == nil {
		e.scram = &scram{mechanism: e.mechanism, nonce: newNonce()}
		if err := e.scram.parseFirst(msg); err != nil {
			return nil, nil, e.a.failed(e.peer, e.scram.user, err)
		}
		e.user = e.a.user(e.scram.user)
		cred := e.a.decoy(e.mechanism, e.scram.user)
		if e.user != nil {
			if c, ok := e.user.credentials[e.mechanism]; ok {
				cred = c
			} else {
				e.user = nil
			}
		}
		return e.scram.server(cred), nil, nil
	}
	answer, err := e.scram.final(msg)
	if err == nil && e.user == nil {
		err = errWrongPassword
	}
	if err != nil {
		return nil, nil, e.a.failed(e.peer, e.scram.user, err)
	}
	s := e.a.session(e.peer, UserPrincipal(e.scram.user))
	s.user = e.user
	return answer, e.a.succeeded(s, string(e.mechanism)), nil
}

// bearer is RFC 7628: a GS2 header, then key=value pairs parted by 0x01.
func (e *Exchange) bearer(msg []byte) (*Session, error) {
	_, rest, ok := cutGS2(string(msg))
	token := ""
	for pair := range strings.SplitSeq(rest, "\x01") {
		if value, isAuth := strings.CutPrefix(pair, "auth="); isAuth {
			scheme, t, _ := strings.Cut(value, " ")
			if strings.EqualFold(scheme, "bearer") {
				token = strings.TrimSpace(t)
			}
		}
	}
	if !ok || token == "" {
		return nil, e.a.failed(e.peer, "token", errors.New("malformed OAUTHBEARER message"))
	}
	return e.a.Token(e.peer, token)
}
