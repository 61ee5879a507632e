package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/plugins"
)

type pluginCmd struct {
	Pack   pluginPackCmd   `cmd:"" help:"Put a manifest into a .wasm file."`
	Deploy pluginDeployCmd `cmd:"" help:"Install a plugin file, or replace the plugin of its name."`
	List   pluginListCmd   `cmd:"" help:"List plugins."`
	Remove pluginRemoveCmd `cmd:"" help:"Stop and remove a plugin."`
	Logs   pluginLogsCmd   `cmd:"" help:"Show a plugin's latest log lines."`
}

type pluginPackCmd struct {
	Module   string `arg:"" help:"The .wasm file that a compiler made."`
	Manifest string `arg:"" help:"The manifest, JSON."`
	Out      string `short:"o" placeholder:"FILE" help:"Where to write the plugin (over the module)."`
}

func (c *pluginPackCmd) Run(s *session) error {
	module, err := os.ReadFile(c.Module)
	if err != nil {
		return failf(exitUsage, "cannot read the module: %w", err)
	}
	manifest, err := os.ReadFile(c.Manifest)
	if err != nil {
		return failf(exitUsage, "cannot read the manifest: %w", err)
	}
	packed, err := plugins.Pack(module, manifest)
	if err != nil {
		return failf(exitUsage, "%s: %w", c.Manifest, err)
	}
	out := cmp.Or(c.Out, c.Module)
	if err := os.WriteFile(out, packed, 0o644); err != nil {
		return fmt.Errorf("cannot write the plugin: %w", err)
	}
	return s.show(map[string]string{"plugin": out}, func(w io.Writer) { fmt.Fprintf(w, "packed %s (%s)\n", out, bytesText(int64(len(packed)))) })
}

type pluginDeployCmd struct {
	httpFlags
	File string `arg:"" help:"The .wasm file, with its manifest in it (weir plugin pack)."`
}

func (c *pluginDeployCmd) Run(s *session) error {
	wasm, err := os.ReadFile(c.File)
	if err != nil {
		return failf(exitUsage, "cannot read the plugin: %w", err)
	}
	var answer struct {
		Plugin json.RawMessage `json:"plugin"`
	}
	if err := c.call(s.ctx, "POST", "/v1/plugins", wasm, &answer); err != nil {
		return err
	}
	return s.show(answer, func(w io.Writer) { fmt.Fprintf(w, "deployed %s (%s)\n", c.File, bytesText(int64(len(wasm)))) })
}

type pluginListCmd struct{ httpFlags }

func (c *pluginListCmd) Run(s *session) error {
	var st console.Status
	if err := c.call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		return err
	}
	return s.show(st.Plugins, func(w io.Writer) {
		var cells [][]any
		for _, p := range st.Plugins {
			cells = append(cells, []any{p.Name, p.Version, p.State, p.RecordsIn, p.RecordsOut, p.DeadLetters, p.Lag, p.Error})
		}
		table(w, []string{"plugin", "version", "state", "in", "out", "dead letters", "lag", "error"}, cells)
	})
}

type pluginRemoveCmd struct {
	httpFlags
	Name string `arg:"" help:"Name."`
}

func (c *pluginRemoveCmd) Run(s *session) error {
	if err := c.call(s.ctx, "DELETE", "/v1/plugins/"+url.PathEscape(c.Name), nil, nil); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func(w io.Writer) { fmt.Fprintln(w, "removed", c.Name) })
}

type pluginLogsCmd struct {
	httpFlags
	Name   string `arg:"" help:"Name."`
	Number int    `short:"n" default:"100" help:"At most this many lines (${default})."`
}

func (c *pluginLogsCmd) Run(s *session) error {
	var answer struct {
		Lines []string `json:"lines"`
	}
	path := "/v1/plugins/" + url.PathEscape(c.Name) + "/logs?n=" + strconv.Itoa(c.Number)
	if err := c.call(s.ctx, "GET", path, nil, &answer); err != nil {
		return err
	}
	return s.show(answer.Lines, func(w io.Writer) {
		for _, line := range answer.Lines {
			fmt.Fprintln(w, line)
		}
	})
}
