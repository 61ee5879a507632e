package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirmq/weir/testbed/demo"
	"github.com/weirmq/weir/testbed/fleet"
)

type benchCmd struct {
	Fleet benchFleetCmd `cmd:"" help:"Publish to an MQTT broker as a fleet of simulated devices."`
	Demo  benchDemoCmd  `cmd:"" help:"Play edge, core, devices, transform and mirror in this terminal."`
}

// fleetFlags say what devices to simulate.
type fleetFlags struct {
	Devices   int           `default:"200" help:"Simulated devices (${default})."`
	Rate      float64       `default:"5" help:"Readings per second and device (${default}); 0: as fast as acks come."`
	Duration  time.Duration `placeholder:"TIME" help:"How long to publish, such as 30s; default: until Ctrl-C."`
	Replay    string        `type:"path" placeholder:"FILE" help:"Publish recorded readings: a CSV with date, pressure, temperature and wind."`
	TimeScale float64       `default:"3600" help:"Recorded seconds that pass in one second (${default})."`
	Bad       float64       `placeholder:"PERCENT" help:"Share of devices that send invalid readings only."`
	Seed      uint64        `help:"Seed of all randomness; default: a new one, which is printed."`
}

// recording reads the file to replay, nil if there is none, and picks a seed.
func (f *fleetFlags) recording() (*fleet.Recording, error) {
	if f.Seed == 0 {
		f.Seed = uint64(time.Now().UnixNano())
	}
	if f.Replay == "" {
		return nil, nil
	}
	rec, err := fleet.LoadRecording(f.Replay)
	if err != nil {
		return nil, failf(exitUsage, "--replay: %w", err)
	}
	return rec, nil
}

type benchFleetCmd struct {
	fleetFlags
	MQTT   string `name:"mqtt" placeholder:"HOST:PORT" default:"127.0.0.1:1883" env:"WEIR_MQTT" help:"MQTT broker (${default})."`
	Window int    `default:"64" help:"Unacknowledged readings per device (${default})."`
}

func (c *benchFleetCmd) Run(s *session) error {
	rec, err := c.recording()
	if err != nil {
		return err
	}
	f, err := fleet.New(fleet.Options{
		Broker: c.MQTT, Devices: c.Devices, Rate: c.Rate, Duration: c.Duration, Seed: c.Seed,
		Replay: rec, TimeScale: c.TimeScale, BadPercent: c.Bad, Window: c.Window,
	})
	if err != nil {
		return failf(exitUsage, "%w", err)
	}
	report, err := c.run(s, f)
	if err != nil {
		return failf(exitUnreachable, "%w: is weir serve running? give its address with --mqtt HOST:PORT", err)
	}
	if err := s.show(fleetResult{report, report.AckRate(), report.Unacked()}, func(w io.Writer) { printFleet(w, &report) }); err != nil {
		return err
	}
	if report.Unacked() > 0 {
		return failf(exitUnhealthy, "%d readings were not acknowledged: %s", report.Unacked(), report.LastError)
	}
	return nil
}

// run runs the fleet and, unless JSON is wanted, says every second how it goes.
func (c *benchFleetCmd) run(s *session, f *fleet.Fleet) (fleet.Report, error) {
	if s.json {
		return f.Run(s.ctx)
	}
	fmt.Fprintf(s.out, "%d devices, %g readings a second each, to %s, seed %d\n", c.Devices, c.Rate, c.MQTT, c.Seed)
	watching, stop := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { c.watch(watching, s.out, f) })
	return f.Run(s.ctx)
}

// fleetResult is the report under --json.
type fleetResult struct {
	fleet.Report
	AckedPerSecond float64 `json:"acked_per_second"`
	Unacked        int64   `json:"unacked"`
}

func (c *benchFleetCmd) watch(ctx context.Context, w io.Writer, f *fleet.Fleet) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := f.Counts(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := f.Counts()
		fmt.Fprintf(w, "%d connected, %d sent, %d acked, %d/s\n", now.Connected, now.Sent, now.Acked, now.Acked-last.Acked)
		last = now
	}
}

func printFleet(w io.Writer, r *fleet.Report) {
	fmt.Fprintf(w, "%d readings sent, %d acked, %.0f/s over %v\n", r.Sent, r.Acked, r.AckRate(), r.Elapsed.Round(time.Millisecond))
	fmt.Fprintf(w, "ack delay: median %v, 99%% within %v, longest %v\n",
		r.AckP50.Round(10*time.Microsecond), r.AckP99.Round(10*time.Microsecond), r.AckMax.Round(10*time.Microsecond))
	if r.Reconnects > 0 || r.ConnFailed > 0 {
		fmt.Fprintf(w, "%d reconnects, %d readings sent again, %d failed attempts to connect; last error: %s\n", r.Reconnects, r.Resent, r.ConnFailed, r.LastError)
	}
	if r.AckedBad > 0 {
		fmt.Fprintf(w, "%d of the acked readings were invalid on purpose\n", r.AckedBad)
	}
}

type benchDemoCmd struct {
	fleetFlags
	Plugin string `type:"path" placeholder:"FILE" help:"The transform, which reads the topic mqtt and writes telemetry; default: guests/telemetry.wasm beside this program, where make guests puts it."`
	Log    string `type:"path" placeholder:"FILE" help:"Write the logs of both appliances there."`
	Keep   bool   `help:"Leave the data folders of both appliances there."`
}

func (c *benchDemoCmd) Run(s *session) (err error) {
	rec, err := c.recording()
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	if c.Plugin == "" {
		c.Plugin = filepath.Join(filepath.Dir(binary), "guests", "telemetry.wasm")
	}
	if _, err := os.Stat(c.Plugin); err != nil {
		return failf(exitUsage, "the transform is not there: %w: run make guests, or name a file with --plugin", err)
	}
	o := demo.Options{
		Binary: binary, Plugin: c.Plugin, Devices: c.Devices, Rate: c.Rate, Duration: c.Duration, Replay: rec,
		TimeScale: c.TimeScale, BadPercent: c.Bad, Seed: c.Seed, Keep: c.Keep, Out: s.out, Terminal: isTerminal(s.out),
	}
	if s.json {
		o.Out, o.Terminal = s.err, false
	}
	if c.Log != "" {
		f, err := os.Create(c.Log)
		if err != nil {
			return failf(exitUsage, "--log: %w", err)
		}
		defer f.Close()
		o.Log = f
	}
	abort, stop := secondInterrupt(s.ctx)
	defer stop()
	v, err := demo.Run(s.ctx, abort, o)
	if v != nil {
		if err := s.show(v, func(w io.Writer) { fmt.Fprintln(w, v) }); err != nil {
			return err
		}
	}
	if err == nil && !v.OK() {
		err = errors.New("the core does not have exactly what the edge acknowledged")
	}
	return err
}

// secondInterrupt returns a context that lives on when ctx ends, by the first
// Ctrl-C, and ends at the next one.
func secondInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	abort, cancel := context.WithCancel(context.WithoutCancel(ctx))
	interrupts := make(chan os.Signal, 1)
	go func() {
		defer signal.Stop(interrupts)
		select {
		case <-ctx.Done():
		case <-abort.Done():
			return
		}
		signal.Notify(interrupts, os.Interrupt)
		select {
		case <-interrupts:
			cancel()
		case <-abort.Done():
		}
	}()
	return abort, cancel
}

// isTerminal reports whether w is a character device, so that it can be drawn on.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
