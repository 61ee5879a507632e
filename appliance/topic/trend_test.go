package topic

import (
	"testing"
	"time"
)

func TestForecastOfSteadyGrowth(t *testing.T) {
	now := time.Unix(1000, 0)
	var tr trend
	if tr.until(1<<30) != -1 {
		t.Error("a forecast without an observation")
	}
	const rate = 10_000 // bytes per second
	for n := range int64(31) {
		tr.observe(now.Add(time.Duration(n)*trendInterval), n*10*rate)
		if d := time.Duration(n) * trendInterval; d < trendMin && tr.until(1<<30) != -1 {
			t.Errorf("a forecast after %v", d)
		}
	}
	// 31 h at this rate.
	if d := tr.until(31 * 3600 * rate); d < 31*time.Hour-time.Minute || d > 31*time.Hour+time.Minute {
		t.Errorf("no room in %v, want 31 h", d)
	}
	if d := tr.until(-5); d != 0 {
		t.Errorf("no room in %v when it is full", d)
	}
	if d := tr.until(unlimited); d != -1 {
		t.Errorf("no room in %v without a limit", d)
	}
}

// A burst is forgotten, and what shrinks or stands still is never full.
func TestForecastFollowsTheLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	var tr trend
	value := int64(0)
	run := func(d time.Duration, rate int64) {
		for range int(d / trendInterval) {
			now, value = now.Add(trendInterval), value+rate*int64(trendInterval/time.Second)
			tr.observe(now, value)
		}
	}
	run(time.Hour, 1_000_000)
	fast := tr.until(1 << 40)
	run(5*time.Minute, 0)
	if slower := tr.until(1 << 40); slower <= fast {
		t.Errorf("no room in %v under load, in %v after five idle minutes", fast, slower)
	}
	run(24*time.Hour, 0)
	if d := tr.until(1 << 40); d != -1 {
		t.Errorf("no room in %v after an idle day", d)
	}
	run(time.Hour, -1000)
	if d := tr.until(1 << 40); d != -1 {
		t.Errorf("no room in %v while it shrinks", d)
	}
	run(2*time.Hour, 1000)
	if d := tr.until(3600 * 1000); d < 50*time.Minute || d > 70*time.Minute {
		t.Errorf("no room in %v, want an hour", d)
	}
}

func TestForecastInWords(t *testing.T) {
	for want, st := range map[string]DiskStatus{
		"no room in 31 h at this rate; topic mqtt loses data first": {LosesFirst: "mqtt", FullInSeconds: 31 * 3600},
		"no room in 90 min at this rate; then appends are refused":  {FullInSeconds: 90 * 60},
		"no room in 12 days at this rate; then appends are refused": {FullInSeconds: 12 * 24 * 3600},
		"not filling up": {FullInSeconds: -1, LosesFirst: "mqtt"},
		"the disk is full: appends are refused until there is room":       {FullInSeconds: 5, Refusing: true},
		"data.budget is used up: appends are refused until there is room": {FullInSeconds: 5, Refusing: true, OverBudget: true},
	} {
		if got := st.forecast(time.Duration(st.FullInSeconds) * time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
