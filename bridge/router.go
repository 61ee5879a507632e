package bridge

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/sparkplug"
)

// Router decides by the first route that matches, and those that match below it as long
// as they have Continue; messages that none matches go to DefaultTopic under the MQTT
// topic name as key. Before the routes it looks for answers to records of downlinks. It is
// safe for concurrent use, but for Replace.
type Router struct {
	routes    atomic.Pointer[[]route]
	downlinks []*downlink
	replies   replies
	edge      *edge // nil: topics of Sparkplug B are as others
}

// NewRouter checks routes and downlinks and makes a Router of them.
func NewRouter(routes []Route, downlinks []Downlink) (*Router, error) {
	r := &Router{}
	return r, r.Replace(routes, downlinks)
}

// Replace puts others in the place of the routes and downlinks there are, for the messages
// and records that come from now on. An error changes nothing.
func (r *Router) Replace(routes []Route, downlinks []Downlink) error {
	ready := make([]route, 0, len(routes))
	for i, spec := range routes {
		rt, err := newRoute(spec)
		if err != nil {
			return fmt.Errorf("bridge: routes[%d] (filter %q): %w", i, spec.Filter, err)
		}
		ready = append(ready, rt)
	}
	down, err := newDownlinks(downlinks, r.downlinks)
	if err != nil {
		return err
	}
	r.put(ready, down)
	return nil
}

func (r *Router) put(routes []route, downlinks []*downlink) {
	r.routes.Store(&routes)
	r.downlinks = downlinks
	r.replies.replace(downlinks)
}

// Route appends the ways of a message on topic; it implements mqtt.Router.
func (r *Router) Route(topic, payload []byte, ways []mqtt.Route) ([]mqtt.Route, error) {
	if a, ok := r.replies.find(topic); ok {
		return r.answer(&a, topic, payload, ways)
	}
	ways, err := r.ways(topic, payload, ways)
	if r.edge != nil && err == nil && sparkplug.Owns(topic) {
		r.edge.mark(topic, payload, ways)
	}
	return ways, err
}

func (r *Router) answer(a *answer, topic, payload []byte, ways []mqtt.Route) ([]mqtt.Route, error) {
	ways, done := r.replies.route(a, topic, ways)
	if !done {
		var err error
		if ways, err = r.ways(topic, payload, ways); err != nil {
			return ways, err
		}
	}
	r.replies.mark(a, topic, ways)
	return ways, nil
}

// Topics lists the Kafka topics that need no capture; it implements mqtt.Router.
func (r *Router) Topics() []string {
	names := []string{DefaultTopic}
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, rt := range *r.routes.Load() {
		add(rt.fixed)
	}
	for _, d := range r.downlinks {
		if d.reply != nil {
			add(d.reply.topic)
		}
	}
	return names
}

// Past makes a downlink of an earlier configuration; it implements mqtt.Router. Answers to
// its records are still matched.
func (r *Router) Past(spec string) (*mqtt.Downlink, error) {
	for _, d := range r.downlinks {
		if d.mqtt.Spec == spec {
			return &d.mqtt, nil
		}
	}
	var of Downlink
	if err := json.Unmarshal([]byte(spec), &of); err != nil {
		return nil, err
	}
	d, err := newDownlink(of)
	if err != nil {
		return nil, err
	}
	r.replies.retire(d.reply)
	return &d.mqtt, nil
}

// Downlinks lists the downlink routes; it implements mqtt.Router.
func (r *Router) Downlinks() []*mqtt.Downlink {
	out := make([]*mqtt.Downlink, len(r.downlinks))
	for i, d := range r.downlinks {
		out[i] = &d.mqtt
	}
	return out
}
