// Package fleet simulates sensor devices that publish to an MQTT broker at QoS 1.
//
// A device is an Eclipse paho client of its own: connection, session, packet
// identifiers and resending are paho's, so that the broker meets a peer which
// shares no code with it. Each device publishes numbered readings; the pair
// (device, seq) is unique, and that is what checkers count.
//
// A reading counts as acked when its PUBACK arrived, and only then. Readings
// without one are sent again, in order and with DUP set, on the next connection
// ([MQTT-4.4.0-1]); a broker may therefore hold a reading twice, never out of order.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxDevices bounds a fleet: a device costs about eight goroutines and 60 KB.
	MaxDevices = 10_000
	// MaxWindow bounds the unacked readings of one device; MQTT has 65,535 packet identifiers.
	MaxWindow = 1024
	// maxDialing is how many devices connect at the same moment.
	maxDialing = 64
)

// Options say what fleet to run. The zero value of each field means its default.
type Options struct {
	Broker   string        // host:port of the MQTT listener; required
	Devices  int           // default 1, at most MaxDevices
	Rate     float64       // readings per second and device; 0 means as fast as the window allows
	Duration time.Duration // how long to publish; 0 means until the context ends
	Seed     uint64        // of all randomness; the same seed gives the same readings

	// Name is the prefix of device names and client identifiers; default "dev".
	Name string
	// Replay, when set, replaces the random walks by recorded readings.
	Replay *Recording
	// TimeScale is how many recorded seconds pass per second; default 3600.
	TimeScale float64
	// BadPercent is the share of devices, 0 to 100, all of whose readings are invalid.
	BadPercent float64

	Window         int           // unacked readings per device; default 64, at most MaxWindow
	ConnectTimeout time.Duration // for one attempt; default 5 s
	WriteTimeout   time.Duration // after which a stuck connection is given up; default 5 s
	MaxBackoff     time.Duration // between attempts to connect; default 1 s
	DrainTimeout   time.Duration // how long to wait for outstanding acks at the end; default 10 s

	// OnSent is called before a reading can reach the wire for the first time,
	// OnAcked once its PUBACK arrived. Both are called in order for one device
	// and concurrently for several; they must be quick and must not call the fleet.
	OnSent, OnAcked func(Event)

	Logger *slog.Logger // nil discards
}

// Event names one reading.
type Event struct {
	Device int // from 0
	Name   string
	Seq    int64 // from 1, without gaps
	Bad    bool  // invalid on purpose, see Options.BadPercent
}

