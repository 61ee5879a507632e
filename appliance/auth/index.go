package auth

import (
	"maps"
	"slices"
	"strings"
)

// index is a set of rules, made ready to be asked. It is never changed: a new set
// is a new index, so that asking takes no lock.
type index struct {
	rules     map[Rule]struct{}
	types     [resourceTypes]typeIndex
	templates map[Principal][]template // rules about MQTT topics whose name is a filter
}

// asker is whom a question is about.
type asker struct {
	principal Principal
	groups    []Principal // that the client is in
	host      string
	client    string // the MQTT client identifier
}

// typeIndex is the rules of one resource type.
type typeIndex struct {
	literal  map[string][]Rule
	all      []Rule // literal, with the name *
	prefixed map[string][]Rule
	lengths  []int // of the prefixes, each once
}

func newIndex(rules map[Rule]struct{}) *index {
	x := &index{rules: rules}
	for r := range rules {
		if filter, ok := templateOf(&r); ok {
			if x.templates == nil {
				x.templates = map[Principal][]template{}
			}
			x.templates[r.Principal] = append(x.templates[r.Principal], template{r, filter})
			continue
		}
		t := &x.types[r.Type]
		switch {
		case r.Pattern == Prefixed:
			if t.prefixed == nil {
				t.prefixed = map[string][]Rule{}
			}
			t.prefixed[r.Name] = append(t.prefixed[r.Name], r)
			if !slices.Contains(t.lengths, len(r.Name)) {
				t.lengths = append(t.lengths, len(r.Name))
			}
		case r.Name == Wildcard:
			t.all = append(t.all, r)
		default:
			if t.literal == nil {
				t.literal = map[string][]Rule{}
			}
			t.literal[r.Name] = append(t.literal[r.Name], r)
		}
	}
	return x
}

// with is the index with some rules more and some less.
func (x *index) with(add, remove []Rule) *index {
	rules := maps.Clone(x.rules)
	for _, r := range remove {
		delete(rules, r)
	}
	for _, r := range add {
		rules[r] = struct{}{}
	}
	return newIndex(rules)
}

// verdict is what the rules looked at so far say.
type verdict struct {
	any, denied, allowed bool
}

func (v *verdict) weigh(rules []Rule, a *asker, op Operation) {
	for i := range rules {
		r := &rules[i]
		v.any = true
		switch {
		case !r.concerns(a):
		case r.Permission == Deny:
			v.denied = v.denied || r.denies(op)
		default:
			v.allowed = v.allowed || r.grants(op)
		}
	}
}

// decide asks the rules about one resource: one that denies wins over all that
// allow. everyone is the answer if there is no rule about the resource at all.
func (x *index) decide(a *asker, op Operation, typ ResourceType, name string, everyone bool) bool {
	t, v := &x.types[typ], verdict{}
	v.weigh(t.all, a, op)
	v.weigh(t.literal[name], a, op)
	for _, n := range t.lengths {
		if n <= len(name) {
			v.weigh(t.prefixed[name[:n]], a, op)
		}
	}
	if typ == Topic {
		v.weighTemplates(x, a, op, name, everyone)
	}
	switch {
	case v.denied:
		return false
	case v.allowed:
		return true
	}
	return !v.any && everyone
}

// decideAny asks whether there is any resource of the type on which the principal
// may do op (KIP-679): a rule that allows it and that no denial swallows whole.
func (x *index) decideAny(a *asker, op Operation, typ ResourceType, everyone bool) bool {
	t := &x.types[typ]
	denied := func(rules []Rule) bool {
		return slices.ContainsFunc(rules, func(r Rule) bool {
			return r.Permission == Deny && r.concerns(a) && r.denies(op)
		})
	}
	switch {
	case denied(t.all):
		return false
	case everyone:
		return true
	}
	allowed := func(rules []Rule) bool {
		return slices.ContainsFunc(rules, func(r Rule) bool {
			return r.Permission == Allow && r.concerns(a) && r.grants(op)
		})
	}
	swallowed := func(name string) bool {
		return slices.ContainsFunc(t.lengths, func(n int) bool { return n <= len(name) && denied(t.prefixed[name[:n]]) })
	}
	if allowed(t.all) {
		return true
	}
	for name, rules := range t.prefixed {
		if allowed(rules) && !swallowed(name) {
			return true
		}
	}
	for name, rules := range t.literal {
		if allowed(rules) && !swallowed(name) && !denied(rules) {
			return true
		}
	}
	return false
}

// decideFilter asks whether a principal may do op on every resource whose name
// begins with prefix, which is what a filter matches: the rules that allow it must
// cover all of these (or bear the filter itself as their name), and none that
// denies may touch one.
func (x *index) decideFilter(a *asker, op Operation, typ ResourceType, filter, prefix string, everyone bool) bool {
	t, v := &x.types[typ], verdict{}
	v.weigh(t.all, a, op)
	v.weigh(t.literal[filter], a, op)
	for _, n := range t.lengths {
		if n <= len(prefix) {
			v.weigh(t.prefixed[prefix[:n]], a, op)
		}
	}
	touching := verdict{} // rules about some of what the filter matches
	for _, rules := range []map[string][]Rule{t.literal, t.prefixed} {
		for name := range rules {
			if strings.HasPrefix(name, prefix) {
				touching.weigh(rules[name], a, op)
			}
		}
	}
	v.weighTemplates(x, a, op, filter, everyone)
	switch {
	case v.denied || touching.denied:
		return false
	case v.allowed:
		return true
	}
	return !v.any && !touching.any && everyone
}
