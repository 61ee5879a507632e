package demo_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/demo"
	"github.com/weirmq/weir/testbed/site"
)

func TestVerdictSentences(t *testing.T) {
	for want, v := range map[string]demo.Verdict{
		"12,345 readings acked, 12,345 unique at the core: nothing lost, nothing repeated":                                   {Acked: 12345, Unique: 12345},
		"10 readings acked, 8 unique at the core: 2 lost; lost are for example device 3 reading 7, device 3 reading 8":       {Acked: 10, Unique: 8, Missing: 2, Examples: []string{"device 3 reading 7", "device 3 reading 8"}},
		"10 readings acked, 10 unique at the core: 1 repeated":                                                               {Acked: 10, Unique: 10, Repeated: 1},
		"10 readings acked, 10 unique at the core: 1 repeated (devices sent 4 again after reconnecting, as QoS 1 allows)":    {Acked: 10, Unique: 10, Repeated: 1, Resent: 4},
		"10 readings acked, 11 unique at the core: nothing lost, nothing repeated; 2 readings were not acked":                {Acked: 10, Unique: 11, Unacked: 2},
		"10 readings acked, 10 unique at the core: nothing lost, nothing repeated; of 5 invalid readings 5 are dead letters": {Acked: 10, Unique: 10, Rejected: 5, Dead: 5},
		"1,000,000 readings acked, 1,000,000 unique at the core: 3 not of these devices":                                     {Acked: 1e6, Unique: 1e6, Foreign: 3},
	} {
		if got := v.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		bad := strings.Contains(want, " lost;") || strings.HasSuffix(want, " 1 repeated") || strings.Contains(want, "not of these")
		if v.OK() == bad {
			t.Errorf("OK is %v for: %s", v.OK(), want)
		}
	}
}

// play runs a short demo with the real binary.
func play(t *testing.T, o demo.Options) (*demo.Verdict, string) {
	t.Helper()
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("needs bin/weir: make e2e runs this test")
	}
	var out strings.Builder
	o.Dir, o.Out = t.TempDir(), &out
	o.Devices, o.Rate, o.Duration, o.Seed = 50, 20, 3*time.Second, 1
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v, err := demo.Run(ctx, ctx, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return v, out.String()
}

func TestEverythingArrivesOnceThroughTheMirror(t *testing.T) {
	v, out := play(t, demo.Options{Topic: "mqtt"})
	if !v.OK() || v.Acked < 1000 || v.Unique != v.Acked {
		t.Errorf("%v\n%s", v, out)
	}
}

// The whole journey, with devices whose readings are invalid: those end as dead
// letters, all others at the core.
func TestTransformedReadingsArriveOnce(t *testing.T) {
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("needs bin/weir: make e2e runs this test")
	}
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(filepath.Dir(binary), "guests", "telemetry.wasm")
	if _, err := os.Stat(plugin); err != nil {
		t.Fatalf("%v: run make guests", err)
	}
	v, out := play(t, demo.Options{Plugin: plugin, BadPercent: 4})
	if !v.OK() || v.Acked < 1000 || v.Unique != v.Acked {
		t.Errorf("%v\n%s", v, out)
	}
	if v.Rejected == 0 || v.Dead != v.Rejected {
		t.Errorf("%d invalid readings, %d dead letters\n%s", v.Rejected, v.Dead, out)
	}
}
