package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins"
	"github.com/weirmq/weir/plugins/transform"
)

func TestIdentity(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	h := b.host(nil)
	deploy(t, h, module(t, "identity", "same", nil))
	n := 0
	for i, codec := range []record.Codec{record.None, record.LZ4, record.Zstd, record.Snappy, record.Gzip, record.None} {
		for range 40 {
			b.produce(partition("in", 0), codec, fmt.Sprint("a", i), "", strings.Repeat("x", 300))
			n += 3
		}
	}
	in, out := b.read(partition("in", 0), n), b.read(partition("out", 0), n)
	if len(out) != len(in) {
		t.Fatalf("%d records in, %d out", len(in), len(out))
	}
	for i := range in {
		a, b := in[i], out[i]
		if a.Offset != b.Offset || a.Timestamp != b.Timestamp || string(a.Key) != string(b.Key) || string(a.Value) != string(b.Value) || string(a.HeaderBlock) != string(b.HeaderBlock) {
			t.Fatalf("record %d: in %+v, out %+v", i, a, b)
		}
	}
	b.wait("all is committed", func() bool { return h.List()[0].Tasks[0].Position == int64(n) })
	if i := h.List()[0]; i.State != "running" || i.Counts.In != int64(n) || i.Counts.Out != int64(n) || i.Tasks[0].Lag != 0 {
		t.Errorf("info: %+v", i)
	}
	var w metric.Writer
	h.Metrics(&w)
	if want := fmt.Sprintf("weir_plugin_records_out_total{plugin=\"same\"} %d\n", n); !strings.Contains(string(w.Bytes()), want) {
		t.Errorf("metrics without %s:\n%s", want, w.Bytes())
	}
}

// Every way to misbehave costs the record at fault and nothing else: not the
// others of its batch, not another plugin.
func TestHostileGuests(t *testing.T) {
	for _, interpret := range []bool{false, true} {
		t.Run(fmt.Sprintf("interpret=%v", interpret), func(t *testing.T) { testHostileGuests(t, interpret) })
	}
}

func testHostileGuests(t *testing.T, interpret bool) {
	causes := map[string]string{
		"L": "time limit exceeded: 20ms", "T": "unreachable",
		"R": "", "G": "", "S": "", // out of stack or memory, or of time, whatever comes first
		"M": "time limit exceeded", "H": "time limit exceeded", "W": "time limit exceeded", "Q": "called exit(3)",
		"P": "a value is not inside", "N": "a length is below -1", "K": "a key is not inside", "C": "more records than",
		"F": "not inside the guest's memory", "V": "another version", "I": "source 2147483648", "U": "unknown flags",
		"Z": "topic 65535 of 1 outputs", "B": "not a block of Kafka headers", "O": "more output than", "E": "the record wants an error", "X": "X-rejected",
	}
	b := newBox(t, nil)
	b.topic("in", 1)
	h := b.host(func(o *plugins.Options) { o.Interpret = interpret; o.BreakAfter = 1000 })
	limits := func(m *plugins.Manifest) { m.Limits = plugins.Limits{MemoryBytes: 4 << 20, CallMs: 20} }
	deploy(t, h, module(t, "hostile", "hostile", limits))
	deploy(t, h, module(t, "identity", "same", func(m *plugins.Manifest) { m.Outputs = []string{"copy"}; m.Limits.CallMs = 10_000 }))
	good, all := 0, 0
	for c := range causes {
		b.produce(partition("in", 0), record.None, "a1", "a2", c+"-rejected", "a3")
		good, all = good+3, all+4
	}
	if got := b.read(partition("out", 0), good); values(got) != strings.TrimSpace(strings.Repeat("a1 a2 a3 ", len(causes))) {
		t.Errorf("hostile plugin's output: %s", values(got))
	}
	if got := b.read(partition("copy", 0), all); len(got) != all {
		t.Errorf("the other plugin copied %d of %d", len(got), all)
	}
	in := b.read(partition("in", 0), all)
	for _, r := range b.read(partition("__weir_dead_letter.hostile", 0), len(causes)) {
		cause, _ := r.Header("weir.error")
		if want := causes[string(r.Value[:1])]; !strings.Contains(string(cause), want) {
			t.Errorf("%s: cause %q, want %q", r.Value, cause, want)
		}
		from, _ := r.Header("weir.source.offset")
		var offset int
		fmt.Sscan(string(from), &offset)
		if source := in[offset]; string(source.Value) != string(r.Value) || string(source.Key) != string(r.Key) || source.Timestamp != r.Timestamp {
			t.Errorf("dead letter %+v is not input %+v", r, source)
		}
		if topic, _ := r.Header("weir.source.topic"); string(topic) != "in" {
			t.Errorf("source topic %q", topic)
		}
		if n, ok := r.Header("n"); !ok || string(n) != "2" {
			t.Errorf("%s: the record's own headers are lost: %+v", r.Value, r.Headers)
		}
		delete(causes, string(r.Value[:1]))
	}
	if len(causes) != 0 {
		t.Errorf("no dead letters for %v", causes)
	}
}

