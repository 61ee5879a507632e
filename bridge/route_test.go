package bridge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
)

func TestRoute(t *testing.T) {
	three := int32(3)
	r, err := bridge.NewRouter([]bridge.Route{
		{Filter: "debug/#", Drop: true},
		{Filter: "sensors/{site}/{device}/+", Topic: "telemetry", Key: "{site}.{device}", Headers: map[string]string{"site": "{site}", "all": "<{topic}>"}},
		{Filter: "+/state", Topic: "state", Partition: &three},
		{Filter: "by/{name}/{rest...}", Topic: "{name}-in", Key: "{rest}"},
		{Filter: "$weird/#", Topic: "weird"},
		{Filter: "exact", Topic: "exact", Key: "fixed"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ topic, want string }{
		{"debug", "drop"},
		{"debug/x/y", "drop"},
		{"sensors/n/d1/temp", "telemetry n.d1 -1 all=<sensors/n/d1/temp> site=n"},
		{"sensors/n/d1", "mqtt sensors/n/d1 -1"},
		{"sensors/n/d1/temp/x", "mqtt sensors/n/d1/temp/x -1"},
		{"a/state", "state a/state 3"},
		{"$a/state", "mqtt $a/state -1"},
		{"$weird", "weird $weird -1"},
		{"by/x y/", "x_y-in  -1"},
		{"by/x y/a/b", "x_y-in a/b -1"},
		{"by/x", "x-in  -1"},
		{"by/é/q", "refused"},
		{"by/__weir/q", "refused"},
		{"by/" + strings.Repeat("n", 247) + "/q", "refused"},
		{"exact", "exact fixed -1"},
		{"exactly", "mqtt exactly -1"},
		{"/", "mqtt / -1"},
	} {
		if got := waysText(t, r, c.topic); got != c.want {
			t.Errorf("%s: got %q, want %q", c.topic, got, c.want)
		}
	}
}

// waysText is where a message goes: "drop", "refused" or topic, key, partition and headers.
func waysText(t *testing.T, r *bridge.Router, topic string) string {
	t.Helper()
	ways, err := r.Route([]byte(topic), nil, nil)
	if err != nil {
		return "refused"
	}
	if len(ways) == 0 {
		return "drop"
	}
	var texts []string
	for i := range ways {
		w := &ways[i]
		texts = append(texts, fmt.Sprintf("%s %s %d", w.Topic, w.Key, w.Partition)+headerText(t, w))
	}
	return strings.Join(texts, ", ")
}

// A message goes on behind a route with continue, up to and with the first without.
func TestContinue(t *testing.T) {
	r, err := bridge.NewRouter([]bridge.Route{
		{Filter: "s/#", Topic: "archive", Key: "all", Continue: true},
		{Filter: "s/{site}/alarm", Topic: "alarms-{site}", Key: "{site}", Headers: map[string]string{"h": "{site}"}, Continue: true},
		{Filter: "s/debug/#", Drop: true},
		{Filter: "s/+/temp", Topic: "temp"},
		{Filter: "s/n/#", Topic: "north"},
		{Filter: "s/x/{name}", Topic: "{name}"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ topic, want string }{
		{"s/m/other", "archive all -1"}, // and not to the default topic
		{"s/m/temp", "archive all -1, temp s/m/temp -1"},
		{"s/n/temp", "archive all -1, temp s/n/temp -1"},
		{"s/n/alarm", "archive all -1, alarms-n n -1 h=n, north s/n/alarm -1"},
		{"s/debug/x", "archive all -1"},
		{"other", "mqtt other -1"},
		{"s/x/__a", "refused"}, // as a whole
	} {
		if got := waysText(t, r, c.topic); got != c.want {
			t.Errorf("%s: got %q, want %q", c.topic, got, c.want)
		}
	}
	all := slices.Repeat([]bridge.Route{{Filter: "#", Topic: "t", Continue: true}}, bridge.MaxWays)
	if err := r.Replace(all, nil); err != nil || strings.Count(waysText(t, r, "x"), ",") != bridge.MaxWays-1 {
		t.Error(err, waysText(t, r, "x"))
	}
	if err := r.Replace(append(all, bridge.Route{Filter: "y", Topic: "t"}), nil); err != nil || waysText(t, r, "y") != "refused" || waysText(t, r, "x") == "refused" {
		t.Error(err, waysText(t, r, "x"), waysText(t, r, "y"))
	}
}

// A record's time is its payload's, where the route says where that is, and it is there.
func TestTimestampOfThePayload(t *testing.T) {
	router := func(pointer, unit string) *bridge.Router {
		r, err := bridge.NewRouter([]bridge.Route{{Filter: "#", Topic: "t", Timestamp: pointer, TimestampUnit: unit}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		pointer, unit, payload string
		want                   int64 // 0: that of arrival
	}{
		{"", "", `{"ts":5}`, 0},
		{"/ts", "", `{"ts":1700000000123}`, 1700000000123},
		{"/ts", "ms", ` {"a":[1,{"ts":2}], "ts" : 1700000000123 }`, 1700000000123},
		{"/ts", "s", `{"ts":1700000000.5}`, 1700000000500},
		{"/ts", "us", `{"ts":1700000000123456}`, 1700000000123},
		{"/ts", "ns", `{"ts":1700000000123456789}`, 1700000000123},
		{"/ts", "", `{"ts":"2023-11-14T22:13:20.123Z"}`, 1700000000123},
		{"/ts", "", `{"ts":"2023-11-14T23:13:20.123+01:00"}`, 1700000000123},
		{"/m/at", "", `{"m":{"at":7}}`, 7},
		{"/readings/1/at", "", `{"readings":[{"at":7},{"at":8}]}`, 8},
		{"/a.b*/c~1d~0e", "", `{"a.b*":{"c/d~e":9}}`, 9},
		{"/@this", "", `{"@this":10}`, 10},
		{"/#", "", `{"#":11}`, 11},
		{"/ts", "", `{"ts":"yesterday"}`, 0},
		{"/ts", "", `{"ts":-1}`, 0},
		{"/ts", "", `{"ts":1e300}`, 0},
		{"/ts", "", `{"ts":null}`, 0},
		{"/ts", "", `{"ts":true}`, 0},
		{"/ts", "", `{}`, 0},
		{"/ts", "", `[1,2]`, 0},
		{"/ts", "", ``, 0},
		{"/ts", "", "\x00\xff", 0},
		{"/ts", "s", `{"ts":1700000000123}`, 0}, // the year 55,840: another unit is meant
	} {
		used := []mqtt.Route{{Timestamp: 99, Untimed: true}}
		ways, err := router(c.pointer, c.unit).Route([]byte("x"), []byte(c.payload), used[:0])
		if err != nil {
			t.Fatal(err)
		}
		out := ways[0]
		if out.Timestamp != c.want || out.Untimed != (c.pointer != "" && c.want == 0) {
			t.Errorf("%s %s of %q: %d, untimed %v; want %d", c.pointer, c.unit, c.payload, out.Timestamp, out.Untimed, c.want)
		}
	}
	for _, c := range [][2]string{{"ts", ""}, {"/ts", "h"}, {"", "s"}, {"/a~2", ""}} {
		if _, err := bridge.NewRouter([]bridge.Route{{Filter: "#", Topic: "t", Timestamp: c[0], TimestampUnit: c[1]}}, nil); err == nil {
			t.Errorf("timestamp %q in %q is accepted", c[0], c[1])
		}
	}
}

// Whatever a device sends, there is a time of sense or none.
func TestTimestampOfAnyPayload(t *testing.T) {
	r, err := bridge.NewRouter([]bridge.Route{{Filter: "#", Topic: "t", Timestamp: "/a/0/ts"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	whole := []byte(`{"b":[{},"x\\\"y",1e9],"a":[{"ts":1700000000123},{"ts":"2023-11-14T22:13:20Z"}]}`)
	for range 20_000 {
		payload := slices.Clone(whole[:rnd.IntN(len(whole)+1)])
		for range rnd.IntN(4) {
			if len(payload) > 0 {
				payload[rnd.IntN(len(payload))] = byte(rnd.IntN(256))
			}
		}
		ways, err := r.Route([]byte("x"), payload, nil)
		if err != nil || ways[0].Timestamp < 0 || ways[0].Untimed == (ways[0].Timestamp != 0) {
			t.Fatalf("%q: %+v, %v", payload, ways, err)
		}
	}
}

// Routes are replaced while messages come; a mistake leaves those there are.
func TestReplace(t *testing.T) {
	r, err := bridge.NewRouter([]bridge.Route{{Filter: "#", Topic: "before"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	topic := func() string {
		ways, err := r.Route([]byte("x"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ways[0].Topic
	}
	if err := r.Replace([]bridge.Route{{Filter: "#", Topic: "not/valid"}}, nil); err == nil || topic() != "before" {
		t.Errorf("after routes that cannot be: %v, messages go to %s", err, topic())
	}
	if err := r.Replace([]bridge.Route{{Filter: "#", Topic: "after"}}, nil); err != nil || topic() != "after" {
		t.Errorf("%v, messages go to %s", err, topic())
	}
}

// headerText reads short headers as AppendHeader writes them.
func headerText(t *testing.T, r *mqtt.Route) (s string) {
	t.Helper()
	rest := r.Headers
	for range r.Count {
		k := int(rest[0] / 2)
		v := int(rest[1+k] / 2)
		s += fmt.Sprintf(" %s=%s", rest[1:1+k], rest[2+k:2+k+v])
		rest = rest[2+k+v:]
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes after the headers", len(rest))
	}
	return s
}

func TestRouteAllocatesNothing(t *testing.T) {
	r, err := bridge.NewRouter([]bridge.Route{
		{Filter: "a/{x}/+", Topic: "fixed", Key: "{x}", Headers: map[string]string{"h": "text"}},
		{Filter: "b/{x}/#", Topic: "t-{x}", Key: "{topic}", Continue: true},
		{Filter: "b/#", Topic: "all"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ways []mqtt.Route
	topics := [][]byte{[]byte("a/1/2"), []byte("b/1/2/3"), []byte("c/d")}
	if n := testing.AllocsPerRun(100, func() {
		for _, topic := range topics {
			if ways, err = r.Route(topic, nil, ways[:0]); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A key of captures that are empty is empty, not null, whatever memory it is made in.
func TestEmptyKeyIsAKey(t *testing.T) {
	r, err := bridge.NewRouter([]bridge.Route{{Filter: "a/{rest...}", Topic: "t", Key: "{rest}"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ways, err := r.Route([]byte("a"), nil, nil)
	if err != nil || len(ways) != 1 || ways[0].Key == nil || len(ways[0].Key) > 0 {
		t.Errorf("%+v, %v", ways, err)
	}
}

func TestRefusedAtLoad(t *testing.T) {
	minus := int32(-1)
	for _, c := range []struct {
		route bridge.Route
		want  string
	}{
		{bridge.Route{Topic: "t"}, "filter is empty"},
		{bridge.Route{Filter: "a/#/b", Topic: "t"}, "must be the last level"},
		{bridge.Route{Filter: "a+", Topic: "t"}, "whole level"},
		{bridge.Route{Filter: "a{x}", Topic: "t"}, "whole level"},
		{bridge.Route{Filter: "{x", Topic: "t"}, "no closing brace"},
		{bridge.Route{Filter: "{}", Topic: "t"}, "needs a name"},
		{bridge.Route{Filter: "{topic}", Topic: "t"}, "other than topic"},
		{bridge.Route{Filter: "{x}/{x}", Topic: "t"}, "occurs twice"},
		{bridge.Route{Filter: "{x...}/b", Topic: "t"}, "must be the last level"},
		{bridge.Route{Filter: "a"}, "no valid Kafka topic name"},
		{bridge.Route{Filter: "a", Topic: "a/b"}, "no valid Kafka topic name"},
		{bridge.Route{Filter: "a", Topic: "__weir_gaps"}, "no valid Kafka topic name"},
		{bridge.Route{Filter: "a", Topic: "t-{x}"}, "{x} is not known"},
		{bridge.Route{Filter: "{x}", Topic: "t-{x"}, "no closing brace"},
		{bridge.Route{Filter: "{x}", Topic: "t", Key: "}"}, "closing brace"},
		{bridge.Route{Filter: "{x}", Topic: "t", Headers: map[string]string{"mqtt.topic": ""}}, "bridge's own"},
		{bridge.Route{Filter: "{x}", Topic: "t", Partition: &minus}, "0 or more"},
		{bridge.Route{Filter: "{x}", Topic: "t", Drop: true}, "both drop and topic"},
		{bridge.Route{Filter: "{x}", Drop: true, Continue: true}, "both drop and continue"},
		{bridge.Route{Filter: strings.Repeat("{a}/", 1) + "{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}", Topic: "t"}, "17 captures"},
	} {
		_, err := bridge.NewRouter([]bridge.Route{c.route}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "routes[0]") {
			t.Errorf("%+v: got %v, want %s", c.route, err, c.want)
		}
	}
	for _, c := range []struct {
		d    []bridge.Downlink
		want string
	}{
		{[]bridge.Downlink{{Topic: "a b", To: "x"}}, "no valid Kafka topic"},
		{[]bridge.Downlink{{Topic: "a"}}, "has no \"to\""},
		{[]bridge.Downlink{{Topic: "a", To: "x/#"}}, "wildcard"},
		{[]bridge.Downlink{{Topic: "a", To: "x/{nobody}"}}, "not known"},
		{[]bridge.Downlink{{Topic: "a", To: "x/{key"}}, "closing brace"},
		{[]bridge.Downlink{{Topic: "a", To: "x", QoS: 3}}, "qos is 3"},
		{[]bridge.Downlink{{Topic: "a", To: "x"}, {Topic: "a", To: "y"}}, "second downlink"},
	} {
		if _, err := bridge.NewRouter(nil, c.d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.d, err, c.want)
		}
	}
}

// Whatever filter and template an operator writes, a route that loads gives a
// message a name that Kafka allows, or refuses it.
func FuzzRoute(f *testing.F) {
	f.Add("a/{x}/+", "t-{x}", "{x}", "a/b/c")
	f.Add("{x...}", "{x}", "{topic}", "a//")
	f.Add("+/#", "t", "k", "$SYS/x")
	f.Fuzz(func(t *testing.T, filter, to, key, topic string) {
		r, err := bridge.NewRouter([]bridge.Route{{Filter: filter, Topic: to, Key: key}}, nil)
		if err != nil {
			return
		}
		ways, err := r.Route([]byte(topic), nil, nil)
		if err != nil {
			return
		}
		out := ways[0]
		if len(out.Topic) == 0 || len(out.Topic) > 249 || strings.HasPrefix(out.Topic, "__") ||
			strings.Trim(out.Topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("Kafka topic %q", out.Topic)
		}
	})
}
