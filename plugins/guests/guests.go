// Package guests builds the plugins that come with Weir, each a folder of this
// one: a package main for wasip1 and its manifest.json.
package guests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/weirmq/weir/plugins"
)

// Build compiles the plugin in folder dir with the go command in the PATH and
// packs its manifest. It takes seconds.
func Build(ctx context.Context, dir string) ([]byte, error) {
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, fmt.Errorf("guests: %w", err)
	}
	temp, err := os.MkdirTemp("", "weir-guest-")
	if err != nil {
		return nil, fmt.Errorf("guests: %w", err)
	}
	defer os.RemoveAll(temp)
	out := filepath.Join(temp, "guest.wasm")
	// -w drops debugging data, which the host could not use; names stay.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("guests: go build in %s: %w\n%s", dir, err, strings.TrimSpace(string(text)))
	}
	module, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("guests: %w", err)
	}
	packed, err := plugins.Pack(module, manifest)
	if err != nil {
		return nil, fmt.Errorf("guests: %s: %w", dir, err)
	}
	return packed, nil
}
