package chaos_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/chaos"
)

// enoughCycles are those in which everything happens that the load asks for.
const enoughCycles = 50

// TestKill9 needs a weir binary, so it runs only when asked to: make chaos does 200
// cycles, make crash 1,000, make e2e a few. For one seed again:
//
//	WEIR_CHAOS=1 WEIR_SEED=n [WEIR_CYCLES=200] go test ./testbed/chaos -run TestKill9 -v
func TestKill9(t *testing.T) {
	cycles, seed := howMuch(t)
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cycles)*5*time.Second+2*time.Minute)
	defer cancel()
	r, err := chaos.Run(ctx, chaos.Options{Dir: t.TempDir() + "/data", Seed: seed, Cycles: cycles, Logf: t.Logf})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Log(r)
	if cycles >= enoughCycles && (r.Compactions == 0 || slices.Contains(slices.Collect(maps.Values(r.Trimmed)), 0)) {
		t.Errorf("seed %d: %d logs were compacted, log starts are %v: what removes records did not run", seed, r.Compactions, r.Trimmed)
	}
	if !r.OK() {
		t.Errorf("seed %d: a promise was broken", seed)
	}
}

// TestQoS2Kill9 is the same for MQTT with QoS 2: every message once in the log and
// once at a subscriber. make chaos does 200 cycles, make e2e some.
func TestQoS2Kill9(t *testing.T) {
	cycles, seed := howMuch(t)
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cycles)*5*time.Second+2*time.Minute)
	defer cancel()
	r, err := chaos.RunQoS2(ctx, chaos.Options{Dir: t.TempDir() + "/data", Seed: seed, Cycles: cycles, MaxUp: 400 * time.Millisecond, Logf: t.Logf})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Log(r)
	if !r.OK() {
		t.Errorf("seed %d: a promise was broken", seed)
	}
}

// howMuch says how many cycles the environment asks for, and the seed.
func howMuch(t *testing.T) (cycles int, seed uint64) {
	t.Helper()
	err := error(nil)
	switch cycles = 200; {
	case os.Getenv("WEIR_CHAOS") != "":
	case os.Getenv("WEIR_E2E") != "":
		cycles = 8
	default:
		t.Skip("needs bin/weir: make chaos or make e2e runs this test")
	}
	if text := os.Getenv("WEIR_CYCLES"); text != "" {
		if cycles, err = strconv.Atoi(text); err != nil || cycles < 1 {
			t.Fatalf("WEIR_CYCLES=%s: give a positive number", text)
		}
	}
	seed = uint64(time.Now().UnixNano())
	if text := os.Getenv("WEIR_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	return cycles, seed
}
