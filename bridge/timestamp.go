package bridge

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// maxTimestamp is the end of the year 9999 in ms: a later time is a number of another unit.
const maxTimestamp = 253_402_300_799_999

// timestamp finds a message's time in its payload.
type timestamp struct {
	path string  // in gjson's form; "": the time is that of arrival
	unit float64 // ms of one unit of a number
}

// units are the units of numbers, in ms.
var units = map[string]float64{"": 1, "ms": 1, "s": 1e3, "us": 1e-3, "ns": 1e-6}

// newTimestamp reads a JSON pointer (RFC 6901) and a unit.
func newTimestamp(pointer, unit string) (ts timestamp, err error) {
	var ok bool
	if ts.unit, ok = units[unit]; !ok {
		return ts, fmt.Errorf("timestamp_unit is %q, it must be s, ms, us or ns", unit)
	}
	if pointer == "" {
		if unit != "" {
			return ts, fmt.Errorf("timestamp_unit without timestamp; say where in the payload the time is, such as /ts")
		}
		return ts, nil
	}
	if !strings.HasPrefix(pointer, "/") || strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(pointer), "~") {
		return ts, fmt.Errorf("timestamp %q is no JSON pointer such as /ts or /meta/time", pointer)
	}
	var parts []string
	for part := range strings.SplitSeq(pointer[1:], "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		parts = append(parts, escape(part))
	}
	ts.path = strings.Join(parts, ".")
	return ts, nil
}

// escape has gjson take a name as it is: what it gives a meaning to is escaped.
func escape(name string) string {
	var b strings.Builder
	for _, c := range name {
		if strings.ContainsRune(`.*?|#@\!{}[]()=<>%"+-~^`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// of returns the time in a payload, in ms; ok is false where there is none.
func (ts *timestamp) of(payload []byte) (ms int64, ok bool) {
	v := gjson.GetBytes(payload, ts.path)
	switch v.Type {
	case gjson.Number:
		n := math.Round(v.Num * ts.unit)
		if ts.unit == 1 && v.Num == math.Trunc(v.Num) {
			n = v.Num
		}
		return int64(n), n > 0 && n <= maxTimestamp
	case gjson.String:
		t, err := time.Parse(time.RFC3339Nano, v.Str)
		return t.UnixMilli(), err == nil && t.UnixMilli() > 0
	}
	return 0, false
}
