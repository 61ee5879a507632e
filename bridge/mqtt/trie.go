package mqtt

import (
	"bytes"
	"sync"
)

// trie finds the subscriptions whose filter matches a topic name. It holds the
// subscriptions of connected sessions only: an offline session costs nothing here.
// The work of one match grows with the levels of the name, not with the number of
// filters; a + in a filter at most doubles the paths of its level.
type trie struct {
	mu   sync.RWMutex
	root node
	size int
}

type node struct {
	children map[string]*node // by level, "+" among them
	subs     []*subscription  // filters that end here
	hash     []*subscription  // filters that end in # below here
}

func (t *trie) add(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size++
	n := &t.root
	for level, rest, more := cutLevel(s.filter); ; level, rest, more = cutLevel(rest) {
		if level == "#" {
			n.hash = append(n.hash, s)
			return
		}
		child := n.children[level]
		if child == nil {
			if n.children == nil {
				n.children = make(map[string]*node, 1)
			}
			child = &node{}
			n.children[level] = child
		}
		n = child
		if !more {
			n.subs = append(n.subs, s)
			return
		}
	}
}

func (t *trie) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root.remove(s, s.filter, true) {
		t.size--
	}
}

func (n *node) remove(s *subscription, rest string, more bool) (found bool) {
	if !more {
		n.subs, found = without(n.subs, s)
		return found
	}
	level, rest, more := cutLevel(rest)
	if level == "#" {
		n.hash, found = without(n.hash, s)
		return found
	}
	child := n.children[level]
	if child == nil {
		return false
	}
	found = child.remove(s, rest, more)
	if len(child.subs)+len(child.hash)+len(child.children) == 0 {
		delete(n.children, level)
	}
	return found
}

// without removes s by swapping in the last: order does not matter.
func without(list []*subscription, s *subscription) ([]*subscription, bool) {
	for i := range list {
		if list[i] == s {
			last := len(list) - 1
			list[i], list[last] = list[last], nil
			return list[:last], true
		}
	}
	return list, false
}

// match appends the subscriptions that match topic to dst.
func (t *trie) match(dst []*subscription, topic []byte) []*subscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.size == 0 {
		return dst
	}
	return t.root.match(dst, topic, true, len(topic) > 0 && topic[0] == '$')
}

func (n *node) match(dst []*subscription, rest []byte, more, dollar bool) []*subscription {
	if !dollar { // [MQTT-4.7.2-1]
		dst = append(dst, n.hash...)
	}
	if !more {
		return append(dst, n.subs...)
	}
	level, rest, more := cutLevelBytes(rest)
	if child := n.children[string(level)]; child != nil {
		dst = child.match(dst, rest, more, false)
	}
	if child := n.children["+"]; child != nil && !dollar {
		dst = child.match(dst, rest, more, false)
	}
	return dst
}

// under reports whether there are filters whose first level is the given one.
func (t *trie) under(level string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.root.children[level] != nil
}

func cutLevel(s string) (level, rest string, more bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func cutLevelBytes(s []byte) (level, rest []byte, more bool) {
	if i := bytes.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, nil, false
}
