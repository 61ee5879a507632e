// Package plugins runs WebAssembly plugins on the log.
//
// A plugin is one module with a [Manifest] in a custom section. The [Host] keeps
// the modules that are installed, and runs each on every partition of its input
// topics: one instance and one goroutine for each, off the append path. Package
// transform moves the records and commits them exactly once; package abi says how
// they get into the guest and out; package fuel makes sure that a guest can be
// stopped.
//
// A guest can do nothing but compute: it has no files, no network, and only the
// memory and time that its limits say. One that loops, grows, traps or answers
// nonsense loses its instance, and the record it was at goes where the failure
// policy says; other plugins, and the broker, do not notice.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/plugins/fuel"
)

// MaxModuleBytes bounds a module.
const MaxModuleBytes = fuel.MaxModuleBytes

// Errors of Deploy and Remove.
var (
	// ErrUnknownPlugin is returned for a name that is not installed.
	ErrUnknownPlugin = errors.New("no such plugin")
	// ErrRefused is wrapped by Deploy's errors about the module or its manifest.
	ErrRefused = errors.New("plugin refused")
	// ErrClosed is returned by a host that is closed.
	ErrClosed = errors.New("plugin host is closed")
)

// Host runs the installed plugins. All methods are safe for concurrent use.
type Host struct {
	o         Options
	engine    *engine
	budget    *budget
	store     *store
	positions positions

	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup // loop

	closing  sync.Once
	closeErr error

	changing sync.Mutex // held while a plugin is loaded, deployed or removed; taken before mu

	mu      sync.Mutex // guards plugins
	plugins map[string]*plugin
}

