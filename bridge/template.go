package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// template is text with captures: "site-{site}".
type template []piece

type piece struct {
	text    string
	capture int // captureNone: text; captureTopic: the whole topic name
}

const (
	captureNone  = -1
	captureTopic = -2
)

// parseTemplate resolves the names in s by names.
func parseTemplate(s string, names map[string]int) (template, error) {
	var t template
	for s != "" {
		text, rest, found := strings.Cut(s, "{")
		if strings.Contains(text, "}") {
			return nil, fmt.Errorf("%q has a closing brace without an opening one", s)
		}
		if text != "" {
			t = append(t, piece{text: text, capture: captureNone})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("%q has no closing brace", s)
		}
		i, known := names[name]
		if name == "topic" && !known {
			i, known = captureTopic, true
		}
		if !known {
			return nil, fmt.Errorf("{%s} is not known; there are %s", name, strings.Join(append(slices.Sorted(maps.Keys(names)), "topic"), ", "))
		}
		t = append(t, piece{capture: i})
		s = after
	}
	return t, nil
}

// constant reports whether the template uses no capture.
func (t template) constant() bool {
	return !slices.ContainsFunc(t, func(p piece) bool { return p.capture != captureNone })
}

func (t template) append(dst []byte, c *captures) []byte {
	for i := range t {
		switch p := &t[i]; p.capture {
		case captureNone:
			dst = append(dst, p.text...)
		case captureTopic:
			dst = append(dst, c.topic...)
		default:
			dst = append(dst, c.at[p.capture]...)
		}
	}
	return dst
}