func (o Options) withDefaults() Options {
	defaults(&o.Devices, 1)
	defaults(&o.Name, "dev")
	defaults(&o.TimeScale, 3600)
	defaults(&o.Window, 64)
	defaults(&o.ConnectTimeout, 5*time.Second)
	defaults(&o.WriteTimeout, 5*time.Second)
	defaults(&o.MaxBackoff, time.Second)
	defaults(&o.DrainTimeout, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func defaults[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first option that cannot be used, and what would be right.
func (o Options) Validate() error {
	switch {
	case o.Broker == "":
		return errors.New("fleet: no broker address: give host:port of an MQTT listener")
	case o.Devices < 0 || o.Devices > MaxDevices:
		return fmt.Errorf("fleet: %d devices: give 1 to %d", o.Devices, MaxDevices)
	case o.Rate < 0 || o.Rate > 100_000:
		return fmt.Errorf("fleet: rate %g: give 0 to 100000 readings per second and device", o.Rate)
	case o.BadPercent < 0 || o.BadPercent > 100:
		return fmt.Errorf("fleet: %g %% bad devices: give 0 to 100", o.BadPercent)
	case o.Window < 0 || o.Window > MaxWindow:
		return fmt.Errorf("fleet: window of %d readings: give 1 to %d", o.Window, MaxWindow)
	case o.TimeScale < 0:
		return fmt.Errorf("fleet: time scale %g: give a positive number", o.TimeScale)
	}
	return nil
}

// Counts is a fleet's progress at one moment.
type Counts struct {
	Connected  int64 `json:"connected"`
	Sent       int64 `json:"sent"`        // readings given to paho
	Acked      int64 `json:"acked"`       // readings whose PUBACK arrived
	AckedBad   int64 `json:"acked_bad"`   // of these, invalid on purpose
	Reconnects int64 `json:"reconnects"`  // connections after a device's first
	Resent     int64 `json:"resent"`      // readings that went out again on a new connection
	StrayAcks  int64 `json:"stray_acks"`  // acks for nothing in flight: a broker's fault
	ConnFailed int64 `json:"conn_failed"` // attempts to connect that failed
}

// Report is what a fleet did.
type Report struct {
	Counts
	Devices    int           `json:"devices"`
	Seed       uint64        `json:"seed"`
	Elapsed    time.Duration `json:"elapsed_ns"` // of publishing, without the drain
	AckP50     time.Duration `json:"ack_p50_ns"` // from first send to PUBACK; within 20 %
	AckP99     time.Duration `json:"ack_p99_ns"`
	AckMax     time.Duration `json:"ack_max_ns"`
	LastError  string        `json:"last_error,omitempty"`
	AckedTotal *Ledger       `json:"-"` // which readings were acked
}

// Unacked is the number of readings whose fate is unknown.
func (r *Report) Unacked() int64 { return r.Sent - r.Acked }

// AckRate is acked readings per second.
func (r *Report) AckRate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Acked) / r.Elapsed.Seconds()
}

// Fleet is a number of devices. Make it with New, run it once with Run.
type Fleet struct {
	opts    Options
	devices []*device
	dialing chan struct{}
	ledger  *Ledger
	latency histogram

	connected, sent, acked, ackedBad, reconnects, resent, stray, connFailed atomic.Int64

	mu      sync.Mutex
	lastErr error
}

// New makes the devices; nothing connects before Run.
func New(o Options) (*Fleet, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	f := &Fleet{opts: o, dialing: make(chan struct{}, maxDialing), ledger: newLedger(o.Devices)}
	width := max(3, len(fmt.Sprint(o.Devices-1)))
	bad := int(o.BadPercent*float64(o.Devices)/100 + 0.999999)
	for i := range o.Devices {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(i)))
		d := &device{fleet: f, index: i, name: fmt.Sprintf("%s-%0*d", o.Name, width, i), rng: rng, bad: i < bad}
		d.outbox = outbox{device: d, space: make(chan struct{}, 1)}
		d.topic = "sensors/" + d.name + "/telemetry"
		if o.Replay != nil {
			d.source = o.Replay.play(rng, o.TimeScale)
		} else {
			d.source = newWalk(rng)
		}
		f.devices = append(f.devices, d)
	}
	return f, nil
}

// Run publishes until the context or Options.Duration ends, then waits for
// outstanding acks, disconnects and reports. It fails only when no device ever
// connected. All goroutines have ended when it returns.
func (f *Fleet) Run(ctx context.Context) (Report, error) {
	if f.opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.opts.Duration)
		defer cancel()
	}
	start := time.Now()
	drain, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(f.opts.DrainTimeout, stop) })

	var wg sync.WaitGroup
	for _, d := range f.devices {
		wg.Go(func() { d.run(ctx, drain) })
	}
	<-ctx.Done()
	elapsed := time.Since(start)
	wg.Wait()
	return f.report(elapsed)
}

// Counts may be called while Run runs.
func (f *Fleet) Counts() Counts {
	// Acked before sent, so that a snapshot never shows more acks than readings.
	c := Counts{AckedBad: f.ackedBad.Load(), Acked: f.acked.Load(), StrayAcks: f.stray.Load()}
	c.Sent, c.Connected, c.ConnFailed = f.sent.Load(), f.connected.Load(), f.connFailed.Load()
	c.Reconnects, c.Resent = f.reconnects.Load(), f.resent.Load()
	return c
}

func (f *Fleet) report(elapsed time.Duration) (Report, error) {
	r := Report{Counts: f.Counts(), Devices: len(f.devices), Seed: f.opts.Seed, Elapsed: elapsed, AckedTotal: f.ledger}
	r.AckP50, r.AckP99, r.AckMax = f.latency.quantile(0.5), f.latency.quantile(0.99), f.latency.max()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lastErr != nil {
		r.LastError = f.lastErr.Error()
	}
	if r.Sent == 0 && f.lastErr != nil {
		return r, fmt.Errorf("fleet: no device reached the broker at %s: %w", f.opts.Broker, f.lastErr)
	}
	return r, nil
}

func (f *Fleet) failed(err error) {
	f.mu.Lock()
	f.lastErr = err
	f.mu.Unlock()
}

// Run makes a fleet and runs it.
func Run(ctx context.Context, o Options) (Report, error) {
	f, err := New(o)
	if err != nil {
		return Report{}, err
	}
	return f.Run(ctx)
}
