// Package chaos kills a real weir process again and again under MQTT and Kafka
// load, and then asks the checker whether every acknowledgement was kept.
//
// The load never stops: simulated devices publish at QoS 1, idempotent Kafka
// producers write with acks=all, a consumer group reads and commits. Some kills
// hit the process while it recovers from the one before. At the end everything
// is read back by Kafka and judged against what the clients were told.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirmq/weir/testbed/checker"
	"github.com/weirmq/weir/testbed/site"
)

// Busy is a configuration under which rolls of segments, recycling of the
// write-ahead log's files, checkpoints and retention happen all the time.
const Busy = `
storage:
  commit.max.bytes: 64Ki
  wal.file.bytes: 256Ki
  wal.files: 4
  checkpoint.interval: 200ms
kafka:
  num.partitions: 4
  message.max.bytes: 64Ki
  log.segment.bytes: 64Ki
  log.retention.check.interval: 100ms
  log.cleaner.backoff: 50ms
`

// Options of a run. The zero value of each field but Dir means its default.
type Options struct {
	Binary string // default: site.Binary()
	Dir    string // data directory; required
	Config string // contents of weir.yaml; default: Busy
	Seed   uint64
	Cycles int // kills; default 200

	Devices    int     // MQTT devices; default 12
	DeviceRate float64 // readings per second and device; default 100
	Producers  int     // Kafka producers; default 3
	Partitions int     // of the Kafka topic; default 4

	MinUp, MaxUp  time.Duration // how long the process lives after it was ready; default 20 ms, 1.5 s
	RecoveryKills float64       // share of cycles with a further kill during recovery; default 0.3, below 0 none
	DrainTimeout  time.Duration // for clients to get the rest acked; default 60 s

	// Fault ends a life of the process and does to its disk what the test is about,
	// while the clients go on; the next start must then find all that was acked. It
	// leaves no process behind. nil kills the process.
	Fault func(context.Context, *site.Site) error

	Logf func(format string, args ...any) // progress; nil discards
}

func (o Options) withDefaults() Options {
	set(&o.Cycles, 200)
	set(&o.Devices, 12)
	set(&o.DeviceRate, 100)
	set(&o.Producers, 3)
	set(&o.Partitions, 4)
	set(&o.MinUp, 20*time.Millisecond)
	set(&o.MaxUp, 1500*time.Millisecond)
	set(&o.RecoveryKills, 0.3)
	set(&o.DrainTimeout, time.Minute)
	set(&o.Config, Busy)
	if o.Fault == nil {
		o.Fault = func(_ context.Context, s *site.Site) error { s.Kill(); return nil }
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Result is what a run found.
type Result struct {
	*checker.Result
	Kills         int
	RecoveryKills int             // of these, before the process was ready
	Ready         []time.Duration // from each launch until ready, sorted
	Elapsed       time.Duration
	Compactions   int              // logs compacted, as far as was seen before each kill
	Trimmed       map[string]int64 // log start offsets at the end of the topics that lose records
	Refused       error            // what a client could not live with, nil if there was nothing
}

// OK reports whether every promise was kept.
func (r *Result) OK() bool { return r.Refused == nil && r.Result.OK() }

func (r *Result) String() string {
	text := fmt.Sprintf("%d kills, %d of them during recovery, ready again after %v (median), %v (worst), in %v\n%d logs compacted; log starts %v\n%v",
		r.Kills, r.RecoveryKills, r.Ready[len(r.Ready)/2].Round(time.Millisecond), r.Ready[len(r.Ready)-1].Round(time.Millisecond),
		r.Elapsed.Round(time.Second), r.Compactions, r.Trimmed, r.Result)
	if r.Refused != nil {
		text += fmt.Sprintf("\nA client was refused: %v", r.Refused)
	}
	return text
}

// errUnsound is wrapped by what weir log verify has found.
var errUnsound = errors.New("the files are not sound")

// run is one run's state.
type run struct {
	Options
	rng     *rand.Rand
	site    *site.Site
	history *checker.History
	load    *load
	result  Result
}

// Run starts weir on an empty data directory, does the cycles and judges them.
// The error says that the run could not be done; anomalies are in the Result.
func Run(ctx context.Context, o Options) (*Result, error) {
	o = o.withDefaults()
	s, err := site.New(site.Options{Binary: o.Binary, Dir: o.Dir, Config: o.Config, Host: site.LoopbackHost()})
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	r := &run{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0)), site: s, history: checker.New()}
	start := time.Now()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	if r.load, err = newLoad(ctx, o, s.Addresses(), r.history); err != nil {
		return nil, err
	}
	if err = r.load.warmUp(ctx); err == nil {
		err = r.cycles(ctx)
	}
	if err != nil {
		o.Logf("giving up: %v", err)
		r.load.abort() // nobody is there to acknowledge the rest
	}
	r.result.Refused = r.load.stop()
	if err == nil {
		err = r.readBack(ctx)
	}
	if errors.Is(err, errUnread) || errors.Is(err, errUnsound) { // a finding: the checker says what is missing
		r.result.Refused, err = errors.Join(r.result.Refused, err), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; weir's log:\n%s", errors.Join(err, r.result.Refused), s.Output())
	}
	r.result.Elapsed = time.Since(start)
	r.result.Result = r.history.Check()
	return &r.result, nil
}

