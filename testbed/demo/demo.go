// Package demo is Weir's whole journey in one terminal: simulated devices publish
// to an edge appliance, a plugin transforms their readings, a mirror carries them
// to a core appliance, and at the end every reading is counted there.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirmq/weir/testbed/fleet"
	"github.com/weirmq/weir/testbed/site"
)

const (
	redrawInterval = 500 * time.Millisecond // on a terminal
	lineInterval   = 2 * time.Second        // elsewhere
	stopTimeout    = 15 * time.Second
)

// Options of a demo. The zero value of each field means its default.
type Options struct {
	Binary string // default: site.Binary()
	Dir    string // where the folder for both appliances is made; default: the system's temporary one
	Keep   bool   // leave that folder there

	// Plugin is the transform, a .wasm file that reads the topic mqtt and writes
	// Topic. Without one, set Topic to "mqtt": readings are mirrored as they came.
	Plugin string
	Topic  string // what the mirror carries; default "telemetry"

	Devices    int     // default 200
	Rate       float64 // readings per second and device; default 5
	Replay     *fleet.Recording
	TimeScale  float64
	BadPercent float64
	Seed       uint64
	Duration   time.Duration // 0: until the context ends

	// DrainTimeout is how long transform and mirror may stand still at the end
	// while readings are missing; default 20 s.
	DrainTimeout time.Duration

	Out      io.Writer // default: discarded
	Terminal bool      // Out is one: redraw in place
	Log      io.Writer // gets the logs of both appliances; may be nil
}

func (o Options) withDefaults() Options {
	set(&o.Topic, "telemetry")
	set(&o.Devices, 200)
	set(&o.Rate, 5)
	set(&o.DrainTimeout, 20*time.Second)
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// demo is one run's state.
type demo struct {
	Options
	dir        string
	edge, core *site.Site
	fleet      *fleet.Fleet
}

// Run plays the demo until ctx or Options.Duration ends, then stops the devices,
// lets transform and mirror finish and counts. Ending abort cuts all of that short.
func Run(ctx, abort context.Context, o Options) (_ *Verdict, err error) {
	d := &demo{Options: o.withDefaults()}
	if d.dir, err = os.MkdirTemp(d.Dir, "weir-demo-"); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if !d.Keep {
		defer os.RemoveAll(d.dir)
	}
	defer func() {
		for _, s := range []*site.Site{d.edge, d.core} {
			if s != nil {
				s.Kill() // what was not stopped in order
			}
		}
	}()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil { // what failed is only that it was stopped
			err = ctx.Err()
		}
		return nil, fmt.Errorf("demo: %w", err)
	}
	report, err := d.play(ctx)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	v, err := d.count(abort, &report)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if err := d.stop(); err != nil {
		return v, fmt.Errorf("demo: %w", err)
	}
	return v, nil
}

// start brings up the core, then the edge that mirrors to it, then the plugin.
func (d *demo) start(ctx context.Context) (err error) {
	d.say("starting a core and an edge appliance in %s", d.dir)
	if d.core, err = d.startSite(ctx, "core", "site: core\n"); err != nil {
		return err
	}
	config := fmt.Sprintf(`site: edge
mirror:
  flows:
    - name: to-core
      to: [%s]
      topics: [%s]
      rename: "{site}.{topic}"
`, d.core.Addresses().Kafka, d.Topic)
	if d.edge, err = d.startSite(ctx, "edge", config); err != nil {
		return err
	}
	if d.Plugin != "" {
		d.say("deploying the transform %s, which is compiled to native code once", filepath.Base(d.Plugin))
		if _, err = d.edge.Command(ctx, "plugin", "deploy", d.Plugin, "--http", d.edge.Addresses().HTTP); err != nil {
			return err
		}
	}
	d.fleet, err = fleet.New(fleet.Options{
		Broker: d.edge.Addresses().MQTT, Devices: d.Devices, Rate: d.Rate, Duration: d.Duration, Seed: d.Seed,
		Replay: d.Replay, TimeScale: d.TimeScale, BadPercent: d.BadPercent,
	})
	return err
}

func (d *demo) startSite(ctx context.Context, name, config string) (*site.Site, error) {
	s, err := site.Start(ctx, site.Options{Binary: d.Binary, Dir: filepath.Join(d.dir, name), Config: config, Log: d.Log})
	if err != nil {
		return nil, fmt.Errorf("%s appliance: %w", name, err)
	}
	return s, nil
}

// play runs the devices and shows what the appliances say meanwhile.
func (d *demo) play(ctx context.Context) (fleet.Report, error) {
	d.say("edge console http://%s   core console http://%s   kafka %s", d.edge.Addresses().HTTP, d.core.Addresses().HTTP, d.core.Addresses().Kafka)
	d.say("%d devices publish %g readings a second each, seed %d; Ctrl-C ends and counts\n", d.Devices, d.Rate, d.Seed)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { d.watch(watching) })
	report, err := d.fleet.Run(ctx)
	stop()
	wg.Wait()
	return report, err
}

func (d *demo) watch(ctx context.Context) {
	interval := lineInterval
	if d.Terminal {
		interval = redrawInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	view := &view{out: d.Out, terminal: d.Terminal, started: time.Now()}
	for {
		select {
		case <-tick.C:
			if s := d.sample(ctx); ctx.Err() == nil {
				view.show(s)
			}
		case <-ctx.Done():
			view.show(d.sample(context.WithoutCancel(ctx)))
			return
		}
	}
}

// sample asks everybody at one moment. An appliance that does not answer shows zeros.
func (d *demo) sample(ctx context.Context) sample {
	s := sample{at: time.Now(), fleet: d.fleet.Counts(), mirrored: d.mirrored()}
	s.edge, s.edgeErr = d.edge.Status(ctx)
	s.core, s.coreErr = d.core.Status(ctx)
	return s
}

// stop ends both appliances in order; each must end cleanly.
func (d *demo) stop() error {
	for name, s := range map[string]*site.Site{"edge": d.edge, "core": d.core} {
		code, err := s.Stop(stopTimeout)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if code != 0 {
			return fmt.Errorf("%s appliance: exit code %d, its last words:\n%s", name, code, s.Output())
		}
	}
	return nil
}

// mirrored is the topic's name at the core.
func (d *demo) mirrored() string { return "edge." + d.Topic }

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, format+"\n", args...)
}
