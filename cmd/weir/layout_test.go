package main

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestLayouts(t *testing.T) {
	r := &kgo.Record{Topic: "t", Partition: 3, Offset: 42, Timestamp: time.UnixMilli(1700000000123), Key: []byte("k"), Value: []byte("value"),
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}}
	none := &kgo.Record{}
	for _, c := range []struct {
		layout string
		r      *kgo.Record
		want   string
	}{
		{"text", r, "value\n"},
		{`%k=%v\n`, r, "k=value\n"},
		{`%t[%p]@%o %T %K/%V %S %s|%h|%%\t\x41\\`, r, "t[3]@42 1700000000123 1/5 5 value|a=1,b=2|%\tA\\"},
		{`%K %V|%k%v%h`, none, "-1 -1|"},
		{"json", r, `{"topic":"t","partition":3,"offset":42,"timestamp":"2023-11-14T22:13:20.123Z","key":"k","value":"value","headers":{"a":"1","b":"2"}}` + "\n"},
		{"json", &kgo.Record{Key: []byte{0xff}, Timestamp: time.UnixMilli(0)}, `{"topic":"","partition":0,"offset":0,"timestamp":"1970-01-01T00:00:00Z","key":null,"value":null,"key_base64":"/w=="}` + "\n"},
	} {
		print, err := newPrinter(c.layout)
		if err != nil {
			t.Errorf("%s: %v", c.layout, err)
		} else if got := string(print(nil, c.r)); got != c.want {
			t.Errorf("%s = %q, want %q", c.layout, got, c.want)
		}
	}
	for _, layout := range []string{"xml", "%", "%x", `%k\q`, `%k\`, `%k\xZZ`, `%v\x4`} {
		if _, err := newPrinter(layout); exitCode(err) != exitUsage || err == nil {
			t.Errorf("%s: %v, want an error", layout, err)
		}
	}
}

// What consume -f json prints, produce -f json reads.
func FuzzRecordJSON(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), "h", []byte("x"), false)
	f.Add([]byte{0xff}, []byte(nil), "<&>", []byte("y"), true)
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, bare bool) {
		r := &kgo.Record{Key: key, Value: value, Partition: 7, Timestamp: time.UnixMilli(1700000000000).UTC()}
		if !bare {
			r.Headers = []kgo.RecordHeader{{Key: name, Value: header}}
		}
		line := printRecordJSON(nil, r)
		got, err := (&produceCmd{Partition: -1}).parse(string(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if string(got.Key) != string(key) || (got.Key == nil) != (key == nil) || string(got.Value) != string(value) || (got.Value == nil) != (value == nil) ||
			got.Partition != 7 || !got.Timestamp.Equal(r.Timestamp) || len(got.Headers) != len(r.Headers) {
			t.Errorf("%s became %+v", line, got)
		}
	})
}

func FuzzParseLayout(f *testing.F) {
	f.Add(`%k %v\n`)
	f.Add(`%%\x00%`)
	f.Fuzz(func(t *testing.T, layout string) {
		if print, err := parseLayout(layout); err == nil {
			print(nil, &kgo.Record{})
		}
	})
}
