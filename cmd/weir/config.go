package main

import (
	"fmt"
	"io"
	"strings"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

type configCmd struct {
	Check    configCheckCmd    `cmd:"" help:"Check a file and name every mistake in it."`
	Show     configShowCmd     `cmd:"" help:"Print the whole configuration in force."`
	Profiles configProfilesCmd `cmd:"" help:"Print the board profiles."`
	Keys     configKeysCmd     `cmd:"" help:"List every key with its default and meaning."`
	Describe configDescribeCmd `cmd:"" help:"Show the configs of a topic or a broker, over the Kafka wire."`
	Alter    configAlterCmd    `cmd:"" help:"Change the configs of a topic or a broker, over the Kafka wire."`
}

type configCheckCmd struct {
	File string `arg:"" help:"The file, weir.yaml."`
}

func (c *configCheckCmd) Run(s *session) error {
	cfg, err := loadConfig(c.File)
	if err != nil {
		return err
	}
	result := map[string]any{"file": c.File, "profile": cfg.Profile, "warnings": cfg.Warnings()}
	return s.show(result, func(w io.Writer) {
		for _, warning := range cfg.Warnings() {
			fmt.Fprintln(w, "! "+warning)
		}
		fmt.Fprintf(w, "%s is valid (board profile %s)\n", c.File, cfg.Profile)
	})
}

func loadConfig(file string) (firmwareconfig.Config, error) {
	cfg, err := firmwareconfig.Load(file)
	if err != nil {
		return cfg, failf(exitUsage, "%w", err)
	}
	if err := checkParts(&cfg); err != nil {
		return cfg, failf(exitUsage, "%w", err)
	}
	return cfg, nil
}

type configShowCmd struct {
	httpFlags
	File  string `name:"config" type:"path" help:"Show this file over its board profile instead of a running appliance."`
	Local bool   `help:"Show the defaults for this machine instead of a running appliance."`
}

func (c *configShowCmd) Run(s *session) error {
	var text []byte
	if c.File != "" || c.Local {
		cfg, err := loadConfig(c.File)
		if err != nil {
			return err
		}
		shown := cfg.Redacted()
		text = shown.YAML()
	} else if err := c.call(s.ctx, "GET", "/v1/config", nil, &text); err != nil {
		return err
	}
	return s.show(map[string]string{"yaml": string(text)}, func(w io.Writer) { _, _ = w.Write(text) })
}

type configProfilesCmd struct {
	Name string `arg:"" optional:"" help:"Print this one only."`
}

func (c *configProfilesCmd) Run(s *session) error {
	names := firmwareconfig.Profiles()
	if c.Name != "" {
		names = []string{c.Name}
	}
	texts := map[string]string{}
	for _, name := range names {
		text, err := firmwareconfig.ProfileText(name)
		if err != nil {
			return failf(exitNotFound, "%w", err)
		}
		texts[name] = text
	}
	return s.show(texts, func(w io.Writer) {
		for _, name := range names {
			fmt.Fprintf(w, "# profile: %s\n%s\n", name, texts[name])
		}
	})
}

type configKeysCmd struct {
	Word string `arg:"" optional:"" help:"Only keys whose name contains this."`
}

func (c *configKeysCmd) Run(s *session) error {
	var keys []firmwareconfig.Key
	for _, k := range firmwareconfig.Keys() {
		if strings.Contains(k.Path, c.Word) && !k.Section {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return failf(exitNotFound, "no key contains '%s': see weir config keys", c.Word)
	}
	return s.show(keys, func(w io.Writer) {
		for _, k := range keys {
			fmt.Fprintf(w, "%s  (%s)", k.Path, k.Type)
			if k.Default != "" {
				fmt.Fprintf(w, "  default %s", k.Default)
			}
			fmt.Fprintf(w, "\n    %s\n", k.Doc)
		}
	})
}
