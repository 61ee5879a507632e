//go:build linux

// Package powercut_test runs weir under MQTT and Kafka load on disks of its own
// that lose power, fail or run full, and asks the checker after each such event
// whether every acknowledgement was kept. What the clients were told is kept here,
// outside of the disk in question.
//
//	WEIR_POWERCUT=1 [WEIR_CUTS=20] [WEIR_SEED=n] go test ./testbed/powercut -v
package powercut_test

import (
	"context"
	"debug/buildinfo"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/chaos"
	"github.com/weirmq/weir/testbed/site"
)

// busy leaves room on small disks, too.
const busy = chaos.Busy + `
data:
  reserve: 4Mi
`

// needs skips the test, with the reason, where it cannot run.
func needs(t *testing.T, reasons ...string) {
	t.Helper()
	if os.Getenv("WEIR_POWERCUT") == "" {
		t.Skip("needs bin/weir and root: make powercut runs this test")
	}
	for _, reason := range reasons {
		if reason != "" {
			t.Skip(reason)
		}
	}
}

// share is how many of the cuts the i-th of n file systems gets, at least one.
func share(cuts, n, i int) int { return max(1, (cuts+n-1-i)/n) }

// cuts is how many cuts each test makes over all its file systems.
func cuts(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WEIR_CUTS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("WEIR_CUTS=%s: give a positive number", text)
	}
	return n
}

func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("WEIR_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	t.Logf("seed %d", n)
	return n
}

func scratch(t *testing.T) string {
	t.Helper()
	dir, remove, err := block.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// volume formats and mounts a file system.
func volume(t *testing.T, fsType, options string, size int64) *block.Volume {
	t.Helper()
	dir := scratch(t)
	v := &block.Volume{Type: fsType, Image: filepath.Join(dir, "image"), Dir: filepath.Join(dir, "mnt"), Options: options}
	if err := v.Format(size); err != nil {
		t.Fatal(err)
	}
	if err := v.Mount(); err != nil {
		t.Fatal(err)
	}
	return v
}

// options are those of a run with the data folder on the volume.
func options(t *testing.T, v *block.Volume, seed uint64, cycles int, fault func(context.Context, *site.Site) error) chaos.Options {
	return chaos.Options{
		Dir: filepath.Join(v.Dir, "data"), Config: busy, Seed: seed, Cycles: cycles,
		MinUp: 50 * time.Millisecond, MaxUp: 600 * time.Millisecond, Fault: fault, Logf: t.Logf,
	}
}

// judge runs the load with its faults and wants every promise kept.
func judge(t *testing.T, o chaos.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(o.Cycles)*10*time.Second+3*time.Minute)
	defer cancel()
	r, err := chaos.Run(ctx, o)
	if err != nil {
		t.Fatalf("seed %d: %v", o.Seed, err)
	}
	t.Log(r)
	if !r.OK() {
		t.Errorf("seed %d: a promise was broken", o.Seed)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// The disks here are for tests alone: nothing of FUSE is in the product.
func TestBinaryHasNoFUSE(t *testing.T) {
	needs(t)
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Fatalf("%s names no module that it is made of", binary)
	}
	for _, m := range info.Deps {
		if strings.Contains(m.Path, "go-fuse") {
			t.Errorf("%s holds %s %s", binary, m.Path, m.Version)
		}
	}
}
