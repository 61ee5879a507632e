package membership_test

import (
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/mirror/membership"
)

const testTimeout = 30 * time.Second

var key = base64.StdEncoding.EncodeToString(make([]byte, 32))

func start(t *testing.T, site string, join ...string) *membership.Membership {
	t.Helper()
	m, err := membership.Start(membership.FastProbes(membership.Options{
		Site: site, Bind: "127.0.0.1:0", Join: join, Keys: []string{key}, Tags: map[string]string{"role": site + "-role"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// await polls until ok says yes.
func await(t *testing.T, m *membership.Membership, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not in time: %+v", what, m.Status())
		case <-tick.C:
		}
	}
}

func statuses(m *membership.Membership) string {
	var out []string
	for _, x := range m.Members() {
		out = append(out, x.Name+"="+string(x.Status))
	}
	return strings.Join(out, " ")
}

func TestThreeSitesSeeEachOtherAndOneFail(t *testing.T) {
	a := start(t, "a")
	await(t, a, "start", func() bool { return a.Addr() != "" })
	b, c := start(t, "b", a.Addr()), start(t, "c", a.Addr())
	for _, m := range []*membership.Membership{a, b, c} {
		await(t, m, "all alive", func() bool { return statuses(m) == "a=alive b=alive c=alive" })
	}
	if tag := a.Members()[1].Tags["role"]; tag != "b-role" {
		t.Fatalf("b's tag is %q", tag)
	}
	if err := c.Crash(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "c failed", func() bool { return statuses(a) == "a=alive b=alive c=failed" })
	await(t, a, "b's distance", func() bool { return a.Members()[1].RTTMs > 0 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b left", func() bool { return statuses(a) == "a=alive b=left c=failed" })
	last := a.Status().Events
	if n := len(last); n == 0 || last[n-1].Name != "b" || last[n-1].Status != membership.Left {
		t.Fatalf("events: %+v", last)
	}
}

// A site that boots before its network joins when the other end is there.
func TestJoinIsTriedUntilItWorks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	early := start(t, "early", addr)
	await(t, early, "a failed attempt", func() bool { return strings.Contains(early.Status().Problem, "join") })
	late, err := membership.Start(membership.FastProbes(membership.Options{Site: "late", Bind: addr, Keys: []string{key}}))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	await(t, early, "joined", func() bool { return statuses(early) == "early=alive late=alive" && early.Status().Problem == "" })
}

// Even a port that is taken is no reason not to boot.
func TestBindIsTriedUntilItWorks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, err := membership.Start(membership.Options{Site: "x", Bind: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	await(t, m, "a problem", func() bool { return strings.Contains(m.Status().Problem, "start") })
	if got := statuses(m); got != "x=none" {
		t.Fatalf("members: %s", got)
	}
	l.Close()
	await(t, m, "start", func() bool { return m.Addr() != "" })
}

func TestOptionsAreChecked(t *testing.T) {
	for _, test := range []struct {
		o    membership.Options
		want string
	}{
		{membership.Options{}, "site"},
		{membership.Options{Site: "a b"}, "site"},
		{membership.Options{Site: "a", Bind: "0.0.0.0:7946"}, "keys are required"},
		{membership.Options{Site: "a", Bind: "somewhere"}, "bind"},
		{membership.Options{Site: "a", Keys: []string{"c2hvcnQ="}}, "key 1"},
		{membership.Options{Site: "a", Tags: map[string]string{"x": strings.Repeat("y", 500)}}, "tags"},
	} {
		if err := test.o.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want one about %s", test.o, err, test.want)
		}
	}
	if err := (membership.Options{Site: "a", Bind: "0.0.0.0:7946", Keys: []string{key}}).Validate(); err != nil {
		t.Error(err)
	}
}
