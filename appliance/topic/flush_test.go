package topic

import (
	"testing"
	"time"
)

func TestFlushConfigs(t *testing.T) {
	type configs = map[string]string
	for name, c := range map[string]struct {
		set, byDefault configs
		internal       bool
		messages       int64
		after          time.Duration
	}{
		"nothing set":                   {nil, nil, false, 1, time.Second},
		"messages":                      {configs{"flush.messages": "1000"}, nil, false, 1000, time.Second},
		"both":                          {configs{"flush.messages": "10", "flush.ms": "50"}, nil, false, 10, 50 * time.Millisecond},
		"a time alone relaxes nothing":  {configs{"flush.ms": "50"}, nil, false, 1, 50 * time.Millisecond},
		"no time is no delay":           {configs{"flush.messages": "10", "flush.ms": "0"}, nil, false, 1, 0},
		"Kafka's default has a bound":   {configs{"flush.messages": "9223372036854775807", "flush.ms": "9223372036854775807"}, nil, false, 1<<63 - 1, time.Minute},
		"the profile's default":         {nil, configs{"flush.messages": "100", "flush.ms": "500"}, false, 100, 500 * time.Millisecond},
		"a topic strict in spite of it": {configs{"flush.messages": "1"}, configs{"flush.messages": "100"}, false, 1, time.Second},
		"an internal topic, by default": {nil, configs{"flush.messages": "100"}, true, 1, time.Second},
		"an internal topic, though set": {configs{"flush.messages": "100"}, nil, true, 1, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cs := range []configs{c.set, c.byDefault} {
				if err := CheckConfigs(cs); err != nil {
					t.Fatal(err)
				}
			}
			s := resolve(c.set, c.byDefault, c.internal)
			if s.config.flushMessages != c.messages || s.config.flushAfter != c.after || s.config.relaxed() != (c.messages > 1) {
				t.Errorf("flush.messages %d, flush.ms %v, relaxed %v; want %d, %v", s.config.flushMessages, s.config.flushAfter, s.config.relaxed(), c.messages, c.after)
			}
			if c.internal && s.values["flush.messages"] != "1" {
				t.Errorf("an internal topic shows flush.messages=%s", s.values["flush.messages"])
			}
		})
	}
	for _, bad := range []configs{{"flush.messages": "0"}, {"flush.messages": "-1"}, {"flush.ms": "-1"}, {"flush.ms": "soon"}} {
		if CheckConfigs(bad) == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
