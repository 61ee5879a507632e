package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/bridge"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
	"github.com/weirmq/weir/mirror"
)

// part is one part of a running appliance. All but name may be nil.
type part struct {
	name   string
	status func() any              // its own words in /v1/status
	source metric.Source           // its figures in /metrics
	fill   func(*console.Snapshot) // its share of what the page shows
	close  func() error            // returns once its goroutines have ended
}

// box is the running appliance: its parts in the order they were started. It
// is what the console shows (console.Box).
type box struct {
	cfg firmwareconfig.Config
	log *slog.Logger

	certs     *auth.Certificates             // nil: no listener encrypts
	authority atomic.Pointer[auth.Authority] // set by startBroker
	quotas    atomic.Pointer[quota.Quotas]   // likewise
	broker    *appliance.Broker              // set by startBroker, before the parts that use it
	flows     atomic.Pointer[mirror.Mirror]  // set by startMirror; nil: none

	devices *bridge.Bridge // set by startBridge, before the parts that use it
	links   *upstreamLinks // nil: none yet; of run's goroutine

	mu        sync.Mutex            // guards what follows; never held while a part is called
	inForce   firmwareconfig.Config // cfg, with what was reloaded since
	reloaded  reloaded              // how the last reload went
	parts     []part
	addresses map[string]string
	waiting   error // why the box is not ready; nil: it is
	plugins   console.Plugins
	clock     *clock.Clock
}

var _ console.Box = (*box)(nil)

func newBox(cfg firmwareconfig.Config, log *slog.Logger) *box {
	return &box{cfg: cfg, inForce: cfg, log: log, addresses: map[string]string{}, waiting: errors.New("starting")}
}

// add records a started part, which close will end.
func (b *box) add(p part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts = append(b.parts, p)
}

// bound records a listener that accepts.
func (b *box) bound(name, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addresses[name] = address
}

// setWaiting is the one place that decides readiness; nil means ready.
func (b *box) setWaiting(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = err
}

func (b *box) setPlugins(p console.Plugins) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plugins = p
}

// close ends the parts, the last started first, and returns what went wrong.
func (b *box) close() error {
	b.setWaiting(errors.New("stopping"))
	b.mu.Lock()
	parts := b.parts
	b.parts = nil
	b.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(parts) {
		if p.close == nil {
			continue
		}
		if err := p.close(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// Ready implements console.Box.
func (b *box) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// Addresses implements console.Box.
func (b *box) Addresses() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.addresses)
}

// Plugins implements console.Box.
func (b *box) Plugins() console.Plugins {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.plugins
}

func (b *box) setClock(c *clock.Clock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = c
}

// confirmClock is console.Options.ConfirmClock.
func (b *box) confirmClock() (any, error) {
	b.mu.Lock()
	c := b.clock
	b.mu.Unlock()
	if c == nil {
		return nil, errors.New("the log is not open yet: see /readyz")
	}
	if err := c.Confirm(); err != nil {
		return nil, err
	}
	return c.Status(), nil
}

func (b *box) running() []part {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.parts)
}

// Parts implements console.Box.
func (b *box) Parts() []console.Part {
	var out []console.Part
	for _, p := range b.running() {
		shown := console.Part{Name: p.name, Source: p.source}
		if p.status != nil {
			shown.Status = p.status()
		}
		out = append(out, shown)
	}
	return out
}

// Snapshot implements console.Box: each part adds its share.
func (b *box) Snapshot() console.Snapshot {
	var s console.Snapshot
	for _, text := range b.cfg.Warnings() {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: text})
	}
	b.mu.Lock()
	s.Warnings = append(s.Warnings, b.reloaded.warnings()...)
	b.mu.Unlock()
	disk, err := diskOf(existing(b.cfg.Data.Dir))
	if err != nil {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: err.Error()})
	}
	s.Disk = disk
	for _, p := range b.running() {
		if p.fill != nil {
			p.fill(&s)
		}
	}
	return s
}
