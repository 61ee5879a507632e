package chaos_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/chaos"
)

// TestKill9 needs a weir binary, so it runs only when asked to: make crash, or
//
//	CYCLES=60 [SEED=n] [WEIR_BIN=bin/weir] go test ./testbed/chaos -run TestKill9 -v
func TestKill9(t *testing.T) {
	cycles, err := strconv.Atoi(os.Getenv("CYCLES"))
	if err != nil || cycles < 1 {
		t.Skip("CYCLES is not set: make crash runs this test")
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED: %v", err)
		}
	}
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cycles)*5*time.Second+2*time.Minute)
	defer cancel()
	r, err := chaos.Run(ctx, chaos.Options{Dir: t.TempDir() + "/data", Seed: seed, Cycles: cycles, Logf: t.Logf})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Log(r)
	if !r.OK() {
		t.Errorf("seed %d: a promise was broken", seed)
	}
}
