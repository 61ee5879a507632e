// Package auth says who a client is and what it may do: one set of users, principals
// and access rules for Kafka, MQTT and HTTP.
//
// An [Authority] keeps the users (SCRAM credentials, never passwords) and the rules
// (Kafka's ACLs, to the letter) and answers from memory. A client that logs in, by
// password, SCRAM, token or certificate, gets a [Session], which its connection asks
// before everything it does. What happens is told to the audit trail.
//
// A Session remembers what it was told until a rule changes, so that asking again
// costs one look into a map: no lock, no allocation.
package auth

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of Options' limits.
const (
	DefaultMaxUsers             = 10_000
	DefaultMaxRules             = 10_000
	DefaultFailureDelay         = 100 * time.Millisecond
	DefaultMaxFailureDelay      = 5 * time.Second
	DefaultMaxFailedAddresses   = 4096
	DefaultMaxRememberedAnswers = 1024
)

// Table is where users and rules are kept. A change is durable when it returns.
// metadata.Bucket is one.
type Table interface {
	All() (map[string][]byte, error)
	PutAll(values map[string][]byte) error
	Delete(key string) error
}

// Options of an Authority. Users and Rules are required.
type Options struct {
	Users, Rules Table
	// SuperUsers may do everything, whatever the rules say (super.users).
	SuperUsers []Principal
	// Groups are the groups of each user that is in any; rules may be for them.
	Groups map[Principal][]Principal
	// AllowEveryone lets everybody do what no rule is about
	// (allow.everyone.if.no.acl.found).
	AllowEveryone bool
	// Mechanisms are offered to clients (sasl.enabled.mechanisms); nil: PLAIN, both
	// SCRAMs and, with Tokens, OAUTHBEARER.
	Mechanisms []Mechanism
	// PlainWithoutTLS takes passwords over connections that anybody can listen to.
	PlainWithoutTLS bool
	// Iterations of the credentials made here; 0: DefaultIterations.
	Iterations int
	// MaxReauth is how long a Kafka login holds (connections.max.reauth.ms); 0: for ever.
	MaxReauth time.Duration
	// MaxUsers and MaxRules bound the users and access rules of the box; 0:
	// DefaultMaxUsers, DefaultMaxRules.
	MaxUsers, MaxRules int
	// FailureDelay is how long the answer to the first failed login of an address is held
	// back, MaxFailureDelay how long at most, after more of them; 0: the defaults.
	FailureDelay, MaxFailureDelay time.Duration
	// MaxFailedAddresses bounds the addresses whose failures are counted, and
	// MaxRememberedAnswers what one session remembers of the rules; 0: the defaults.
	MaxFailedAddresses, MaxRememberedAnswers int
	// Names makes principals of certificates.
	Names NameRules
	// Tokens verifies JWTs; nil: none are taken.
	Tokens *Tokens
	// Trail is told what happens; nil: nobody is.
	Trail *Trail
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: discard
}

// Authority knows users and rules. Its methods may be called concurrently.
type Authority struct {
	o      Options
	super  map[Principal]bool
	secret [32]byte
	index  atomic.Pointer[index]

	changing sync.Mutex // held over a change of users or rules
	mu       sync.RWMutex
	users    map[string]*user

	failures failures
	watchers watchers
	hashing  chan struct{} // a token for each password being hashed
}

// maxHashing bounds the password hashes that run at a time, so that guessing cannot
// take the processor from those who are logged in.
const maxHashing = 2

// Open reads users and rules.
func Open(o Options) (*Authority, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Iterations == 0 {
		o.Iterations = DefaultIterations
	}
	o.MaxUsers, o.MaxRules = cmp.Or(o.MaxUsers, DefaultMaxUsers), cmp.Or(o.MaxRules, DefaultMaxRules)
	o.FailureDelay, o.MaxFailureDelay = cmp.Or(o.FailureDelay, DefaultFailureDelay), cmp.Or(o.MaxFailureDelay, DefaultMaxFailureDelay)
	o.MaxFailedAddresses, o.MaxRememberedAnswers = cmp.Or(o.MaxFailedAddresses, DefaultMaxFailedAddresses), cmp.Or(o.MaxRememberedAnswers, DefaultMaxRememberedAnswers)
	if err := CheckIterations(o.Iterations); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if o.Mechanisms == nil {
		o.Mechanisms = []Mechanism{ScramSHA256, ScramSHA512, Plain, OAuthBearer}
	}
	if o.Tokens == nil {
		o.Mechanisms = slices.DeleteFunc(slices.Clone(o.Mechanisms), func(m Mechanism) bool { return m == OAuthBearer })
	}
	a := &Authority{o: o, super: map[Principal]bool{}, users: map[string]*user{}, hashing: make(chan struct{}, maxHashing)}
	a.failures.o = &a.o
	rand.Read(a.secret[:])
	for _, p := range o.SuperUsers {
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("auth: super.users: %w", err)
		}
		a.super[p] = true
	}
	if err := errors.Join(a.loadUsers(), a.loadRules()); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return a, nil
}