// While a guest loops, the garbage collector must not wait for it.
func TestLoopDoesNotStopTheCollector(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	h := b.host(nil)
	deploy(t, h, module(t, "hostile", "spin", func(m *plugins.Manifest) { m.Limits.CallMs = 1500 }))
	b.produce(partition("in", 0), record.None, "L")
	b.wait("the guest loops", func() bool { return h.List()[0].Counts.Starts > 0 })
	for range 5 {
		runtime.GC()
	}
	if c := h.List()[0].Counts; c.Calls != 0 {
		t.Errorf("the collector has waited for the guest's call: %+v", c)
	}
	b.read(partition("__weir_dead_letter.spin", 0), 1)
}

func TestPolicies(t *testing.T) {
	for _, bad := range []string{"T", "X"} {
		for _, policy := range []transform.Policy{transform.Skip, transform.Stop} {
			t.Run(string(policy)+" "+bad, func(t *testing.T) {
				b := newBox(t, nil)
				b.topic("in", 1)
				h := b.host(nil)
				deploy(t, h, module(t, "hostile", "p", func(m *plugins.Manifest) { m.OnFailure = policy }))
				b.produce(partition("in", 0), record.None, "a1", "a2", bad, "a3")
				if policy == transform.Skip {
					if got := values(b.read(partition("out", 0), 3)); got != "a1 a2 a3" {
						t.Errorf("output %s", got)
					}
					return
				}
				b.wait("it stops", func() bool { return h.List()[0].State == "stopped" })
				if got := values(b.read(partition("out", 0), 2)); got != "a1 a2" {
					t.Errorf("output %s", got)
				}
				if i := h.List()[0]; i.Tasks[0].Position != 2 || !strings.Contains(i.Error, "in-0 offset 2") {
					t.Errorf("info %+v", i)
				}
				// The operator mends the plugin; it goes on at the record.
				deploy(t, h, module(t, "identity", "p", func(m *plugins.Manifest) { m.Version = "1.0.1" }))
				if got := values(b.read(partition("out", 0), 4)); got != "a1 a2 "+bad+" a3" {
					t.Errorf("output %s", got)
				}
			})
		}
	}
}

// A plugin that fails on everything must not bury everything at full speed.
func TestBreaker(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	h := b.host(func(o *plugins.Options) { o.BreakAfter, o.MinBackoff, o.MaxBackoff = 5, time.Hour, time.Hour })
	deploy(t, h, module(t, "hostile", "broken", nil))
	for range 10 {
		b.produce(partition("in", 0), record.None, "T", "T", "T")
	}
	b.wait("it backs off", func() bool { return h.List()[0].State == "backing off" })
	if i := h.List()[0]; i.Tasks[0].Position != 5 || i.Counts.DeadLetters != 5 || !strings.Contains(i.Error, "too many records failed") {
		t.Errorf("info %+v", i)
	}
}

// With memory for one instance every partition still moves on.
func TestMemoryBudget(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 6)
	h := b.host(func(o *plugins.Options) {
		o.GuestMemoryBytes, o.MaxGuestMemoryBytes, o.TotalMemoryBytes = 4<<20, 4<<20, 5<<20
	})
	deploy(t, h, module(t, "identity", "same", nil))
	deploy(t, h, module(t, "identity", "other", func(m *plugins.Manifest) { m.Outputs = []string{"copy"} }))
	for n := range 20 {
		for p := range int32(6) {
			b.produce(partition("in", p), record.None, fmt.Sprint(n))
		}
	}
	b.wait("all is done", func() bool {
		l := h.List()
		return l[0].Counts.Out == 120 && l[1].Counts.Out == 120
	})
	if s := h.Status(); s.Instances > 1 || s.MemoryBytes > 5<<20 {
		t.Errorf("status %+v", s)
	}
}

