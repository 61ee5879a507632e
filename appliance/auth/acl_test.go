package auth_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/weirmq/weir/appliance/auth"
)

// rule is a rule about topics, as the tables below write it.
func rule(permission auth.Permission, principal string, op auth.Operation, pattern auth.Pattern, name string) auth.Rule {
	return auth.Rule{Type: auth.Topic, Name: name, Pattern: pattern, Principal: auth.Principal(principal), Host: auth.Wildcard, Operation: op, Permission: permission}
}

func from(host string, r auth.Rule) auth.Rule { r.Host = host; return r }
func of(t auth.ResourceType, r auth.Rule) auth.Rule {
	r.Type = t
	return r
}

// table is a store of users or rules.
type table struct {
	values map[string][]byte
	err    error
}

func (t *table) All() (map[string][]byte, error) { return t.values, t.err }
func (t *table) PutAll(values map[string][]byte) error {
	if t.err != nil {
		return t.err
	}
	if t.values == nil {
		t.values = map[string][]byte{}
	}
	for k, v := range values {
		t.values[k] = v
	}
	return nil
}

func (t *table) Delete(key string) error {
	if t.err == nil {
		delete(t.values, key)
	}
	return t.err
}

func open(t testing.TB, o auth.Options, rules ...auth.Rule) *auth.Authority {
	t.Helper()
	if o.Users == nil {
		o.Users = &table{}
	}
	if o.Rules == nil {
		o.Rules = &table{}
	}
	a, err := auth.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.AddRules(rules); err != nil {
		t.Fatal(err)
	}
	return a
}

// clearText is the password of every user here.
const clearText = "a password in clear text"

