package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/auth"
)

// device is a session that goes by an MQTT client identifier.
func device(t *testing.T, a *auth.Authority, user, client string) *auth.Session {
	t.Helper()
	s := session(t, a, user, "10.0.0.1")
	s.Call(client)
	return s
}

// subscribes asks as the MQTT listener does.
func subscribes(s *auth.Session, filter string) bool {
	fixed := filter
	if at := strings.IndexAny(filter, "+#"); at >= 0 {
		fixed = filter[:at]
	} else {
		return s.Authorize(auth.Read, auth.Topic, auth.MQTTPrefix+filter)
	}
	return s.AllowedFilter(auth.Read, auth.Topic, auth.MQTTPrefix+filter, auth.MQTTPrefix+fixed)
}

// Rules whose name is a filter; the client is User:pump with the identifier p1.
func TestRulesByFilter(t *testing.T) {
	allow := func(op auth.Operation, filter string) auth.Rule {
		return rule(auth.Allow, "User:*", op, auth.Literal, "mqtt:"+filter)
	}
	deny := func(op auth.Operation, filter string) auth.Rule {
		return rule(auth.Deny, "User:*", op, auth.Literal, "mqtt:"+filter)
	}
	for _, c := range []struct {
		name      string
		rules     []auth.Rule
		publish   string // topic name; or
		subscribe string // filter
		want      bool
	}{
		{"client identifier", []auth.Rule{allow(auth.Write, "dev/%c/#")}, "dev/p1/temp", "", true},
		{"the parent level of #", []auth.Rule{allow(auth.Write, "dev/%c/#")}, "dev/p1", "", true},
		{"another's identifier", []auth.Rule{allow(auth.Write, "dev/%c/#")}, "dev/p2/temp", "", false},
		{"it is a whole level", []auth.Rule{allow(auth.Write, "dev/%c/#")}, "dev/p12/temp", "", false},
		{"user", []auth.Rule{allow(auth.Write, "dev/%u/+")}, "dev/pump/temp", "", true},
		{"user, too deep", []auth.Rule{allow(auth.Write, "dev/%u/+")}, "dev/pump/temp/x", "", false},
		{"user, not deep enough", []auth.Rule{allow(auth.Write, "dev/%u/+")}, "dev/pump", "", false},
		{"both", []auth.Rule{allow(auth.Write, "%u/%c/up")}, "pump/p1/up", "", true},
		{"without a variable", []auth.Rule{allow(auth.Write, "site/+/up")}, "site/7/up", "", true},
		{"to publish is not to subscribe", []auth.Rule{allow(auth.Write, "dev/%c/#")}, "", "dev/p1/#", false},
		{"subscribe to all of it", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "dev/p1/#", true},
		{"to a part", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "dev/p1/+/x", true},
		{"to one", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "dev/p1/x", true},
		{"to more", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "dev/+/x", false},
		{"to everything", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "#", false},
		{"+ is not #", []auth.Rule{allow(auth.Read, "dev/%c/+")}, "", "dev/p1/#", false},
		{"+ covers +", []auth.Rule{allow(auth.Read, "dev/%c/+")}, "", "dev/p1/+", true},
		{"the variable as text", []auth.Rule{allow(auth.Read, "dev/%c/#")}, "", "dev/%c/#", false},
		{"# is not $SYS", []auth.Rule{allow(auth.Read, "#")}, "", "$SYS/#", false},
		{"+ is not $SYS", []auth.Rule{allow(auth.Read, "+/#")}, "", "$SYS/broker", false},
		{"$SYS is named", []auth.Rule{allow(auth.Read, "$SYS/#")}, "", "$SYS/broker/+", true},
		{"denied", []auth.Rule{allow(auth.Write, "dev/#"), deny(auth.Write, "dev/%c/secret")}, "dev/p1/secret", "", false},
		{"denied to others", []auth.Rule{allow(auth.Write, "dev/#"), deny(auth.Write, "dev/%c/secret")}, "dev/p2/secret", "", true},
		{"a filter that touches what is denied", []auth.Rule{allow(auth.Read, "dev/#"), deny(auth.Read, "dev/+/secret")}, "", "dev/p1/#", false},
		{"one that does not", []auth.Rule{allow(auth.Read, "dev/#"), deny(auth.Read, "dev/+/secret")}, "", "dev/p1/+/x", true},
		{"+ touches", []auth.Rule{allow(auth.Read, "dev/#"), deny(auth.Read, "dev/p1/secret/#")}, "", "dev/+/secret", false},
		{"# touches its parent", []auth.Rule{allow(auth.Read, "dev/#"), deny(auth.Read, "dev/+")}, "", "dev/p1/#", false},
		{"a denied name within an allowed filter", []auth.Rule{allow(auth.Read, "dev/#"), rule(auth.Deny, "User:pump", auth.Read, auth.Prefixed, "mqtt:dev/p9/")}, "", "dev/#", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := device(t, open(t, auth.Options{}, c.rules...), "pump", "p1")
			got := c.publish != "" && s.Authorize(auth.Write, auth.Topic, auth.MQTTPrefix+c.publish) || c.subscribe != "" && subscribes(s, c.subscribe)
			if got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// Nobody gets more by what he calls himself: wildcards and levels in a client
// identifier make a rule that allows hold for nothing, and one that denies for more.
func TestIdentifiersDoNotWidenRules(t *testing.T) {
	allows := rule(auth.Allow, "User:*", auth.AllOperations, auth.Literal, "mqtt:dev/%c/#")
	user := rule(auth.Allow, "User:*", auth.AllOperations, auth.Literal, "mqtt:home/%u/#")
	first := rule(auth.Allow, "User:*", auth.AllOperations, auth.Literal, "mqtt:%c/#")
	denies := rule(auth.Deny, "User:*", auth.Write, auth.Literal, "mqtt:dev/%c/locked")
	for _, name := range []string{"+", "#", "a/b", "p1/../p2", "+/x", "", "$SYS", "a+", "p1/#"} {
		s := device(t, open(t, auth.Options{}, allows, user, first), "eve", name)
		for _, topic := range []string{"dev/p1/temp", "dev/a/b/x", "dev/+/x", "dev/#", "dev//x", "$SYS/x", "a/b/x", "dev/" + name + "/x", name + "/x"} {
			if s.Allowed(auth.Write, auth.Topic, auth.MQTTPrefix+topic) {
				t.Errorf("client %q may publish on %q", name, topic)
			}
		}
		for _, filter := range []string{"dev/+/temp", "dev/#", "#", "+/#", "$SYS/#", "dev/p1/#", "dev/" + name + "/#", name + "/#"} {
			if subscribes(s, filter) {
				t.Errorf("client %q may subscribe to %q", name, filter)
			}
		}
		if !subscribes(s, "home/eve/#") {
			t.Errorf("client %q: the rule by user does not hold", name)
		}
		s = device(t, open(t, auth.Options{}, rule(auth.Allow, "User:*", auth.AllOperations, auth.Prefixed, "mqtt:dev/"), denies), "eve", name)
		if s.Allowed(auth.Write, auth.Topic, "mqtt:dev/p1/locked") {
			t.Errorf("client %q escapes what denies", name)
		}
	}
	// The name of a user is no safer: certificates and tokens bring any.
	a := open(t, auth.Options{}, user)
	for _, name := range []string{"a/b", "+", "#"} {
		if s := device(t, a, name, "c"); subscribes(s, "home/"+name+"/#") || subscribes(s, "home/#") {
			t.Errorf("user %q widens the rule", name)
		}
	}
}

// A rule by filter leaves everybody what no rule is about, and takes the rest.
func TestEveryoneBesideFilters(t *testing.T) {
	s := device(t, open(t, auth.Options{AllowEveryone: true}, rule(auth.Allow, "User:other", auth.Write, auth.Literal, "mqtt:dev/+/up")), "pump", "p1")
	if s.Allowed(auth.Write, auth.Topic, "mqtt:dev/1/up") {
		t.Error("what a rule gives to another is everybody's")
	}
	if !s.Allowed(auth.Write, auth.Topic, "mqtt:free") || !s.Allowed(auth.Write, auth.Topic, "orders") {
		t.Error("what no rule is about is nobody's")
	}
}

func TestFiltersThatCannotBe(t *testing.T) {
	a := open(t, auth.Options{})
	for name, pattern := range map[string]auth.Pattern{
		"mqtt:dev/#/x": auth.Literal, "mqtt:dev/a+": auth.Literal, "mqtt:dev/a#": auth.Literal,
		"mqtt:dev/pump-%c/x": auth.Literal, "mqtt:dev/%u.x": auth.Literal,
		"mqtt:dev/%c/": auth.Prefixed, "mqtt:dev/+/": auth.Prefixed,
	} {
		if err := a.AddRules([]auth.Rule{rule(auth.Allow, "User:x", auth.Write, pattern, name)}); !errors.Is(err, auth.ErrInvalidRule) {
			t.Errorf("%s, %s: %v", name, pattern, err)
		}
	}
	for _, name := range []string{"mqtt:dev/100%/x", "mqtt:%d/x", "orders"} {
		if err := a.AddRules([]auth.Rule{rule(auth.Allow, "User:x", auth.Write, auth.Literal, name)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who loses something by a change of the rules is told, so that it can look what; nobody
// else is.
func TestNarrowedRulesAreTold(t *testing.T) {
	pump := rule(auth.Allow, "User:pump", auth.Read, auth.Literal, "mqtt:dev/%u/#")
	all := rule(auth.Allow, "Group:fleet", auth.Read, auth.Literal, "mqtt:all/#")
	a := open(t, auth.Options{Groups: map[auth.Principal][]auth.Principal{"User:tank": {"Group:fleet"}}}, pump, all)
	told := map[string]int{}
	sessions := map[string]*auth.Session{}
	for _, name := range []string{"pump", "tank"} {
		s := device(t, a, name, name)
		sessions[name] = s
		s.OnNarrowed(func() { told[name]++ })
	}
	keeps := func(name, filter string) bool {
		return sessions[name].MayKeep(auth.Read, auth.Topic, "mqtt:"+filter, "mqtt:"+strings.TrimRight(filter, "#"))
	}
	check := func(what string, pumpTold, tankTold int, pumpKeeps, tankKeeps bool) {
		t.Helper()
		if told["pump"] != pumpTold || told["tank"] != tankTold {
			t.Errorf("%s: told %v", what, told)
		}
		if keeps("pump", "dev/pump/#") != pumpKeeps || keeps("tank", "all/#") != tankKeeps || keeps("pump", "all/#") {
			t.Errorf("%s: pump keeps %v, tank %v", what, !pumpKeeps, !tankKeeps)
		}
		clear(told)
	}
	only := func(r auth.Rule) auth.Filter {
		name := r.Name
		return auth.Filter{Type: auth.Topic, Name: &name, Pattern: auth.Literal, Operation: auth.AnyOperation, Permission: auth.AnyPermission}
	}
	add := func(r auth.Rule) {
		t.Helper()
		if err := a.AddRules([]auth.Rule{r}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(r auth.Rule) {
		t.Helper()
		if gone, err := a.DeleteRules(only(r)); err != nil || len(gone) != 1 {
			t.Fatal(gone, err)
		}
	}
	check("at first", 0, 0, true, true)
	add(rule(auth.Allow, "User:*", auth.Read, auth.Literal, "mqtt:more/#"))
	remove(rule(auth.Allow, "User:*", auth.Read, auth.Literal, "mqtt:more/#"))
	check("something that both may lose", 1, 1, true, true)
	add(rule(auth.Allow, "User:pump", auth.Write, auth.Literal, "mqtt:up/#"))
	add(rule(auth.Deny, "User:pump", auth.Read, auth.Literal, "orders"))
	check("what no subscriber loses by", 0, 0, true, true)
	deny := rule(auth.Deny, "User:pump", auth.AllOperations, auth.Prefixed, "mqtt:dev/pump/x")
	add(deny)
	check("a denial", 1, 0, false, true)
	if _, err := a.DeleteRules(auth.Filter{Type: auth.Topic, Pattern: auth.Prefixed, Operation: auth.AnyOperation, Permission: auth.Deny}); err != nil {
		t.Fatal(err)
	}
	check("no denial any more", 0, 0, true, true)
	remove(pump)
	check("the pump's rule", 1, 0, false, true)
	remove(all)
	check("the group's rule", 0, 1, false, false)
	sessions["tank"].Close()
	add(rule(auth.Deny, "User:*", auth.Read, auth.Literal, "*"))
	check("after the end of a session", 1, 0, false, false)
}

// Where everybody may do what no rule is about, a rule for one takes from all others.
func TestFirstRuleNarrows(t *testing.T) {
	a := open(t, auth.Options{AllowEveryone: true})
	s := device(t, a, "pump", "p")
	told := 0
	s.OnNarrowed(func() { told++ })
	if !s.MayKeep(auth.Read, auth.Topic, "mqtt:dev/#", "mqtt:dev/") {
		t.Error("without rules")
	}
	if err := a.AddRules([]auth.Rule{rule(auth.Allow, "User:tank", auth.Read, auth.Literal, "mqtt:dev/tank/#")}); err != nil {
		t.Fatal(err)
	}
	if told != 1 || s.MayKeep(auth.Read, auth.Topic, "mqtt:dev/#", "mqtt:dev/") || !s.MayKeep(auth.Read, auth.Topic, "mqtt:else/#", "mqtt:else/") {
		t.Errorf("told %d times", told)
	}
}