func TestDeployRefuses(t *testing.T) {
	b := newBox(t, nil)
	h := b.host(func(o *plugins.Options) { o.MaxPlugins = 2; o.StartTime = 50 * time.Millisecond })
	deploy(t, h, module(t, "identity", "a", func(m *plugins.Manifest) { m.Inputs, m.Outputs = []string{"x"}, []string{"y"} }))
	fixture := func(name string) []byte { return module(t, name, "w", nil) }
	for name, c := range map[string]struct {
		module []byte
		want   string
	}{
		"no wasm":     {[]byte("hello"), "not a WebAssembly module"},
		"no manifest": {unpacked(t, "empty"), "weir plugin pack"},
		"cycle":       {module(t, "identity", "b", func(m *plugins.Manifest) { m.Inputs, m.Outputs = []string{"y"}, []string{"x"} }), "lead back to its input"},
		"memory":      {module(t, "identity", "b", func(m *plugins.Manifest) { m.Limits.MemoryBytes = 1 << 30 }), "this host allows 67108864"},
		"time":        {module(t, "identity", "b", func(m *plugins.Manifest) { m.Limits.CallMs = 1 << 40 }), "this host allows 10000"},
		"small":       {module(t, "hostile", "b", func(m *plugins.Manifest) { m.Limits.MemoryBytes = 1 << 16 }), "limit"},
		"imports":     {fixture("imports_env"), "env.open, which this host does not give"},
		"fuel":        {fixture("imports_fuel"), "the host's own"},
		"signature":   {fixture("imports_signature"), "another signature"},
		"exports":     {fixture("no_exports"), "does not export the function weir_abi"},
		"no memory":   {fixture("empty"), "export its memory"},
		"start loops": {fixture("start_loops"), "time limit exceeded"},
		"abi":         {fixture("abi_2"), "ABI 2.0"},
		"config":      {fixture("config_refused"), "refuses its configuration"},
	} {
		_, err := h.Deploy(context.Background(), c.module, plugins.Overrides{})
		if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if l := h.List(); len(l) != 1 || l[0].State != plugins.StateWaiting {
		t.Errorf("installed: %+v", l)
	}
	deploy(t, h, module(t, "identity", "b", nil))
	if _, err := h.Deploy(context.Background(), module(t, "identity", "c", nil), plugins.Overrides{}); err == nil || !strings.Contains(err.Error(), "the limit is 2") {
		t.Errorf("one plugin too many: %v", err)
	}
	if err := h.Remove("none"); !errors.Is(err, plugins.ErrUnknownPlugin) {
		t.Errorf("remove of nothing: %v", err)
	}
}

func TestOverridesRemoveAndRestart(t *testing.T) {
	b := newBox(t, nil)
	h := b.host(nil)
	o, err := plugins.ParseOverrides([]byte(`{"inputs":["from"],"outputs":["to"],"on_failure":"skip","limits":{"call_ms":77}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Deploy(context.Background(), module(t, "hostile", "p", nil), o); err != nil {
		t.Fatal(err)
	}
	b.topic("from", 2) // later than the plugin
	b.produce(partition("from", 1), record.None, "1", "X", "2")
	b.read(partition("to", 1), 0)
	b.wait("output", func() bool { return h.List()[0].Counts.Out == 2 })
	h.Close()

	h = b.host(nil)
	b.wait("it is loaded", func() bool { return h.List()[0].State == "running" })
	if i := h.List()[0]; i.Limits.CallMs != 77 || i.OnFailure != "skip" || i.Inputs[0] != "from" {
		t.Errorf("after a restart: %+v", i)
	}
	b.produce(partition("from", 1), record.None, "3")
	b.wait("output", func() bool { return h.List()[0].Counts.Out == 1 })
	if err := h.Remove("p"); err != nil {
		t.Fatal(err)
	}
	if names, _ := b.fs.List("plugins"); len(h.List()) != 0 || len(names) != 0 {
		t.Errorf("after removal: %v, files %v", h.List(), names)
	}
	b.produce(partition("from", 1), record.None, "4")
	if _, err := h.Deploy(context.Background(), module(t, "hostile", "p", nil), o); err != nil {
		t.Fatal(err)
	}
	b.wait("it goes on where it was", func() bool { return h.List()[0].Counts.Out == 1 })
}

func TestLogs(t *testing.T) {
	b := newBox(t, nil)
	b.topic("in", 1)
	h := b.host(nil)
	deploy(t, h, module(t, "hostile", "talks", func(m *plugins.Manifest) { m.Limits.CallMs = 20 }))
	b.produce(partition("in", 0), record.None, "W")
	b.read(partition("__weir_dead_letter.talks", 0), 1)
	lines, err := h.Logs("talks", 3)
	if err != nil || len(lines) != 3 || lines[2].Text != "the record wants an error" {
		t.Errorf("logs: %v %v", lines, err)
	}
}