// Unguarded is an Authority that lets everybody do everything until rules are made,
// and forgets them with the process.
func Unguarded() *Authority {
	a, err := Open(Options{Users: &memory{}, Rules: &memory{}, AllowEveryone: true})
	if err != nil {
		panic("auth: internal error: " + err.Error())
	}
	return a
}

// memory is a Table that is not kept.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (m *memory) All() (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values), nil
}

func (m *memory) PutAll(values map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	maps.Copy(m.values, values)
	return nil
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

func (a *Authority) loadRules() error {
	stored, err := a.o.Rules.All()
	if err != nil {
		return fmt.Errorf("read access rules: %w", err)
	}
	rules := map[Rule]struct{}{}
	for key := range stored {
		var r Rule
		if err := json.Unmarshal([]byte(key), &r); err != nil {
			return fmt.Errorf("access rule %q cannot be read: %w", key, err)
		}
		if err := r.Check(); err != nil { // left out, a denial would be an allowance
			return fmt.Errorf("access rule %q: %w", key, err)
		}
		rules[r] = struct{}{}
	}
	a.index.Store(newIndex(rules))
	return nil
}

// ruleKey is a rule as the table's key.
func ruleKey(r Rule) string {
	key, err := json.Marshal(r)
	if err != nil {
		panic("auth: internal error: " + err.Error())
	}
	return string(key)
}

// Rules lists the rules that the filter finds.
func (a *Authority) Rules(f Filter) []Rule {
	var found []Rule
	for r := range a.index.Load().rules {
		if f.Matches(&r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, compareRules)
	return found
}

// AddRules makes rules that are all well formed, durably and all or none. One that
// exists is left as it is.
func (a *Authority) AddRules(rules []Rule) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	x := a.index.Load()
	values := map[string][]byte{}
	var added []Rule
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
		if _, known := x.rules[r]; !known {
			values[ruleKey(r)] = []byte("{}")
			added = append(added, r)
		}
	}
	switch {
	case len(added) == 0:
		return nil
	case len(x.rules)+len(values) > a.o.MaxRules:
		return fmt.Errorf("%w access rules, the limit is %d", ErrTooMany, a.o.MaxRules)
	}
	if err := a.o.Rules.PutAll(values); err != nil {
		return err
	}
	a.index.Store(x.with(added, nil))
	a.narrowed(nil, added)
	return nil
}

// DeleteRules removes the rules that the filter finds, durably, and returns them.
func (a *Authority) DeleteRules(f Filter) ([]Rule, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	var removed []Rule
	defer func() { a.narrowed(removed, nil) }()
	for _, r := range a.Rules(f) {
		if err := a.o.Rules.Delete(ruleKey(r)); err != nil {
			return removed, err
		}
		removed = append(removed, r)
		a.index.Store(a.index.Load().with(nil, []Rule{r}))
	}
	return removed, nil
}

func compareRules(a, b Rule) int {
	ka, kb := ruleKey(a), ruleKey(b)
	switch {
	case ka < kb:
		return -1
	case ka > kb:
		return 1
	}
	return 0
}

// Mechanisms are the SASL mechanisms for a connection.
func (a *Authority) Mechanisms(p Peer) []Mechanism {
	return slices.DeleteFunc(slices.Clone(a.o.Mechanisms), func(m Mechanism) bool { return m == Plain && !p.TLS && !a.o.PlainWithoutTLS })
}

// Iterations is how often the credentials made here are to be hashed.
func (a *Authority) Iterations() int { return a.o.Iterations }

// Report tells the audit trail.
func (a *Authority) Report(e Event) {
	e.Time = a.o.Now()
	a.o.Trail.record(e)
}
