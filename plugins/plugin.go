package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/plugins/transform"
)

// DeadLetterPrefix and the plugin's name make its dead-letter topic.
const DeadLetterPrefix = "__weir_dead_letter."

// plugin is an installed plugin and its tasks, one for each input partition.
type plugin struct {
	host     *Host
	manifest Manifest // overrides applied
	entry    entry
	size     int
	program  *program // nil when it cannot run: err says why
	logs     *logRing
	counters transform.Counters
	usage    usage

	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup // tasks

	mu    sync.Mutex // guards err, tasks
	err   error
	tasks map[record.TopicPartition]*task
}

// task is a transform.Task that has been started.
type task struct {
	*transform.Task
	input record.TopicPartition
	stop  context.CancelFunc
}

func (h *Host) newPlugin(m Manifest, e entry, size int) *plugin {
	p := &plugin{host: h, manifest: m, entry: e, size: size, logs: newLogRing(h.o.Logger, m.Name), tasks: map[record.TopicPartition]*task{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// build compiles the module.
func (p *plugin) build(module []byte) error {
	limits, err := p.host.o.grant(p.manifest.Limits)
	if err != nil {
		return err
	}
	p.manifest.Limits = limits
	if p.program, err = p.host.engine.compile(module, limits); err != nil {
		return err
	}
	p.program.logs, p.program.start, p.program.config = p.logs, p.host.o.StartTime, p.manifest.Config
	return nil
}

// try starts an instance and ends it: what cannot start is not installed.
func (p *plugin) try(ctx context.Context) error {
	r := p.newRunner()
	defer r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.start(ctx)
}

func (p *plugin) newRunner() *runner {
	return &runner{program: p.program, budget: p.host.budget, usage: &p.usage}
}

// refresh starts a task for each input partition that has none, and ends those
// whose partition is gone.
func (p *plugin) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program == nil || p.ctx.Err() != nil {
		return
	}
	p.err = nil
	wanted := map[record.TopicPartition]int{}
	for i, topic := range p.manifest.Inputs {
		for n := range p.host.o.Topics.Partitions(topic) {
			wanted[record.TopicPartition{Topic: topic, Partition: n}] = i
		}
	}
	for tp, t := range p.tasks {
		if _, ok := wanted[tp]; !ok {
			t.stop()
			delete(p.tasks, tp)
			p.host.positions.forget(transform.GroupPrefix+p.manifest.Name, tp)
		}
	}
	for tp, i := range wanted {
		if p.tasks[tp] != nil {
			continue
		}
		if err := p.startTask(tp, i); err != nil {
			p.err = err
			return
		}
	}
}

func (p *plugin) startTask(tp record.TopicPartition, inputTopic int) error {
	o := &p.host.o
	sinks := make([]transform.Sink, len(p.manifest.Outputs))
	for i, topic := range p.manifest.Outputs {
		n, err := o.Topics.Ensure(topic, 0, false)
		if err != nil {
			return fmt.Errorf("output topic %s: %w", topic, err)
		}
		sinks[i] = transform.Sink{Topic: topic, Partitions: n}
	}
	dead := record.TopicPartition{Topic: DeadLetterPrefix + p.manifest.Name}
	if p.manifest.OnFailure == transform.DeadLetter {
		if _, err := o.Topics.Ensure(dead.Topic, 1, true); err != nil {
			return fmt.Errorf("dead-letter topic %s: %w", dead.Topic, err)
		}
	}
	r := p.newRunner()
	t := &task{input: tp, Task: transform.New(transform.Options{
		Plugin: p.manifest.Name, Input: tp, InputTopic: inputTopic, Outputs: sinks,
		Policy: p.manifest.OnFailure, DeadLetter: dead,
		Transformer: r, Log: o.Log, Positions: &p.host.positions, Counters: &p.counters, Logger: o.Logger,
		MaxRecords: o.MaxRecords, MaxBytes: o.MaxBytes, MaxBatchBytes: o.MaxBatchBytes, MaxOutputBytes: o.MaxOutputBytes,
		BreakAfter: o.BreakAfter, MinBackoff: o.MinBackoff, MaxBackoff: o.MaxBackoff,
	})}
	var ctx context.Context
	ctx, t.stop = context.WithCancel(p.ctx)
	p.tasks[tp] = t
	p.done.Go(func() {
		defer r.close()
		if err := t.Run(ctx); err != nil {
			o.Logger.Log(ctx, level(err), "plugin stopped", "plugin", p.manifest.Name, "input", tp, "err", err)
		}
	})
	return nil
}

// level of a task's end: a log that closes is no news.
func level(err error) slog.Level {
	if errors.Is(err, record.ErrClosed) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// close stops the tasks, waits for them and frees the code.
func (p *plugin) close() error {
	p.stop()
	// Wait for a refresh that runs: no task starts after it, since it looks at ctx.
	p.mu.Lock()
	//lint:ignore SA2001 the wait is the point
	p.mu.Unlock()
	p.done.Wait()
	if p.program == nil {
		return nil
	}
	return p.program.close()
}

func (p *plugin) allTasks() []*task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.tasks), func(a, b *task) int {
		return comparePartitions(a.input, b.input)
	})
}
