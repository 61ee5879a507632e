package auth

import (
	"strings"
	"sync"
)

// watchers are the sessions that are told when rules take something away that they may
// hold for long: an MQTT client asks once, when it subscribes.
type watchers struct {
	mu sync.Mutex
	of map[*Session]func()
}

// OnNarrowed has look called when rules that concern the client take away what it may
// subscribe to, so that it can ask MayKeep. It must not block. Close takes it back.
func (s *Session) OnNarrowed(look func()) {
	w := &s.a.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = map[*Session]func(){}
	}
	w.of[s] = look
}

func (s *Session) unwatchRules() {
	w := &s.a.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of, s)
}

// MayKeep is AllowedFilter for what the client has already: it may be asked from any
// goroutine, remembers nothing and tells nobody.
func (s *Session) MayKeep(op Operation, typ ResourceType, filter, prefix string) bool {
	x := s.a.index.Load()
	if s.super || len(x.rules) == 0 && s.a.o.AllowEveryone {
		return true
	}
	if filter == prefix {
		return x.decide(&s.asker, op, typ, filter, s.a.o.AllowEveryone)
	}
	return x.decideFilter(&s.asker, op, typ, filter, prefix, s.a.o.AllowEveryone)
}

// narrowed tells the sessions that a change takes something from: allowances that are
// gone, denials that are new, and, where everybody may do what no rule is about, any new rule.
func (a *Authority) narrowed(gone, added []Rule) {
	var rules []Rule
	for _, r := range gone {
		if r.Permission == Allow && ofSubscribers(&r) {
			rules = append(rules, r)
		}
	}
	everybody := false
	for _, r := range added {
		if a.o.AllowEveryone || r.Permission == Deny && ofSubscribers(&r) {
			rules = append(rules, r)
			everybody = everybody || a.o.AllowEveryone
		}
	}
	if len(rules) == 0 {
		return
	}
	var looks []func()
	a.watchers.mu.Lock()
	for s, look := range a.watchers.of {
		for i := range rules {
			if everybody || rules[i].concerns(&s.asker) {
				looks = append(looks, look)
				break
			}
		}
	}
	a.watchers.mu.Unlock()
	for _, look := range looks {
		look()
	}
}

// ofSubscribers reports whether a rule is about what MQTT clients subscribe to.
func ofSubscribers(r *Rule) bool {
	return r.Type == Topic && (r.Operation == Read || r.Operation == AllOperations) && (r.Name == Wildcard || strings.HasPrefix(r.Name, MQTTPrefix) ||
		r.Pattern == Prefixed && strings.HasPrefix(MQTTPrefix, r.Name))
}
