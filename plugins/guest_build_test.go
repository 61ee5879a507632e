package plugins_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/weirmq/weir/plugins/guests"
)

// scratch is one folder for the test binary: the guest built with Go, which takes
// seconds, and compiled code.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "weir-plugins-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		scratch = dir
		return m.Run()
	}())
}

func compilationCache(testing.TB) string { return filepath.Join(scratch, "cache") }

var telemetry = sync.OnceValues(func() ([]byte, error) {
	return guests.Build(context.Background(), filepath.Join("guests", "telemetry"))
})

// telemetryModule is the telemetry guest, built once.
func telemetryModule(t testing.TB) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a guest")
	}
	module, err := telemetry()
	if err != nil {
		t.Fatal(err)
	}
	return module
}
