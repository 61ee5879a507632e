// Command build builds the plugins that come with Weir:
//
//	go run ./plugins/guests/build [-o DIR] [FOLDER ...]
//
// Each FOLDER (default: all below plugins/guests) becomes DIR/NAME.wasm, its
// manifest packed into it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirmq/weir/plugins/guests"
)

func main() {
	out := flag.String("o", "bin/plugins", "folder for the modules")
	flag.Parse()
	if err := build(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(out string, folders []string) error {
	if len(folders) == 0 {
		manifests, err := filepath.Glob("plugins/guests/*/manifest.json")
		if err != nil {
			return err
		}
		for _, m := range manifests {
			folders = append(folders, filepath.Dir(m))
		}
	}
	if len(folders) == 0 {
		return fmt.Errorf("build: no plugins/guests/*/manifest.json here; run it from the repository's root or name folders")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, dir := range folders {
		module, err := guests.Build(context.Background(), dir)
		if err != nil {
			return err
		}
		name := filepath.Join(out, filepath.Base(dir)+".wasm")
		if err := os.WriteFile(name, module, 0o644); err != nil {
			return err
		}
		fmt.Println(name)
	}
	return nil
}