// NewHost opens the host and starts the installed plugins, each as soon as it is
// compiled. A plugin that cannot start is listed with the reason; it is no error.
func NewHost(o Options) (*Host, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s, err := newStore(o.FS, o.Registry)
	if err != nil {
		return nil, err
	}
	entries, err := s.load()
	if err != nil {
		return nil, err
	}
	e, err := newEngine(&o)
	if err != nil {
		return nil, err
	}
	h := &Host{
		o: o, engine: e, budget: newBudget(o.TotalMemoryBytes), store: s, plugins: map[string]*plugin{},
		positions: positions{Positions: o.Positions, last: map[position]int64{}},
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	for name, entry := range entries {
		h.plugins[name] = h.newPlugin(Manifest{Name: name, Version: entry.Version}, entry, 0)
	}
	h.done.Go(h.loop)
	return h, nil
}

// loop loads what is installed, then looks for new topics and partitions.
func (h *Host) loop() {
	for _, p := range h.all() {
		if h.ctx.Err() != nil {
			return
		}
		h.load(p.manifest.Name, p)
	}
	tick := time.NewTicker(h.o.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range h.all() {
			p.refresh()
		}
	}
}

// load starts an installed plugin, unless it has been replaced meanwhile.
func (h *Host) load(name string, p *plugin) {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.find(name) != p {
		return
	}
	started, err := h.open(p.entry)
	if err != nil {
		h.o.Logger.Error("plugin cannot start", "plugin", name, "version", p.entry.Version, "err", err)
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		return
	}
	h.start(started)
}

func (h *Host) open(e entry) (*plugin, error) {
	module, err := h.store.read(e)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(module, e.Overrides)
	if err != nil {
		return nil, err
	}
	p := h.newPlugin(m, e, len(module))
	return p, p.build(module)
}

// start puts p in its place and starts its tasks. h.changing is held.
func (h *Host) start(p *plugin) {
	h.mu.Lock()
	h.plugins[p.manifest.Name] = p
	h.mu.Unlock()
	p.refresh()
	h.o.Logger.Info("plugin started", "plugin", p.manifest.Name, "version", p.manifest.Version, "inputs", p.manifest.Inputs, "outputs", p.manifest.Outputs)
}

// Deploy installs a module that has a manifest, in place of the plugin of that
// name if there is one; the new one goes on where the old one stopped. The module
// is checked, compiled and started once before anything changes. When Deploy
// returns, the plugin survives a power cut.
func (h *Host) Deploy(ctx context.Context, module []byte, o Overrides) (Info, error) {
	m, err := readManifest(module, o)
	if err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.ctx.Err() != nil {
		return Info{}, ErrClosed
	}
	if err := h.admit(&m); err != nil {
		return Info{}, fmt.Errorf("%w: %s: %w", ErrRefused, m.Name, err)
	}
	p := h.newPlugin(m, newEntry(&m, module, o), len(module))
	if err := p.build(module); err != nil {
		return Info{}, fmt.Errorf("%w: %s: %w", ErrRefused, m.Name, err)
	}
	if err := p.try(ctx); err != nil {
		return Info{}, errors.Join(fmt.Errorf("%w: %s: %w", ErrRefused, m.Name, err), p.close())
	}
	if err := h.store.install(m.Name, p.entry, module); err != nil {
		return Info{}, errors.Join(err, p.close())
	}
	if old := h.find(m.Name); old != nil {
		if err := h.retire(old, p.entry.File); err != nil {
			h.o.Logger.Error("old plugin", "plugin", m.Name, "err", err)
		}
	}
	h.start(p)
	return p.info(), nil
}

// retire ends a plugin that has been replaced.
func (h *Host) retire(old *plugin, file string) error {
	err := old.close()
	if old.entry.File == file {
		return err
	}
	return errors.Join(err, h.store.discard(old.entry.File))
}

// admit checks a manifest against the plugins that are installed.
func (h *Host) admit(m *Manifest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.plugins[m.Name] == nil && len(h.plugins) >= h.o.MaxPlugins {
		return fmt.Errorf("%d plugins are installed, the limit is %d", len(h.plugins), h.o.MaxPlugins)
	}
	// What can m's outputs reach, through the others?
	reached := slices.Clone(m.Outputs)
	for i := 0; i < len(reached); i++ {
		if slices.Contains(m.Inputs, reached[i]) {
			return fmt.Errorf("its outputs lead back to its input %q through other plugins, for ever", reached[i])
		}
		for name, p := range h.plugins {
			if name == m.Name || !slices.Contains(p.manifest.Inputs, reached[i]) {
				continue
			}
			for _, t := range p.manifest.Outputs {
				if !slices.Contains(reached, t) {
					reached = append(reached, t)
				}
			}
		}
	}
	return nil
}

// Remove stops a plugin and uninstalls it. Its position stays: deployed again, it
// goes on there.
func (h *Host) Remove(name string) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.ctx.Err() != nil {
		return ErrClosed
	}
	p := h.find(name)
	if p == nil {
		return fmt.Errorf("%w: %q", ErrUnknownPlugin, name)
	}
	err := p.close()
	h.mu.Lock()
	delete(h.plugins, name)
	h.mu.Unlock()
	return errors.Join(h.store.remove(name, p.entry), err)
}

// Refresh looks for new topics and partitions now.
func (h *Host) Refresh() {
	for _, p := range h.all() {
		p.refresh()
	}
}

// Logs returns the last n lines that a plugin wrote.
func (h *Host) Logs(name string, n int) ([]LogLine, error) {
	p := h.find(name)
	if p == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownPlugin, name)
	}
	return p.logs.last(n), nil
}

// Close stops all plugins, each at the end of the call it is in, and returns when
// all have. Nothing is lost: what is not committed is done again.
func (h *Host) Close() error {
	h.stop()
	h.closing.Do(func() {
		h.done.Wait()
		h.changing.Lock()
		defer h.changing.Unlock()
		all := h.all()
		for _, p := range all {
			p.stop()
		}
		var errs []error
		for _, p := range all {
			errs = append(errs, p.close())
		}
		h.closeErr = errors.Join(append(errs, h.engine.close())...)
	})
	return h.closeErr
}

func (h *Host) find(name string) *plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plugins[name]
}

// all is the plugins, by name.
func (h *Host) all() []*plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := slices.Sorted(maps.Keys(h.plugins))
	all := make([]*plugin, len(names))
	for i, name := range names {
		all[i] = h.plugins[name]
	}
	return all
}
