package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/console"
)

// authorizeHTTP is console.Options.Authorize: to look takes DESCRIBE on the cluster, to
// change something ALTER. As long as there are no users, and all is on loopback or meant
// to be open, nobody is asked.
func (b *box) authorizeHTTP(r *http.Request, change bool) error {
	a := b.authority.Load()
	asks := slices.ContainsFunc(b.cfg.HTTPListeners(), b.cfg.Asks)
	switch {
	case a == nil && !asks && !b.cfg.Guarded():
		return nil
	case a == nil:
		return errors.New("starting: who may see this is not known yet; see /readyz")
	case !asks && !a.HasUsers():
		return nil
	}
	session, err := b.httpSession(a, r)
	if err != nil {
		return err
	}
	op := auth.Describe
	if change {
		op = auth.Alter
	}
	if !session.Authorize(op, auth.Cluster, auth.ClusterName) {
		return fmt.Errorf("%w: %s has no right to %s the cluster: weir acl add %s %s --cluster", console.ErrForbidden,
			session.Principal(), op, session.Principal().Name(), strings.ToLower(op.String()))
	}
	return nil
}

func (b *box) httpSession(a *auth.Authority, r *http.Request) (*auth.Session, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	peer := auth.Peer{Host: host, TLS: r.TLS != nil, Via: auth.ViaHTTP}
	name, password, basic := r.BasicAuth()
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	var session *auth.Session
	switch {
	case (basic || bearer) && !b.takesPasswords(peer):
		return nil, fmt.Errorf("%w: passwords are taken over TLS only (auth.plain_without_tls)", console.ErrForbidden)
	case basic:
		session, err = a.Password(peer, name, password)
	case bearer:
		session, err = a.Token(peer, token)
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		session, err = a.Certificate(peer, r.TLS.PeerCertificates[0])
	default:
		return nil, fmt.Errorf("%w: this box has users; give a name and password, or a token", console.ErrLogin)
	}
	var failed *auth.LoginError
	if errors.As(err, &failed) {
		select {
		case <-time.After(failed.Delay):
		case <-r.Context().Done():
		}
		return nil, fmt.Errorf("%w: %w", console.ErrLogin, err)
	}
	return session, err
}
