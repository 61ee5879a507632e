package upstream_test

import (
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/weirmq/weir/bridge/upstream"
)

func TestValidate(t *testing.T) {
	in := func(s ...upstream.Subscription) upstream.Options {
		return upstream.Options{Name: "plant", URL: "mqtt://10.0.0.1", In: s}
	}
	both := func(in, out upstream.Subscription) upstream.Options {
		return upstream.Options{Name: "plant", URL: "mqtt://10.0.0.1", In: []upstream.Subscription{in}, Out: []upstream.Subscription{out}}
	}
	for name, c := range map[string]struct {
		o    upstream.Options
		want string // of the error; empty: none
	}{
		"good":               {in(upstream.Subscription{Filter: "a/+/b", QoS: 1}), ""},
		"no name":            {upstream.Options{URL: "mqtt://h", In: []upstream.Subscription{{Filter: "#"}}}, `name ""`},
		"no direction":       {in(), "neither in nor out"},
		"no filter":          {in(upstream.Subscription{}), "empty filter"},
		"no such filter":     {in(upstream.Subscription{Filter: "a/#/b"}), "a/#/b"},
		"wildcard in prefix": {in(upstream.Subscription{Filter: "a", Local: "x/+/"}), `prefix "x/+/"`},
		"QoS 2":              {in(upstream.Subscription{Filter: "a", QoS: 2}), "qos is 2"},
		"scheme":             {upstream.Options{Name: "plant", URL: "http://h", In: []upstream.Subscription{{Filter: "#"}}}, "scheme must be"},
		"no host":            {upstream.Options{Name: "plant", URL: "mqtt://", In: []upstream.Subscription{{Filter: "#"}}}, "no host"},
		"user in url":        {upstream.Options{Name: "plant", URL: "mqtt://u:p@h", In: []upstream.Subscription{{Filter: "#"}}}, "their own keys"},
		"in flight":          {upstream.Options{Name: "plant", URL: "mqtt://h", MaxInFlight: -1, In: []upstream.Subscription{{Filter: "#"}}}, "max_inflight is -1"},
		"loop":               {both(upstream.Subscription{Filter: "a/#"}, upstream.Subscription{Filter: "+/b"}), "round for ever"},
		"loop at the parent": {both(upstream.Subscription{Filter: "a/#"}, upstream.Subscription{Filter: "a"}), "round for ever"},
		"apart":              {both(upstream.Subscription{Filter: "a/#"}, upstream.Subscription{Filter: "b/#"}), ""},
		"apart by prefix":    {both(upstream.Subscription{Filter: "#", Remote: "up/"}, upstream.Subscription{Filter: "#", Remote: "down/"}), ""},
		"apart by depth":     {both(upstream.Subscription{Filter: "a/+"}, upstream.Subscription{Filter: "a/+/c"}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.o.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("unexpected: %v", err)
			case c.want != "" && err == nil:
				t.Error("no error")
			case c.want != "" && !strings.Contains(err.Error(), c.want):
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

// A broker that does not answer is no error of Start, and Close ends the attempt.
func TestBrokerAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "mqtt://" + l.Addr().String()
	l.Close()
	link, err := upstream.Start(upstream.Options{Name: "away", Site: "s", URL: url, In: []upstream.Subscription{{Filter: "#", QoS: 1}},
		Local: func() (net.Conn, error) {
			t.Error("a local connection without a remote one")
			return nil, net.ErrClosed
		}})
	if err != nil {
		t.Fatal(err)
	}
	for link.Status().Error == "" {
		runtime.Gosched()
	}
	if st := link.Status(); st.State != upstream.Connecting || !strings.Contains(st.Error, url) {
		t.Errorf("%+v", st)
	}
	if err := link.Close(); err != nil {
		t.Fatal(err)
	}
}
