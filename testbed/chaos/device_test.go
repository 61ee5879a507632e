package chaos_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/chaos"
)

// TestMain is the device's process, too.
func TestMain(m *testing.M) {
	address := os.Getenv("WEIR_DEVICE_ADDRESS")
	if address == "" {
		os.Exit(m.Run())
	}
	if err := chaos.Device(context.Background(), address, os.Getenv("WEIR_DEVICE_DIR"), os.Getenv("WEIR_DEVICE_DRAIN") != ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestDeviceKill9 kills a client that is a process of its own, and the box: each message
// that the client took is in the log once.
func TestDeviceKill9(t *testing.T) {
	cycles, seed := howMuch(t)
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cycles)*5*time.Second+2*time.Minute)
	defer cancel()
	device := func(address, dir string, drain bool) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "WEIR_DEVICE_ADDRESS="+address, "WEIR_DEVICE_DIR="+dir)
		if drain {
			cmd.Env = append(cmd.Env, "WEIR_DEVICE_DRAIN=1")
		}
		return cmd
	}
	r, err := chaos.RunDevice(ctx, chaos.Options{Dir: t.TempDir() + "/data", Seed: seed, Cycles: cycles, MaxUp: 300 * time.Millisecond}, device)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Log(r)
	if !r.OK() {
		t.Errorf("seed %d: a promise was broken", seed)
	}
}
