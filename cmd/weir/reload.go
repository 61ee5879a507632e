package main

import (
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// hangups tells of SIGHUP until stop is called.
func hangups() (ch <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// reload reads the configuration again and brings into force what can be while the box
// runs: the routes. What needs a restart is named. A mistake in the file changes nothing.
func (b *box) reload(load func() (firmwareconfig.Config, error)) {
	cfg, err := load()
	if err == nil {
		err = b.devices.Replace(bridgeRoutes(&cfg))
	}
	if err != nil {
		b.log.Error("the configuration is not reloaded; what was in force is", "err", err)
		return
	}
	b.mu.Lock()
	keys := firmwareconfig.Changed(&b.inForce, &cfg)
	b.inForce.Routes = cfg.Routes
	b.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == "routes" })
	if len(rest) < len(keys) {
		b.log.Info("routes reloaded", "routes", len(cfg.Routes))
	}
	switch {
	case len(rest) > 0:
		b.log.Warn("these changes of the configuration need a restart", "keys", strings.Join(rest, " "))
	case len(keys) == 0:
		b.log.Info("the configuration has not changed")
	}
}

// shown is the configuration in force, without secrets, as YAML.
func (b *box) shown() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg := b.inForce.Redacted()
	return cfg.YAML()
}
