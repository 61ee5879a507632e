package auth

import (
	"fmt"
	"strings"
)

// MQTTPrefix begins the names of the topics that MQTT clients are judged by; no Kafka
// topic can be called so. Behind it a literal rule may bear a topic filter, with the
// wildcards + and # and, as whole levels, %c for the client identifier and %u for the
// user's name of whoever asks.
const MQTTPrefix = "mqtt:"

// levels is a topic name or filter, level by level.
type levels []string

// templateOf is the filter of a rule; false: the rule bears a name.
func templateOf(r *Rule) (levels, bool) {
	text, ok := strings.CutPrefix(r.Name, MQTTPrefix)
	if !ok || r.Type != Topic || r.Pattern != Literal || !strings.ContainsAny(text, "+#%") {
		return nil, false
	}
	all := levels(strings.Split(text, "/"))
	for _, level := range all {
		switch level {
		case "+", "#", "%c", "%u":
			return all, true
		}
	}
	return nil, false
}

// checkTemplate reports a rule whose filter would not mean what it says.
func checkTemplate(r *Rule) error {
	text, ok := strings.CutPrefix(r.Name, MQTTPrefix)
	if !ok || r.Type != Topic {
		return nil
	}
	all := strings.Split(text, "/")
	for i, level := range all {
		switch {
		case r.Pattern == Prefixed && (strings.ContainsAny(level, "+#") || level == "%c" || level == "%u"):
			return fmt.Errorf("%w: %q is a filter, which a prefixed rule cannot have: make it literal, such as dev/%%c/#", ErrInvalidRule, text)
		case r.Pattern == Prefixed:
		case level == "#" && i < len(all)-1:
			return fmt.Errorf("%w: in %q # is not the last level", ErrInvalidRule, text)
		case len(level) > 1 && strings.ContainsAny(level, "+#"):
			return fmt.Errorf("%w: in %q + or # is only a part of level %q: a wildcard is a whole level", ErrInvalidRule, text, level)
		case len(level) > 2 && (strings.Contains(level, "%c") || strings.Contains(level, "%u")):
			return fmt.Errorf("%w: in %q %%c or %%u is only a part of level %q: they stand for a whole level", ErrInvalidRule, text, level)
		}
	}
	return nil
}

// fits reports whether a name may stand as a level: it brings no further levels and no
// wildcards with it, and is none of the server's own ($SYS).
func fits(name string) bool {
	return name != "" && name[0] != '$' && !strings.ContainsAny(name, "/+#")
}

// level is what a level of a template stands for. A name that must not stand there is
// any level to a rule that denies and none to one that allows, so that a client does
// not get more by what it calls itself.
func (a *asker) level(text string, deny bool) (level string, ok bool) {
	switch text {
	case "%c":
		text = a.client
	case "%u":
		text = a.principal.Name()
	default:
		return text, true
	}
	switch {
	case fits(text):
		return text, true
	case deny:
		return "+", true
	}
	return "", false
}

// covers reports whether all that the filter (or name) asked for matches is within the
// template of a rule that allows.
func (t levels) covers(a *asker, asked levels) bool {
	for i, text := range t {
		level, ok := a.level(text, false)
		switch {
		case !ok:
			return false
		case i == 0 && strings.HasPrefix(asked[0], "$") && (level == "#" || level == "+"): // [MQTT-4.7.2-1]
			return false
		case level == "#":
			return true
		case i == len(asked):
			return false
		case level == "+" && asked[i] != "#", level == asked[i]:
		default:
			return false
		}
	}
	return len(t) == len(asked)
}

// touches reports whether the template of a rule that denies and what is asked for have
// any topic name in common.
func (t levels) touches(a *asker, asked levels) bool {
	for i, text := range t {
		level, _ := a.level(text, true)
		wild := level == "#" || level == "+"
		switch {
		case i < len(asked) && i == 0 && (wild && strings.HasPrefix(asked[0], "$") || strings.HasPrefix(level, "$") && (asked[0] == "#" || asked[0] == "+")):
			return false
		case level == "#", i < len(asked) && asked[i] == "#":
			return true
		case i == len(asked):
			return false
		case level == "+", asked[i] == "+", level == asked[i]:
		default:
			return false
		}
	}
	return len(t) == len(asked) || len(asked) == len(t)+1 && asked[len(t)] == "#"
}

// template is a rule whose name is a filter.
type template struct {
	rule   Rule
	levels levels
}

// weighTemplates weighs the rules by filter about a topic name or filter; name has
// MQTTPrefix. any is to be known only where everybody may do what no rule is about.
func (v *verdict) weighTemplates(x *index, a *asker, op Operation, name string, any bool) {
	text, ok := strings.CutPrefix(name, MQTTPrefix)
	if !ok || len(x.templates) == 0 {
		return
	}
	asked := levels(strings.Split(text, "/"))
	weigh := func(rules []template) {
		for i := range rules {
			t := &rules[i]
			switch {
			case !t.levels.touches(a, asked):
				continue
			case !t.rule.concerns(a):
			case t.rule.Permission == Deny:
				v.denied = v.denied || t.rule.denies(op)
			default:
				v.allowed = v.allowed || t.rule.grants(op) && t.levels.covers(a, asked)
			}
			v.any = true
		}
	}
	if any {
		for _, rules := range x.templates {
			weigh(rules)
		}
		return
	}
	weigh(x.templates[a.principal])
	if a.principal != everybody {
		weigh(x.templates[everybody])
	}
	for _, group := range a.groups {
		weigh(x.templates[group])
	}
}
