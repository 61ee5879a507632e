package upstream

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

func (s Subscription) remoteFilter() string { return s.Remote + s.Filter }
func (s Subscription) localFilter() string  { return s.Local + s.Filter }

func (s Subscription) validate() error {
	if s.QoS > 1 {
		return fmt.Errorf("filter %q: qos is %d, a link carries 0 or 1: QoS 2 would not be exactly once across a crash; set qos: 1, by which a message may come twice and none is lost", s.Filter, s.QoS)
	}
	if s.Filter == "" {
		return fmt.Errorf("an empty filter; use # for all messages")
	}
	for _, prefix := range []string{s.Local, s.Remote} {
		if strings.ContainsAny(prefix, "+#\x00") {
			return fmt.Errorf("filter %q: prefix %q holds a wildcard", s.Filter, prefix)
		}
	}
	for _, f := range []string{s.localFilter(), s.remoteFilter()} {
		if err := packet.CheckFilter(f); err != nil {
			return fmt.Errorf("filter %q: %w", f, err)
		}
	}
	return nil
}

// translate makes of a topic name of one side that of the other; ok is false where no
// subscription has it.
func (p *pump) translate(topic string) (name string, qos byte, ok bool) {
	for _, s := range p.subs {
		from, prefix, to := s.localFilter(), s.Local, s.Remote
		if p.from == there {
			from, prefix, to = s.remoteFilter(), s.Remote, s.Local
		}
		if packet.Match(from, []byte(topic)) && strings.HasPrefix(topic, prefix) {
			return to + topic[len(prefix):], s.QoS, true
		}
	}
	return "", 0, false
}

// intersects reports whether some topic name matches both filters.
func intersects(a, b string) bool {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i := 0; ; i++ {
		switch {
		case i < len(x) && x[i] == "#", i < len(y) && y[i] == "#":
			return true // # matches the parent level, too [MQTT-4.7.1-2]
		case i == len(x) || i == len(y):
			return len(x) == len(y)
		case x[i] != y[i] && x[i] != "+" && y[i] != "+":
			return false
		}
	}
}
