package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/auth"
)

// Rules for a group are for its members, and for nobody else.
func TestRulesForGroups(t *testing.T) {
	groups := map[auth.Principal][]auth.Principal{"User:alice": {auth.GroupPrincipal("staff"), auth.GroupPrincipal("pumps")}, "User:bob": {auth.GroupPrincipal("staff")}}
	a := open(t, auth.Options{Groups: groups},
		rule(auth.Allow, "Group:staff", auth.Read, auth.Literal, "orders"),
		rule(auth.Allow, "Group:pumps", auth.Write, auth.Literal, "mqtt:dev/%u/#"),
		rule(auth.Deny, "Group:pumps", auth.Write, auth.Prefixed, "mqtt:dev/alice/locked"),
		rule(auth.Allow, "User:staff", auth.Read, auth.Literal, "theirs"))
	alice, bob, eve := session(t, a, "alice", "10.0.0.1"), session(t, a, "bob", "10.0.0.1"), session(t, a, "staff", "10.0.0.1")
	for _, c := range []struct {
		who  *auth.Session
		op   auth.Operation
		name string
		want bool
	}{
		{alice, auth.Read, "orders", true}, {bob, auth.Read, "orders", true}, {eve, auth.Read, "orders", false},
		{alice, auth.Write, "mqtt:dev/alice/t", true}, {bob, auth.Write, "mqtt:dev/bob/t", false}, {alice, auth.Write, "mqtt:dev/bob/t", false},
		{alice, auth.Write, "mqtt:dev/alice/locked", false}, {alice, auth.Read, "theirs", false}, {eve, auth.Read, "theirs", true},
	} {
		if got := c.who.Allowed(c.op, auth.Topic, c.name); got != c.want {
			t.Errorf("%s, %s on %s: %v", c.who.Principal(), c.op, c.name, got)
		}
	}
	if !alice.AllowedAny(auth.Read, auth.Topic) || eve.AllowedAny(auth.Write, auth.Topic) {
		t.Error("AllowedAny does not know of groups")
	}
}

// A token's groups are those of its bearer, beside those of the configuration.
func TestTokensBringGroups(t *testing.T) {
	i := newIssuer(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, i.jwks("k1"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	options := auth.TokenOptions{Keys: file, Issuer: "iss", Audience: "weir", GroupsClaim: "groups"}
	tokens, err := auth.NewTokens(options)
	if err != nil {
		t.Fatal(err)
	}
	token := func(groups any) string {
		c := claims{"iss": "iss", "aud": "weir", "sub": "alice", "exp": now.Unix() + 600}
		if groups != nil {
			c["groups"] = groups
		}
		return i.sign(map[string]string{"alg": "RS256", "kid": "k1"}, c)
	}
	a := open(t, auth.Options{Tokens: tokens, Groups: map[auth.Principal][]auth.Principal{"User:alice": {"Group:staff"}}},
		rule(auth.Allow, "Group:ops", auth.Read, auth.Literal, "ops"), rule(auth.Allow, "Group:staff", auth.Read, auth.Literal, "staff"))
	for _, c := range []struct {
		groups any
		ops    bool
	}{{nil, false}, {"ops", true}, {[]string{"x", "ops"}, true}, {[]string{"Ops", "op", "Group:ops"}, false}, {[]string{}, false}} {
		s, err := a.Token(auth.Peer{Host: "h", TLS: true, Via: auth.ViaMQTT}, token(c.groups))
		if err != nil {
			t.Fatal(err)
		}
		if s.Allowed(auth.Read, auth.Topic, "ops") != c.ops || !s.Allowed(auth.Read, auth.Topic, "staff") {
			t.Errorf("groups %v", c.groups)
		}
	}
	for _, bad := range []any{7, []any{"ops", 7}, []string{""}, map[string]string{"ops": "x"}, slices.Repeat([]string{"ops"}, 65)} {
		if who, err := tokens.Verify(token(bad), now); err == nil || !strings.Contains(err.Error(), "groups") {
			t.Errorf("%.40s: %v, %v", fmt.Sprint(bad), who, err)
		}
	}
	options.GroupsClaim = ""
	if tokens, err = auth.NewTokens(options); err != nil {
		t.Fatal(err)
	}
	if who, err := tokens.Verify(token("ops"), now); err != nil || len(who.Groups) > 0 {
		t.Errorf("without a claim configured: %v, %v", who, err)
	}
}
