package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// run is the appliance from start to stop. It starts the parts in order, is
// ready once the last one is, and ends them in reverse when ctx ends or the
// storage fails. On SIGHUP it reloads the configuration by load.
func run(ctx context.Context, cfg firmwareconfig.Config, log *slog.Logger, load func() (firmwareconfig.Config, error)) (err error) {
	hangup, stop := hangups() // before all else: unless asked for, the signal ends the process
	defer stop()
	limitRuntime(cfg.Runtime)
	record.LimitDecompressed(int64(cfg.Kafka.MaxDecompressed))
	if err := probeListeners(&cfg); err != nil {
		return err
	}
	b := newBox(cfg, log)
	if b.certs, err = certificates(&cfg, log); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.close())
		log.Info("weir has stopped", "site", cfg.Site)
	}()
	for _, step := range []struct {
		name  string
		start func() error
	}{
		{"the console", b.startConsole}, // first, so that /readyz can be asked
		{"the broker", b.startBroker},
		{"the plugins", b.startPlugins}, // before devices are let in
		{"the MQTT bridge", b.startBridge},
		{"the upstream brokers", b.startUpstream},
		{"the mirror", b.startMirror},
		{"the fleet", b.startFleet},
	} {
		if ctx.Err() != nil {
			return nil
		}
		b.setWaiting(fmt.Errorf("%s is starting", step.name))
		if err := step.start(); err != nil {
			return startError(step.name, &cfg, err)
		}
	}
	b.setWaiting(nil)
	b.announce()
	// Recovery read the write-ahead log file by file; a small box wants that memory now.
	debug.FreeOSMemory()
	for {
		select {
		case <-ctx.Done():
			log.Info("weir is stopping", "site", cfg.Site)
			return nil
		case <-b.broker.Failed():
			return fmt.Errorf("%w: %w: nothing more is acknowledged; mend the disk and start again", errStorage, b.broker.Err())
		case <-hangup:
			b.reload(load)
		}
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

func (b *box) startConsole() error {
	server := console.New(console.Options{
		Box: b, Version: versionText(), Site: b.cfg.Site, Profile: b.cfg.Profile, DataDir: b.cfg.Data.Dir,
		Hosts: b.cfg.HTTP.Hosts, MaxUpload: int64(b.cfg.HTTP.MaxUpload), Config: b.shown, ConfirmClock: b.confirmClock, Authorize: b.authorizeHTTP, Log: b.log,
	})
	b.add(part{name: "http", close: server.Close, fill: b.fillCertificate})
	return b.serveConsole(server)
}

// announce is the start log: where everything is, and what is not as safe as it could be.
func (b *box) announce() {
	args := []any{"version", versionText(), "site", b.cfg.Site, "profile", b.cfg.Profile, "data", b.cfg.Data.Dir}
	addresses := b.Addresses()
	for _, name := range []string{"mqtt", "kafka", "http"} {
		args = append(args, name, addresses[name])
	}
	b.log.Info("weir is ready", args...)
	for _, w := range b.Snapshot().Warnings {
		b.log.Warn(w.Text)
	}
}
