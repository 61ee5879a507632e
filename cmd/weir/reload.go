package main

import (
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/weirmq/weir/appliance/console"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// hangups tells of SIGHUP until stop is called.
func hangups() (ch <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// reloadable is the keys that are brought into force while the box runs.
var reloadable = []string{"topics", "routes", "downlink", "upstream"}

// reloaded is how the configuration in force differs from the file, as far as is known.
type reloaded struct {
	refused string   // why the file was not taken; "": it was
	restart []string // keys that need one
}

// reload reads the configuration again and brings into force what can be while the box
// runs. What needs a restart is named. A mistake in the file changes nothing.
func (b *box) reload(load func() (firmwareconfig.Config, error)) {
	cfg, err := load()
	if err == nil {
		err = b.enforce(&cfg)
	}
	if err != nil {
		b.log.Error("the configuration is not reloaded; what was in force is", "err", err)
		b.mu.Lock()
		b.reloaded.refused = err.Error()
		b.mu.Unlock()
		return
	}
	b.mu.Lock()
	keys := firmwareconfig.Changed(&b.inForce, &cfg)
	b.inForce.Topics, b.inForce.Routes, b.inForce.Downlink, b.inForce.Upstream = cfg.Topics, cfg.Routes, cfg.Downlink, cfg.Upstream
	rest := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(reloadable, key) })
	b.reloaded = reloaded{restart: rest}
	b.mu.Unlock()
	for _, r := range []struct {
		key, what string
		n         int
	}{{"topics", "topics", len(cfg.Topics)}, {"routes", "routes", len(cfg.Routes)}, {"downlink", "downlinks", len(cfg.Downlink)}, {"upstream", "upstreams", len(cfg.Upstream)}} {
		if slices.Contains(keys, r.key) {
			b.log.Info(r.what+" reloaded", r.what, r.n)
		}
	}
	switch {
	case len(rest) > 0:
		b.log.Warn("these changes of the configuration need a restart", "keys", strings.Join(rest, " "))
	case len(keys) == 0:
		b.log.Info("the configuration has not changed")
	}
}

// enforce brings the reloadable keys into force: first all that can fail.
func (b *box) enforce(cfg *firmwareconfig.Config) error {
	links, err := b.upstreamAll(cfg)
	if err != nil {
		return err
	}
	if err := b.ensureTopics(cfg); err != nil {
		return err
	}
	if err := b.devices.Replace(bridgeRoutes(cfg), bridgeDownlinks(cfg)); err != nil {
		return err
	}
	return b.joinUpstream(cfg, links)
}

// warnings says what of the file is not in force, for weir status and the console.
func (r *reloaded) warnings() (out []console.Warning) {
	if r.refused != "" {
		out = append(out, console.Warning{Severity: console.SeverityWarning,
			Text: "the configuration was not reloaded, what was in force is: " + strings.ReplaceAll(r.refused, "\n", "; ")})
	}
	if len(r.restart) > 0 {
		out = append(out, console.Warning{Severity: console.SeverityWarning,
			Text: "changes of the configuration that need a restart: " + strings.Join(r.restart, " ")})
	}
	return out
}

// shown is the configuration in force, without secrets, as YAML.
func (b *box) shown() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg := b.inForce.Redacted()
	return cfg.YAML()
}
