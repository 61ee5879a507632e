package main

import (
	"testing"
	"time"
)

func TestParsePosition(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, zone)
	for text, want := range map[string]position{
		"start":                {kind: atStart},
		"earliest":             {kind: atStart},
		"end":                  {kind: atEnd},
		"0":                    {atOffset, 0},
		"1000":                 {atOffset, 1000},
		"-3":                   {beforeEnd, 3},
		"-90m":                 {atTime, now.Add(-90 * time.Minute).UnixMilli()},
		"-2d":                  {atTime, now.Add(-48 * time.Hour).UnixMilli()},
		"2026-01-30":           {atTime, time.Date(2026, 1, 30, 0, 0, 0, 0, zone).UnixMilli()},
		"2026-01-30T10:00:00":  {atTime, time.Date(2026, 1, 30, 10, 0, 0, 0, zone).UnixMilli()},
		"2026-01-30 10:00:00":  {atTime, time.Date(2026, 1, 30, 10, 0, 0, 0, zone).UnixMilli()},
		"2026-01-30T10:00:00Z": {atTime, time.Date(2026, 1, 30, 10, 0, 0, 0, time.UTC).UnixMilli()},
	} {
		got, err := parsePosition("--from", text, now)
		if err != nil || got != want {
			t.Errorf("%s = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "1h", "--1h", "-d", "-1.5d", "-", "2026-13-01", "99999999999999999999"} {
		if got, err := parsePosition("--from", text, now); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%q = %+v, %v; want an error", text, got, err)
		}
	}
}

func TestPositionWithin(t *testing.T) {
	for _, c := range []struct {
		p    position
		want int64
	}{
		{position{kind: atStart}, 10}, {position{kind: atEnd}, 20}, {position{atOffset, 15}, 15}, {position{atOffset, 5}, 10}, {position{atOffset, 25}, 20},
		{position{beforeEnd, 3}, 17}, {position{beforeEnd, 100}, 10},
	} {
		if got := c.p.within(10, 20); got != c.want {
			t.Errorf("%+v within 10 to 20 = %d, want %d", c.p, got, c.want)
		}
	}
}