// session logs a user in by a password, from a host.
func session(t testing.TB, a *auth.Authority, user, host string) *auth.Session {
	t.Helper()
	if err := a.SetPassword(user, clearText); err != nil {
		t.Fatal(err)
	}
	s, err := a.Password(auth.Peer{Host: host, TLS: true, Via: "kafka"}, user, clearText)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Kafka's StandardAuthorizer, case by case: the client is User:alice at 10.0.0.1 and
// asks about the topic "orders-eu".
func TestRulesDecideAsKafkaDoes(t *testing.T) {
	const allow, deny, literal, prefixed = auth.Allow, auth.Deny, auth.Literal, auth.Prefixed
	for _, c := range []struct {
		name     string
		rules    []auth.Rule
		op       auth.Operation
		everyone bool
		want     bool
	}{
		{"no rule", nil, auth.Read, false, false},
		{"no rule, everyone", nil, auth.Read, true, true},
		{"literal", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu")}, auth.Read, false, true},
		{"literal of another topic", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders")}, auth.Read, false, false},
		{"prefixed", []auth.Rule{rule(allow, "User:alice", auth.Read, prefixed, "orders")}, auth.Read, false, true},
		{"prefix is the whole name", []auth.Rule{rule(allow, "User:alice", auth.Read, prefixed, "orders-eu")}, auth.Read, false, true},
		{"prefix is longer", []auth.Rule{rule(allow, "User:alice", auth.Read, prefixed, "orders-eu-")}, auth.Read, false, false},
		{"wildcard", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "*")}, auth.Read, false, true},
		{"a prefix * is no wildcard", []auth.Rule{rule(allow, "User:alice", auth.Read, prefixed, "*")}, auth.Read, false, false},
		{"everybody", []auth.Rule{rule(allow, "User:*", auth.Read, literal, "orders-eu")}, auth.Read, false, true},
		{"another user", []auth.Rule{rule(allow, "User:bob", auth.Read, literal, "orders-eu")}, auth.Read, false, false},
		{"another user, everyone: there is a rule", []auth.Rule{rule(allow, "User:bob", auth.Read, literal, "orders-eu")}, auth.Read, true, false},
		{"everyone, a rule on another topic", []auth.Rule{rule(allow, "User:bob", auth.Read, literal, "x")}, auth.Read, true, true},
		{"everyone, a rule by wildcard", []auth.Rule{rule(allow, "User:bob", auth.Read, literal, "*")}, auth.Read, true, false},
		{"everyone, a rule by prefix", []auth.Rule{rule(allow, "User:bob", auth.Read, prefixed, "o")}, auth.Read, true, false},
		{"type of principal", []auth.Rule{rule(allow, "Group:alice", auth.Read, literal, "orders-eu")}, auth.Read, false, false},
		{"type of resource", []auth.Rule{of(auth.Group, rule(allow, "User:alice", auth.Read, literal, "orders-eu"))}, auth.Read, false, false},
		{"host", []auth.Rule{from("10.0.0.1", rule(allow, "User:alice", auth.Read, literal, "orders-eu"))}, auth.Read, false, true},
		{"another host", []auth.Rule{from("10.0.0.2", rule(allow, "User:alice", auth.Read, literal, "orders-eu"))}, auth.Read, false, false},
		{"all operations", []auth.Rule{rule(allow, "User:alice", auth.AllOperations, literal, "orders-eu")}, auth.AlterConfigs, false, true},
		{"deny wins over the more exact allow", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu"), rule(deny, "User:*", auth.Read, prefixed, "o")}, auth.Read, false, false},
		{"deny by wildcard", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu"), rule(deny, "User:alice", auth.AllOperations, literal, "*")}, auth.Read, false, false},
		{"deny for another host", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu"), from("10.0.0.2", rule(deny, "User:alice", auth.Read, literal, "orders-eu"))}, auth.Read, false, true},
		{"deny alone, everyone: the rule exists", []auth.Rule{rule(deny, "User:bob", auth.Read, literal, "orders-eu")}, auth.Read, true, false},
		{"read implies describe", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu")}, auth.Describe, false, true},
		{"write implies describe", []auth.Rule{rule(allow, "User:alice", auth.Write, literal, "orders-eu")}, auth.Describe, false, true},
		{"delete implies describe", []auth.Rule{rule(allow, "User:alice", auth.Delete, literal, "orders-eu")}, auth.Describe, false, true},
		{"alter implies describe", []auth.Rule{rule(allow, "User:alice", auth.Alter, literal, "orders-eu")}, auth.Describe, false, true},
		{"create does not", []auth.Rule{rule(allow, "User:alice", auth.Create, literal, "orders-eu")}, auth.Describe, false, false},
		{"alter configs implies describe configs", []auth.Rule{rule(allow, "User:alice", auth.AlterConfigs, literal, "orders-eu")}, auth.DescribeConfigs, false, true},
		{"but not describe", []auth.Rule{rule(allow, "User:alice", auth.AlterConfigs, literal, "orders-eu")}, auth.Describe, false, false},
		{"nothing implies write", []auth.Rule{rule(allow, "User:alice", auth.Read, literal, "orders-eu")}, auth.Write, false, false},
		{"denied read is no denied describe", []auth.Rule{rule(deny, "User:alice", auth.Read, literal, "orders-eu"), rule(allow, "User:alice", auth.Write, literal, "orders-eu")}, auth.Describe, false, true},
		{"denied describe leaves read", []auth.Rule{rule(deny, "User:alice", auth.Describe, literal, "orders-eu"), rule(allow, "User:alice", auth.Read, literal, "orders-eu")}, auth.Read, false, true},
		{"and bites", []auth.Rule{rule(deny, "User:alice", auth.Describe, literal, "orders-eu"), rule(allow, "User:alice", auth.Read, literal, "orders-eu")}, auth.Describe, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := open(t, auth.Options{AllowEveryone: c.everyone}, c.rules...)
			s := session(t, a, "alice", "10.0.0.1")
			for range 2 { // decided, then remembered
				if got := s.Allowed(c.op, auth.Topic, "orders-eu"); got != c.want {
					t.Errorf("%s: %v, want %v", c.op, got, c.want)
				}
			}
		})
	}
}

func TestSuperUserIsAskedNothing(t *testing.T) {
	a := open(t, auth.Options{SuperUsers: []auth.Principal{"User:root"}}, rule(auth.Deny, "User:*", auth.AllOperations, auth.Literal, "*"))
	if s := session(t, a, "root", "h"); !s.Allowed(auth.Write, auth.Topic, "t") || !s.Allowed(auth.Alter, auth.Cluster, auth.ClusterName) {
		t.Error("a super user is denied something")
	}
	if s := session(t, a, "alice", "h"); s.Allowed(auth.Write, auth.Topic, "t") {
		t.Error("alice is no super user")
	}
}

// A session must not go on by what it was told before the rules changed.
func TestChangedRulesHoldAtOnce(t *testing.T) {
	a := open(t, auth.Options{})
	s := session(t, a, "alice", "h")
	r := rule(auth.Allow, "User:alice", auth.Write, auth.Literal, "t")
	for range 2 {
		if s.Allowed(auth.Write, auth.Topic, "t") {
			t.Fatal("allowed without a rule")
		}
		if err := a.AddRules([]auth.Rule{r}); err != nil {
			t.Fatal(err)
		}
		if !s.Allowed(auth.Write, auth.Topic, "t") {
			t.Fatal("denied in spite of the rule")
		}
		removed, err := a.DeleteRules(auth.Filter{Type: auth.AnyResource, Pattern: auth.AnyPattern, Operation: auth.AnyOperation, Permission: auth.AnyPermission})
		if err != nil || len(removed) != 1 || removed[0] != r {
			t.Fatalf("removed %v, %v", removed, err)
		}
	}
}

// The same, where other rules stay: the answer is remembered by the rules it came of.
func TestChangedRuleAmongOthersHoldsAtOnce(t *testing.T) {
	allow := rule(auth.Allow, "User:alice", auth.Write, auth.Literal, "t")
	a := open(t, auth.Options{}, allow)
	s := session(t, a, "alice", "h")
	if !s.Allowed(auth.Write, auth.Topic, "t") {
		t.Fatal("denied in spite of the rule")
	}
	if err := a.AddRules([]auth.Rule{rule(auth.Deny, "User:*", auth.Write, auth.Prefixed, "t")}); err != nil {
		t.Fatal(err)
	}
	if s.Allowed(auth.Write, auth.Topic, "t") {
		t.Error("allowed in spite of the denial")
	}
}

func TestRulesSurviveARestart(t *testing.T) {
	store := &table{}
	r := rule(auth.Deny, "User:a", auth.Read, auth.Prefixed, "p\x00\"ü")
	open(t, auth.Options{Rules: store}, r)
	again := open(t, auth.Options{Rules: store})
	all := auth.Filter{Type: auth.AnyResource, Pattern: auth.AnyPattern, Operation: auth.AnyOperation, Permission: auth.AnyPermission}
	if got := again.Rules(all); len(got) != 1 || got[0] != r {
		t.Errorf("rules after the restart: %v", got)
	}
	// A rule that cannot be read must not be left out: it may deny.
	store.values["{"] = nil
	if _, err := auth.Open(auth.Options{Users: &table{}, Rules: store}); err == nil {
		t.Error("a damaged rule was passed over")
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	good := rule(auth.Allow, "User:a", auth.Read, auth.Literal, "t")
	for name, change := range map[string]func(*auth.Rule){
		"type":          func(r *auth.Rule) { r.Type = auth.AnyResource },
		"no name":       func(r *auth.Rule) { r.Name = "" },
		"match pattern": func(r *auth.Rule) { r.Pattern = auth.MatchPattern },
		"any operation": func(r *auth.Rule) { r.Operation = auth.AnyOperation },
		"operation 99":  func(r *auth.Rule) { r.Operation = 99 },
		"permission":    func(r *auth.Rule) { r.Permission = auth.AnyPermission },
		"principal":     func(r *auth.Rule) { r.Principal = "alice" },
		"no host":       func(r *auth.Rule) { r.Host = "" },
		"cluster name":  func(r *auth.Rule) { r.Type = auth.Cluster },
		"length":        func(r *auth.Rule) { r.Name = string(make([]byte, 2000)) },
	} {
		r := good
		change(&r)
		if err := r.Check(); !errors.Is(err, auth.ErrInvalidRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

func TestFilterFindsRules(t *testing.T) {
	a := open(t, auth.Options{},
		rule(auth.Allow, "User:a", auth.Read, auth.Literal, "orders"),
		rule(auth.Allow, "User:a", auth.Read, auth.Literal, "*"),
		rule(auth.Allow, "User:b", auth.Write, auth.Prefixed, "ord"),
		rule(auth.Deny, "User:b", auth.Write, auth.Prefixed, "orders"),
		of(auth.Group, rule(auth.Allow, "User:b", auth.Read, auth.Literal, "orders")))
	str := func(s string) *string { return &s }
	anything := auth.Filter{Type: auth.AnyResource, Pattern: auth.AnyPattern, Operation: auth.AnyOperation, Permission: auth.AnyPermission}
	for _, c := range []struct {
		name   string
		change func(*auth.Filter)
		want   int
	}{
		{"all", func(*auth.Filter) {}, 5},
		{"type", func(f *auth.Filter) { f.Type = auth.Topic }, 4},
		{"name, any pattern", func(f *auth.Filter) { f.Name = str("orders") }, 3},
		{"name, literal", func(f *auth.Filter) { f.Name, f.Pattern = str("orders"), auth.Literal }, 2},
		{"name, prefixed", func(f *auth.Filter) { f.Name, f.Pattern = str("orders"), auth.Prefixed }, 1},
		{"match", func(f *auth.Filter) { f.Type, f.Name, f.Pattern = auth.Topic, str("orders"), auth.MatchPattern }, 4},
		{"match of what a prefix covers", func(f *auth.Filter) { f.Type, f.Name, f.Pattern = auth.Topic, str("order-9"), auth.MatchPattern }, 2},
		{"principal", func(f *auth.Filter) { f.Principal = str("User:b") }, 3},
		{"host", func(f *auth.Filter) { f.Host = str("10.0.0.1") }, 0},
		{"operation", func(f *auth.Filter) { f.Operation = auth.Write }, 2},
		{"permission", func(f *auth.Filter) { f.Permission = auth.Deny }, 1},
	} {
		f := anything
		c.change(&f)
		if got := a.Rules(f); len(got) != c.want {
			t.Errorf("%s: %d rules, want %d: %v", c.name, len(got), c.want, got)
		}
	}
}

// authorizeByResourceType of KIP-679, which lets producers be idempotent.
func TestAllowedAny(t *testing.T) {
	allow := func(p auth.Pattern, name string) auth.Rule {
		return rule(auth.Allow, "User:alice", auth.Write, p, name)
	}
	deny := func(p auth.Pattern, name string) auth.Rule { return rule(auth.Deny, "User:alice", auth.Write, p, name) }
	for i, c := range []struct {
		rules    []auth.Rule
		everyone bool
		want     bool
	}{
		{nil, false, false},
		{nil, true, true},
		{[]auth.Rule{allow(auth.Literal, "t")}, false, true},
		{[]auth.Rule{allow(auth.Literal, "t"), deny(auth.Literal, "t")}, false, false},
		{[]auth.Rule{allow(auth.Literal, "t"), deny(auth.Prefixed, "t")}, false, false},
		{[]auth.Rule{allow(auth.Prefixed, "t"), deny(auth.Literal, "t")}, false, true},
		{[]auth.Rule{allow(auth.Prefixed, "ta"), deny(auth.Prefixed, "t")}, false, false},
		{[]auth.Rule{allow(auth.Literal, "*"), deny(auth.Prefixed, "t")}, false, true},
		{[]auth.Rule{allow(auth.Literal, "*"), deny(auth.Literal, "*")}, false, false},
		{[]auth.Rule{deny(auth.Literal, "*")}, true, false},
	} {
		a := open(t, auth.Options{AllowEveryone: c.everyone}, c.rules...)
		if got := session(t, a, "alice", "h").AllowedAny(auth.Write, auth.Topic); got != c.want {
			t.Errorf("case %d: %v, want %v", i, got, c.want)
		}
	}
}

// What a subscription with wildcards may match must be allowed in whole.
func TestAllowedFilter(t *testing.T) {
	allow := func(p auth.Pattern, name string) auth.Rule { return rule(auth.Allow, "User:alice", auth.Read, p, name) }
	deny := func(p auth.Pattern, name string) auth.Rule { return rule(auth.Deny, "User:alice", auth.Read, p, name) }
	for i, c := range []struct {
		rules          []auth.Rule
		everyone       bool
		filter, prefix string
		want           bool
	}{
		{nil, true, "a/#", "a/", true},
		{nil, false, "a/#", "a/", false},
		{[]auth.Rule{allow(auth.Prefixed, "a/")}, false, "a/#", "a/", true},
		{[]auth.Rule{allow(auth.Prefixed, "a/b/")}, false, "a/#", "a/", false},
		{[]auth.Rule{allow(auth.Literal, "*")}, false, "#", "", true},
		{[]auth.Rule{allow(auth.Literal, "a/+/c")}, false, "a/+/c", "a/", true},
		{[]auth.Rule{allow(auth.Literal, "*"), deny(auth.Prefixed, "a/secret/")}, false, "a/#", "a/", false},
		{[]auth.Rule{allow(auth.Literal, "*"), deny(auth.Literal, "a/secret")}, false, "#", "", false},
		{[]auth.Rule{allow(auth.Literal, "*"), deny(auth.Prefixed, "b/")}, false, "a/#", "a/", true},
		{[]auth.Rule{deny(auth.Prefixed, "b/")}, true, "a/#", "a/", true},
		{[]auth.Rule{deny(auth.Prefixed, "b/")}, true, "#", "", false},
	} {
		a := open(t, auth.Options{AllowEveryone: c.everyone}, c.rules...)
		if got := session(t, a, "alice", "h").AllowedFilter(auth.Read, auth.Topic, c.filter, c.prefix); got != c.want {
			t.Errorf("case %d, %s: %v, want %v", i, c.filter, got, c.want)
		}
	}
}

func TestOperationsAreBits(t *testing.T) {
	a := open(t, auth.Options{}, rule(auth.Allow, "User:alice", auth.Read, auth.Literal, "t"))
	if got, want := session(t, a, "alice", "h").Operations(auth.Topic, "t"), int32(1<<auth.Read|1<<auth.Describe); got != want {
		t.Errorf("operations %b, want %b", got, want)
	}
}

func TestRulesAreBounded(t *testing.T) {
	a := open(t, auth.Options{})
	var rules []auth.Rule
	for i := range auth.DefaultMaxRules + 1 {
		rules = append(rules, rule(auth.Allow, "User:a", auth.Read, auth.Literal, fmt.Sprint(i)))
	}
	if err := a.AddRules(rules); !errors.Is(err, auth.ErrTooMany) {
		t.Errorf("%d rules: %v", len(rules), err)
	}
}

// Asking again must cost nothing: it is done for each topic of each request.
func TestAskingAgainDoesNotAllocate(t *testing.T) {
	a := open(t, auth.Options{}, rule(auth.Allow, "User:alice", auth.Write, auth.Prefixed, "t"))
	s := session(t, a, "alice", "h")
	if n := testing.AllocsPerRun(100, func() { s.Allowed(auth.Write, auth.Topic, "topic") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllowed(b *testing.B) {
	a := open(b, auth.Options{}, rule(auth.Allow, "User:alice", auth.Write, auth.Prefixed, "t"))
	s := session(b, a, "alice", "h")
	for b.Loop() {
		s.Allowed(auth.Write, auth.Topic, "topic")
	}
}
