package chaos_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirmq/weir/testbed/chaos"
)

// TestTransactionalCopy consumes, transforms and produces in transactions, while the
// broker and the clients are killed. It runs with TestKill9.
func TestTransactionalCopy(t *testing.T) {
	cycles := 30
	switch {
	case os.Getenv("WEIR_CHAOS") != "":
	case os.Getenv("WEIR_E2E") != "":
		cycles = 5
	default:
		t.Skip("needs bin/weir: make chaos or make e2e runs this test")
	}
	for name, old := range map[string][]kgo.Opt{"since KIP-890": nil, "before KIP-890": {kgo.MaxVersions(kversion.V3_9_0())}} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cycles)*5*time.Second+3*time.Minute)
			defer cancel()
			r, err := chaos.Copy(ctx, chaos.CopyOptions{Dir: t.TempDir() + "/data", Seed: seed, Cycles: cycles, Old: old, Logf: t.Logf})
			if err != nil {
				t.Fatalf("seed %d: %v; so far %+v", seed, err, r)
			}
			t.Logf("%+v", r)
			if !r.OK() || r.Produced == 0 || r.Committed == 0 || r.Clients == 0 {
				t.Errorf("seed %d: not each record was copied exactly once", seed)
			}
		})
	}
}
