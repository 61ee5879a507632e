package quota_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/quota"
)

var start = time.Unix(1_800_000_000, 0)

// memory is a store that a test can open twice.
type memory map[string][]byte

func (m memory) All() (map[string][]byte, error) { return maps.Clone(m), nil }
func (m memory) Put(key string, v []byte) error  { m[key] = v; return nil }
func (m memory) Delete(key string) error         { delete(m, key); return nil }

func open(t testing.TB, o quota.Options) *quota.Quotas {
	t.Helper()
	q, err := quota.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func set(t testing.TB, q *quota.Quotas, e quota.Entity, kind quota.Kind, v float64) {
	t.Helper()
	if err := q.Alter(e, []quota.Change{{Kind: kind, Value: v}}, false); err != nil {
		t.Fatal(err)
	}
}

func TestChargeThrottlesWhatIsBeyond(t *testing.T) {
	q := open(t, quota.Options{Window: 10 * time.Second})
	c := quota.Client{ID: "c"}
	if got := q.Charge(c, quota.ProduceBytes, 1e12, start); got != 0 {
		t.Errorf("without a quota: %v", got)
	}
	set(t, q, quota.Entity{ClientID: quota.Named("c")}, quota.ProduceBytes, 100)
	for _, step := range []struct {
		at   time.Duration
		n    float64
		want time.Duration
	}{
		{0, 1000, 0},                    // a window's worth at once
		{0, 50, 500 * time.Millisecond}, // and nothing more
		{500 * time.Millisecond, 100, time.Second},
		{1500 * time.Millisecond, 0, 0},
		{time.Minute, 1000, 0}, // full again, but not more than full
		{time.Minute, 1_000_000, quota.MaxThrottle},
		{2 * time.Minute, 1, quota.MaxThrottle}, // the rest stays owed
	} {
		if got := q.Charge(c, quota.ProduceBytes, step.n, start.Add(step.at)); got != step.want {
			t.Errorf("%v: %v of 100/s: %v, want %v", step.at, step.n, got, step.want)
		}
	}
	if got := q.Charge(c, quota.FetchBytes, 1e12, start); got != 0 {
		t.Errorf("a quota of another kind: %v", got)
	}
	set(t, q, quota.Entity{ClientID: quota.DefaultName}, quota.RequestTime, 50)
	if got := q.Charge(c, quota.RequestTime, 6, start); got != 2*time.Second {
		t.Errorf("6 s of handling at 50%%: %v, want 2s", got)
	}
}

// Kafka's order of precedence, and who shares what with whom.
func TestPrecedence(t *testing.T) {
	u, c, d, none := quota.Named("u"), quota.Named("c"), quota.DefaultName, quota.Name{}
	order := []quota.Entity{
		{User: u, ClientID: c}, {User: u, ClientID: d}, {User: u, ClientID: none}, {User: d, ClientID: c},
		{User: d, ClientID: d}, {User: d, ClientID: none}, {ClientID: c}, {ClientID: d},
	}
	q := open(t, quota.Options{Window: time.Second})
	for i := len(order) - 1; i >= 0; i-- {
		set(t, q, order[i], quota.FetchBytes, float64(1000-i))
		if room, ok := q.Room(quota.Client{User: "u", ID: "c"}, quota.FetchBytes); !ok || room != 1000-i {
			t.Errorf("with the quota of %+v: %d, %v", order[i], room, ok)
		}
	}
	for _, tt := range []struct {
		name   string
		of     quota.Entity
		a, b   quota.Client
		shared bool
	}{
		{"a user's client ids", quota.Entity{User: u}, quota.Client{User: "u", ID: "1"}, quota.Client{User: "u", ID: "2"}, true},
		{"users by default", quota.Entity{User: d}, quota.Client{User: "u", ID: "1"}, quota.Client{User: "v", ID: "1"}, false},
		{"a client id's users", quota.Entity{ClientID: c}, quota.Client{User: "u", ID: "c"}, quota.Client{User: "v", ID: "c"}, true},
		{"client ids by default", quota.Entity{ClientID: d}, quota.Client{ID: "1"}, quota.Client{ID: "2"}, false},
		{"a user's client ids each", quota.Entity{User: u, ClientID: d}, quota.Client{User: "u", ID: "1"}, quota.Client{User: "u", ID: "2"}, false},
	} {
		q := open(t, quota.Options{Window: time.Second})
		set(t, q, tt.of, quota.FetchBytes, 100)
		q.Charge(tt.a, quota.FetchBytes, 100, start)
		if got := q.Charge(tt.b, quota.FetchBytes, 100, start) > 0; got != tt.shared {
			t.Errorf("%s: shared %v, want %v", tt.name, got, tt.shared)
		}
	}
}

func TestConnections(t *testing.T) {
	q := open(t, quota.Options{Window: time.Second})
	set(t, q, quota.Entity{IP: quota.DefaultName}, quota.Connections, 2)
	set(t, q, quota.Entity{IP: quota.Named("10.0.0.9")}, quota.Connections, 0.1)
	for _, step := range []struct {
		ip   string
		at   time.Duration
		want bool
	}{
		{"10.0.0.1", 0, true}, {"10.0.0.1", 0, true}, {"10.0.0.1", 0, false}, {"10.0.0.2", 0, true},
		{"10.0.0.1", 499 * time.Millisecond, false}, {"10.0.0.1", 500 * time.Millisecond, true},
		{"10.0.0.9", 0, true}, {"10.0.0.9", 9 * time.Second, false}, {"10.0.0.9", 10 * time.Second, true},
	} {
		if got := q.Connect(step.ip, start.Add(step.at)); got != step.want {
			t.Errorf("%s at %v: %v, want %v", step.ip, step.at, got, step.want)
		}
	}
}

func TestPace(t *testing.T) {
	p := quota.NewPace(10)
	var waits []time.Duration
	for range 12 {
		waits = append(waits, p.Take(start))
	}
	if waits[9] != 0 || waits[10] != 100*time.Millisecond || waits[11] != 200*time.Millisecond {
		t.Errorf("waits %v", waits)
	}
	if wait := p.Take(start.Add(time.Minute)); wait != 0 {
		t.Errorf("after a pause: %v", wait)
	}
	if wait := quota.NewPace(0).Take(start); wait != 0 {
		t.Errorf("no limit: %v", wait)
	}
}

func TestQuotasAreKept(t *testing.T) {
	store := memory{}
	q := open(t, quota.Options{Store: store})
	all := []quota.Entity{
		{User: quota.Named("u"), ClientID: quota.DefaultName}, {User: quota.Named("")}, {ClientID: quota.Named(`a"b`)}, {IP: quota.Named("::1")}, {IP: quota.DefaultName},
	}
	for _, e := range all {
		kind := quota.ProduceBytes
		if e.IP.Given {
			kind = quota.Connections
		}
		set(t, q, e, kind, 1.5)
	}
	again := open(t, quota.Options{Store: store})
	if got, want := fmt.Sprint(again.All()), fmt.Sprint(q.All()); got != want || len(again.All()) != len(all) {
		t.Errorf("opened again: %s, want %s", got, want)
	}
	if err := again.Alter(all[0], []quota.Change{{Kind: quota.ProduceBytes, Remove: true}}, false); err != nil {
		t.Fatal(err)
	}
	if got := open(t, quota.Options{Store: store}).All(); len(got) != len(all)-1 {
		t.Errorf("after a removal: %v", got)
	}
	store["{"] = []byte("{}")
	if _, err := quota.Open(quota.Options{Store: store}); err == nil {
		t.Error("what cannot be read is no error")
	}
}

func TestEntitiesAreShown(t *testing.T) {
	for want, e := range map[string]quota.Entity{
		"user=u client-id=<default>": {User: quota.Named("u"), ClientID: quota.DefaultName},
		"ip=10.0.0.1":                {IP: quota.Named("10.0.0.1")},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAlterChecks(t *testing.T) {
	q := open(t, quota.Options{MaxEntities: 1})
	user := quota.Entity{User: quota.Named("u")}
	for name, tt := range map[string]struct {
		e quota.Entity
		c quota.Change
	}{
		"nobody":          {quota.Entity{}, quota.Change{Value: 1}},
		"ip and user":     {quota.Entity{IP: quota.DefaultName, User: quota.DefaultName}, quota.Change{Value: 1}},
		"no ip":           {quota.Entity{IP: quota.Named("x")}, quota.Change{Kind: quota.Connections, Value: 1}},
		"bytes of an ip":  {quota.Entity{IP: quota.DefaultName}, quota.Change{Value: 1}},
		"user connecting": {user, quota.Change{Kind: quota.Connections, Value: 1}},
		"zero":            {user, quota.Change{}},
		"not a number":    {user, quota.Change{Value: math.NaN()}},
		"infinite":        {user, quota.Change{Value: math.Inf(1)}},
		"long name":       {quota.Entity{User: quota.Named(strings.Repeat("x", 256))}, quota.Change{Value: 1}},
	} {
		if err := q.Alter(tt.e, []quota.Change{tt.c}, false); !errors.Is(err, quota.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := q.Alter(user, []quota.Change{{Value: 1}}, true); err != nil || len(q.All()) != 0 {
		t.Errorf("validate only: %v, %v", err, q.All())
	}
	set(t, q, user, quota.ProduceBytes, 1)
	if err := q.Alter(quota.Entity{User: quota.Named("v")}, []quota.Change{{Value: 1}}, false); !errors.Is(err, quota.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	set(t, q, user, quota.FetchBytes, 1)
}

// Clients that invent names cost bounded memory, and none of it once they are idle.
func TestBucketsAreBounded(t *testing.T) {
	q := open(t, quota.Options{Window: time.Second})
	set(t, q, quota.Entity{ClientID: quota.DefaultName}, quota.ProduceBytes, 100)
	for i := range 2 * quota.DefaultMaxClients {
		q.Charge(quota.Client{ID: fmt.Sprint(i)}, quota.ProduceBytes, 1, start)
	}
	if n := q.Buckets(); n > quota.DefaultMaxClients+1 {
		t.Errorf("%d buckets, at most %d", n, quota.DefaultMaxClients+1)
	}
	if wait := q.Charge(quota.Client{ID: "yet another"}, quota.ProduceBytes, 1, start); wait == 0 {
		t.Error("who comes beyond the bound is not throttled with the others")
	}
	q.Charge(quota.Client{ID: "one more"}, quota.ProduceBytes, 1, start.Add(2*time.Minute))
	if n := q.Buckets(); n != 1 {
		t.Errorf("%d buckets after all were idle, want 1", n)
	}
}

func TestChargeDoesNotAllocate(t *testing.T) {
	q := open(t, quota.Options{})
	set(t, q, quota.Entity{User: quota.DefaultName, ClientID: quota.DefaultName}, quota.ProduceBytes, 100)
	c := quota.Client{User: "u", ID: "c"}
	if n := testing.AllocsPerRun(100, func() { q.Charge(c, quota.ProduceBytes, 1, start) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
