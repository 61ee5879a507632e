package plugins_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

func TestTelemetry(t *testing.T) {
	b := newBox(t, nil)
	b.topic("mqtt", 1)
	h := b.host(nil)
	deploy(t, h, telemetryModule(t))
	good := map[string]string{
		`{"device":"pump-017","seq":123,"ts":1763800000000,"temp_f":71.3,"pressure_inhg":29.92,"wind_mph":5.1}`: `{"device":"pump-017","seq":123,"ts":1763800000000,"temp_c":21.83,"pressure_hpa":1013.21,"wind_mps":2.28}`,
		` { "temp_f" : -40 , "device" : "d" } `:                     `{"device":"d","temp_c":-40.00}`,
		`{"device":"a\u00e9\"\\","wind_mph":0,"more":[{"x":null}]}`: `{"device":"aé\"\\","wind_mps":0.00}`,
		`{"device":"d","seq":7}`:                                    `{"device":"d","seq":7}`,
	}
	bad := map[string]string{
		``:                                    "not an object",
		`hello`:                               "not an object",
		`{"device":"d"`:                       "want a comma or the end",
		`{"device":"d"} x`:                    "something follows",
		`{"seq":1}`:                           "device: missing",
		`{"device":17}`:                       "device: want a string",
		`{"device":""}`:                       "device: missing",
		`{"device":"d","seq":-1}`:             "seq: \"-1\" is not a whole number",
		`{"device":"d","temp_f":"hot"}`:       "temp_f: \"\\\"hot\\\"\" is not a number",
		`{"device":"d","temp_f":999}`:         "temp_f: 999 is not from -130 to 160",
		`{"device":"d","pressure_inhg":1e99}`: "pressure_inhg: 1e+99 is not from 20 to 35",
		`{"device":"` + strings.Repeat("x", 129) + `"}`: "1 to 128 bytes",
	}
	var in []string
	for v := range good {
		in = append(in, v)
	}
	for v := range bad {
		in = append(in, v)
	}
	b.produce(partition("mqtt", 0), record.LZ4, in...)
	sources := b.read(partition("mqtt", 0), len(in))
	for _, r := range b.read(partition("telemetry", 0), len(good)) {
		n, _ := r.Header("n")
		var i int
		fmt.Sscan(string(n), &i)
		if want := good[string(sources[i].Value)]; string(r.Value) != want {
			t.Errorf("%s became\n%s, want\n%s", sources[i].Value, r.Value, want)
		}
		if r.Timestamp != sources[i].Timestamp || !strings.HasPrefix(string(r.Value), `{"device":"`+string(r.Key[:1])) {
			t.Errorf("record %+v", r)
		}
	}
	for _, r := range b.read(partition("__weir_dead_letter.telemetry", 0), len(bad)) {
		cause, _ := r.Header("weir.error")
		if want := bad[string(r.Value)]; !strings.Contains(string(cause), want) {
			t.Errorf("%s: cause %q, want %q", r.Value, cause, want)
		}
	}
	if c := h.List()[0].Counts; c.Failures != 0 || c.Starts != 2 {
		t.Errorf("bad records cost instances: %+v", c)
	}
}
