package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

// SaslHandshake, key 17, versions 0-1: a client of a SASL listener says by which
// mechanism it logs in. With version 1 the tokens that follow stand in SaslAuthenticate
// requests; with version 0, which only very old clients send, they follow bare, behind
// their length. PLAIN is offered over TLS only, unless the operator says otherwise.
//
// On a connection that is logged in it begins a login anew (KIP-368), by the same
// mechanism as before.
const saslHandshakeKey = 17

func init() {
	register(api{key: saslHandshakeKey, name: "SaslHandshake", min: 0, max: 1, handle: (*Server).saslHandshake, needs: open,
		notes: "PLAIN (over TLS), SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"})
}

func (s *Server) saslHandshake(r *request) kmsg.Response {
	req, resp := r.body.(*kmsg.SASLHandshakeRequest), kmsg.NewPtrSASLHandshakeResponse()
	l := &r.conn.login
	if !l.sec.Protocol.SASL() {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		return resp
	}
	resp.SupportedMechanisms = []string{}
	for _, m := range s.o.Auth.Mechanisms(l.peer) {
		resp.SupportedMechanisms = append(resp.SupportedMechanisms, string(m))
	}
	wanted := auth.Mechanism(req.Mechanism)
	exchange, err := s.o.Auth.Begin(l.peer, wanted)
	switch {
	case err != nil:
		resp.ErrorCode, l.over = kerr.UnsupportedSaslMechanism.Code, err
	case l.session != nil && wanted != l.by:
		resp.ErrorCode, l.over = kerr.IllegalSaslState.Code, errLogin
	default:
		l.exchange, l.by, l.raw = exchange, wanted, r.version == 0
	}
	return resp
}
