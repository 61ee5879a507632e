//go:build linux

package powercut_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/block"
	"github.com/weirmq/weir/testbed/chaos"
	"github.com/weirmq/weir/testbed/checker"
)

// A test that cannot fail proves nothing: a weir that acknowledges what is in the
// page cache only must be found out by the cut of a file system.
func TestSelfCheck(t *testing.T) {
	t.Run("no sync", func(t *testing.T) {
		needs(t, block.Missing("ext4"))
		n := seed(t)
		v := volume(t, "ext4", "commit=1000", block.ImageBytes)
		o := options(t, v, n, 2, cutPower(v))
		o.Binary = plant(t, "error(nil)")
		wantLost(t, o)
	})
}

// plant builds a weir whose fdatasync is the expression instead.
func plant(t *testing.T, instead string) string {
	t.Helper()
	const call = "unix.Fdatasync(int(fd))"
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "appliance", "vfs", "sync_linux.go")
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), call) != 1 {
		t.Fatalf("%s does not call %s exactly once: where is the sync now?", path, call)
	}
	dir := t.TempDir()
	faulty, overlay, binary := filepath.Join(dir, "sync.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "weir")
	if err := os.WriteFile(faulty, []byte(strings.Replace(string(source), call, instead, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: faulty}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./cmd/weir")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a faulty weir: %v\n%s", err, out)
	}
	return binary
}

// wantLost wants the checker to say that acked values are lost.
func wantLost(t *testing.T, o chaos.Options) {
	t.Helper()
	o.DrainTimeout, o.RecoveryKills = 5*time.Second, -1
	o.MinUp = 300 * time.Millisecond // enough for acks
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := chaos.Run(ctx, o)
	if err != nil {
		t.Fatalf("seed %d: no verdict: %v", o.Seed, err)
	}
	t.Log(r)
	if r.Anomalies[checker.Lost]+r.Anomalies[checker.LostTail]+r.Anomalies[checker.Hole] == 0 {
		t.Errorf("seed %d: acked values must be lost here and the checker says that none is", o.Seed)
	}
}
