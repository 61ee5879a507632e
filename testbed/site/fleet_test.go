package site_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/site"
)

// Two sites find each other, and `weir fleet members` of either names both, also
// after one has left.
func TestSitesFindEachOther(t *testing.T) {
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("needs bin/weir: make e2e runs this test")
	}
	host := site.LoopbackHost()
	start := func(name, join string) *site.Site {
		t.Helper()
		config := fmt.Sprintf("site: %s\nfleet:\n  bind: %s:0\n  join: [%s]\n", name, host, join)
		s, err := site.Start(t.Context(), site.Options{Dir: t.TempDir() + "/data", Host: host, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		return s
	}
	edge := start("edge", "")
	core := start("core", gossipOf(t, edge))
	wantMembers(t, edge, map[string]string{"edge": "alive", "core": "alive"})
	wantMembers(t, core, map[string]string{"edge": "alive", "core": "alive"})
	stop(t, core)
	wantMembers(t, edge, map[string]string{"edge": "alive", "core": "left"})
	stop(t, edge)
}

// gossipOf is where a site gossips.
func gossipOf(t *testing.T, s *site.Site) string {
	t.Helper()
	_, body, err := s.Get(t.Context(), "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	var st struct {
		Addresses map[string]string `json:"addresses"`
	}
	if err := json.Unmarshal(body, &st); err != nil || st.Addresses["fleet"] == "" {
		t.Fatalf("no fleet address: %v %.200s", err, body)
	}
	return st.Addresses["fleet"]
}

// wantMembers asks the command until it says what is wanted; gossip takes its time.
func wantMembers(t *testing.T, s *site.Site, want map[string]string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		out, err := s.Command(t.Context(), "fleet", "members", "--json", "--http", s.Addresses().HTTP)
		var members []struct{ Name, State string }
		if err == nil {
			err = json.Unmarshal(out, &members)
		}
		got := map[string]string{}
		for _, m := range members {
			got[m.Name] = m.State
		}
		if err == nil && fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("members %v, %v; want %v\n%s", got, err, want, out)
		}
	}
}