// start launches the site and notes how long it took to be ready.
func (r *run) start(ctx context.Context) error {
	began := time.Now()
	if err := r.site.Start(ctx); err != nil {
		return err
	}
	r.result.Ready = append(r.result.Ready, time.Since(began))
	slices.Sort(r.result.Ready)
	return nil
}

func (r *run) cycles(ctx context.Context) error {
	reported := 0
	for cycle := 1; cycle <= r.Cycles; {
		if err := r.live(ctx, r.lifetime()); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		if err := r.kill(ctx, false); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		cycle++
		for cycle <= r.Cycles && r.rng.Float64() < r.RecoveryKills {
			if err := r.site.Launch(); err != nil {
				return err
			}
			if err := r.live(ctx, time.Duration(r.rng.Int64N(int64(r.recovery())))); err != nil {
				return fmt.Errorf("cycle %d, in recovery: %w", cycle, err)
			}
			if err := r.kill(ctx, true); err != nil {
				return fmt.Errorf("cycle %d, in recovery: %w", cycle, err)
			}
			cycle++
		}
		if err := r.start(ctx); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		if err := r.load.checkCommits(); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		if r.result.Kills/50 > reported {
			reported = r.result.Kills / 50
			r.Logf("%d kills; %v", r.result.Kills, r.load)
		}
	}
	return nil
}

// lifetime is short for most, since what a kill can hit happens many times in it,
// and for some long enough for what happens each second.
func (r *run) lifetime() time.Duration {
	span := r.MaxUp - r.MinUp
	if r.rng.IntN(6) > 0 {
		span /= 5
	}
	return r.MinUp + time.Duration(r.rng.Int64N(int64(span)+1))
}

// recovery is the time that kills during recovery are spread over.
func (r *run) recovery() time.Duration {
	return r.result.Ready[len(r.result.Ready)/2] + time.Millisecond
}

// live lets the process run for a while; it must not end by itself.
func (r *run) live(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.site.Exited():
		return fmt.Errorf("%w by itself, code %d", site.ErrExited, r.site.ExitCode())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) kill(ctx context.Context, recovering bool) error {
	if !recovering {
		r.countCompactions(ctx)
	}
	if err := r.Fault(ctx, r.site); err != nil {
		return err
	}
	r.history.Restarted()
	r.result.Kills++
	if recovering {
		r.result.RecoveryKills++
	}
	return nil
}

// countCompactions adds what the process that is about to end has compacted. What it
// cannot tell any more is not counted.
func (r *run) countCompactions(ctx context.Context) {
	if n, err := r.site.Metric(ctx, "weir_cleaner_runs_total"); err == nil {
		r.result.Compactions += int(n)
	}
}

// readBack reads everything after a clean stop and start, which must lose
// nothing either.
func (r *run) readBack(ctx context.Context) error {
	code, err := r.site.Stop(30 * time.Second)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	r.history.Restarted()
	if err := r.start(ctx); err != nil {
		return err
	}
	err = readAll(ctx, r.site.Addresses().Kafka, r.history, r.DrainTimeout, kafkaTopic, mqttTopic, deletedTopic, limitedTopic, compactedTopic)
	if errors.Is(err, errUnread) { // what waits for what is in the stacks
		r.site.Stacks()
		return fmt.Errorf("%w; weir's log:\n%s", err, r.site.Output())
	}
	if err != nil {
		return err
	}
	if r.result.Trimmed, err = logStarts(ctx, r.site.Addresses().Kafka); err != nil {
		return err
	}
	r.countCompactions(ctx)
	if code, err = r.site.Stop(30 * time.Second); err == nil && code != 0 {
		err = errors.New("exit code is not 0 after SIGTERM")
	}
	if err != nil {
		return err
	}
	return r.verify(ctx)
}

// verify wants the stopped box's files to be sound, whatever they went through.
func (r *run) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.DrainTimeout)
	defer cancel()
	if out, err := r.site.Command(ctx, "log", "verify", r.Dir); err != nil {
		return fmt.Errorf("%w: %w\n%s", errUnsound, err, out)
	}
	return nil
}
