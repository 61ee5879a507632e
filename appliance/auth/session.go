package auth

import (
	"slices"
	"time"
)

// The protocols that clients come by.
const (
	ViaKafka = "kafka"
	ViaMQTT  = "mqtt"
	ViaHTTP  = "http"
)

// Peer is a connection before it is known who is at its other end.
type Peer struct {
	Host string // the address, without port, as text
	TLS  bool
	Via  string // ViaKafka, ViaMQTT or ViaHTTP
}

// Session is one client that is known. It belongs to its connection: only Principal
// and Close may be called from other goroutines.
type Session struct {
	a         *Authority
	peer      Peer
	asker     asker
	super     bool
	user      *user     // who logged in by a password; else nil
	expires   time.Time // zero: never
	tokenEnds time.Time // zero: no token

	index *index // the rules that known was decided by
	known map[question]bool
}

// question is what a session remembers the answer of.
type question struct {
	op   Operation
	typ  ResourceType
	name string
}

func (a *Authority) session(peer Peer, p Principal) *Session {
	s := &Session{a: a, peer: peer, asker: asker{principal: p, groups: a.o.Groups[p], host: peer.Host}, super: a.super[p]}
	if a.o.MaxReauth > 0 && peer.Via == ViaKafka { // no other protocol can log in again in time
		s.expires = a.o.Now().Add(a.o.MaxReauth)
	}
	return s
}

// join adds groups to those that the configuration puts the user in.
func (s *Session) join(names []string) {
	s.asker.groups = slices.Clone(s.asker.groups)
	for _, name := range names {
		s.asker.groups = append(s.asker.groups, GroupPrincipal(name))
	}
}

// Anonymous is the session of a client that is not asked who it is.
func (a *Authority) Anonymous(peer Peer) *Session {
	s := a.session(peer, Anonymous)
	s.expires = time.Time{}
	return s
}

// Principal is who the client is.
func (s *Session) Principal() Principal { return s.asker.principal }

// Call says by which MQTT client identifier the client goes, before it asks anything:
// %c in a rule stands for it.
func (s *Session) Call(client string) { s.asker.client = client }

// Lifetime is how long the login still holds; 0 is for ever, less than 0: it is over.
func (s *Session) Lifetime() time.Duration {
	if s.expires.IsZero() {
		return 0
	}
	if left := s.expires.Sub(s.a.o.Now()); left > 0 {
		return left
	}
	return -1
}

// CannotRenew says that the client does not know how to log in again on its
// connection: the login holds as long as what it logged in by.
func (s *Session) CannotRenew() { s.expires = s.tokenEnds }

// OnEnd has end called, from another goroutine, when the user is changed or deleted.
// It must not block. Close takes it back.
func (s *Session) OnEnd(end func()) {
	if s.user != nil {
		s.user.watch(s, end)
	}
}

// Close ends the session.
func (s *Session) Close() {
	s.unwatchRules()
	if s.user != nil {
		s.user.unwatch(s)
	}
}

// Allowed reports whether the client may do op to the resource.
func (s *Session) Allowed(op Operation, typ ResourceType, name string) bool {
	x := s.a.index.Load()
	switch {
	case s.super:
		return true
	case len(x.rules) == 0:
		return s.a.o.AllowEveryone
	case x != s.index:
		s.index = x
		clear(s.known)
	}
	q := question{op, typ, name}
	answer, ok := s.known[q]
	if ok {
		return answer
	}
	answer = x.decide(&s.asker, op, typ, name, s.a.o.AllowEveryone)
	if s.known == nil || len(s.known) >= s.a.o.MaxRememberedAnswers {
		s.known = make(map[question]bool)
	}
	s.known[q] = answer
	return answer
}

// Authorize is Allowed, and tells the audit trail if not.
func (s *Session) Authorize(op Operation, typ ResourceType, name string) bool {
	if s.Allowed(op, typ, name) {
		return true
	}
	s.report(Event{Kind: Denied, Operation: op.String(), Resource: typ.String(), Name: name})
	return false
}

// AllowedAny reports whether there is any resource of the type that the client may
// do op to (KIP-679).
func (s *Session) AllowedAny(op Operation, typ ResourceType) bool {
	return s.super || s.a.index.Load().decideAny(&s.asker, op, typ, s.a.o.AllowEveryone)
}

// AllowedFilter reports whether the client may do op to every resource whose name
// begins with prefix, which is what filter matches, or to the filter by its name.
func (s *Session) AllowedFilter(op Operation, typ ResourceType, filter, prefix string) bool {
	if s.super || s.a.index.Load().decideFilter(&s.asker, op, typ, filter, prefix, s.a.o.AllowEveryone) {
		return true
	}
	s.report(Event{Kind: Denied, Operation: op.String(), Resource: typ.String(), Name: filter})
	return false
}

// operationsOf is what can be done to resources of each type, as Kafka lists it.
var operationsOf = [resourceTypes][]Operation{
	Topic:           {Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs},
	Group:           {Read, Delete, Describe, DescribeConfigs, AlterConfigs},
	Cluster:         {Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite},
	TransactionalID: {Write, Describe},
}

// Operations is what the client may do to the resource, as bits by Kafka's codes.
func (s *Session) Operations(typ ResourceType, name string) (bits int32) {
	for _, op := range operationsOf[typ] {
		if s.Allowed(op, typ, name) {
			bits |= 1 << op
		}
	}
	return bits
}

// Report tells the audit trail what the client did.
func (s *Session) Report(e Event) { s.report(e) }

func (s *Session) report(e Event) {
	e.Principal, e.Host, e.Via = s.asker.principal, s.peer.Host, s.peer.Via
	s.a.Report(e)
}
