package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/metadata"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// run is the appliance from start to stop. It starts the parts in order, is
// ready once the last one is, and ends them in reverse when ctx ends.
func run(ctx context.Context, cfg firmwareconfig.Config, log *slog.Logger) (err error) {
	limitRuntime(cfg.Runtime)
	b := newBox(cfg, log)
	defer func() {
		if closeErr := b.close(); err == nil {
			err = closeErr
		}
		log.Info("weir has stopped", "site", cfg.Site)
	}()
	listeners, err := b.listenAll()
	if err != nil {
		return err
	}
	defer listeners.closeUnused()
	for _, step := range []struct {
		name  string
		start func(*box, listenerSet) error
	}{
		{"http", (*box).startConsole}, // first, so that /readyz can be asked
		{"kafka", (*box).startBroker},
		{"mqtt", (*box).startBridge},
		{"mirror", (*box).startMirror},
	} {
		b.setWaiting(fmt.Errorf("%s is starting", step.name))
		if err := step.start(b, listeners); err != nil {
			return startError(step.name, &cfg, err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	b.setWaiting(nil)
	b.announce()
	select {
	case <-ctx.Done():
		log.Info("weir is stopping", "site", cfg.Site)
		return nil
	case <-b.broker.Failed():
		// Only a restart, which reads the disk, can tell what is on it.
		return fmt.Errorf("the storage has failed: %w", b.broker.Err())
	}
}

// startError says what to do about the errors an operator meets.
func startError(step string, cfg *firmwareconfig.Config, err error) error {
	if errors.Is(err, metadata.ErrInUse) {
		return fmt.Errorf("--data %s is used by another weir: stop it, or give this one its own --data DIR", cfg.Data.Dir)
	}
	return fmt.Errorf("cannot start %s: %w", step, err)
}

// limitRuntime applies the board's memory limits unless the environment does.
func limitRuntime(r firmwareconfig.Runtime) {
	if os.Getenv("GOMEMLIMIT") == "" && r.MemoryLimit > 0 {
		debug.SetMemoryLimit(int64(r.MemoryLimit))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(r.GCPercent)
	}
}

// listenerSet holds the bound listeners until a part takes each over. All are
// bound before anything else happens: a port in use is the commonest mistake,
// and recovery may take a while.
type listenerSet map[string]net.Listener

func (b *box) listenAll() (listenerSet, error) {
	set := listenerSet{}
	for _, l := range []struct{ name, flag, address string }{
		{"http", "--http", b.cfg.HTTP.Listen},
		{"kafka", "--kafka", b.cfg.Kafka.Listen},
		{"mqtt", "--mqtt", b.cfg.MQTT.Listen},
	} {
		ln, err := listen(l.flag, l.address)
		if err != nil {
			set.closeUnused()
			return nil, err
		}
		set[l.name] = ln
	}
	return set, nil
}

// take hands a listener to the part that will close it.
func (s listenerSet) take(name string) net.Listener {
	ln := s[name]
	delete(s, name)
	return ln
}

func (s listenerSet) closeUnused() {
	for _, ln := range s {
		_ = ln.Close()
	}
}

func (b *box) startConsole(listeners listenerSet) error {
	ln := listeners.take("http")
	shown := b.cfg.Redacted()
	server := console.New(console.Options{
		Box: b, Version: versionText(), Site: b.cfg.Site, Profile: b.cfg.Profile, DataDir: b.cfg.Data.Dir,
		Hosts: b.cfg.HTTP.Hosts, MaxUpload: int64(b.cfg.HTTP.MaxUpload), Config: shown.YAML, Log: b.log,
	})
	server.Serve(ln)
	b.bound("http", ln.Addr().String())
	b.add(part{name: "http", close: server.Close})
	b.log.Info("console started", "http", ln.Addr())
	return nil
}

// announce is the start log: where everything is, and what is not as safe as it could be.
func (b *box) announce() {
	args := []any{"version", versionText(), "site", b.cfg.Site, "profile", b.cfg.Profile, "data", b.cfg.Data.Dir}
	for _, name := range []string{"mqtt", "kafka", "http"} {
		if address, ok := b.Addresses()[name]; ok {
			args = append(args, name, address)
		}
	}
	b.log.Info("weir is ready", args...)
	for _, w := range b.Snapshot().Warnings {
		b.log.Warn(w.Text)
	}
}
