package transform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// GroupPrefix and the plugin's name make the group that holds its positions.
const GroupPrefix = "__weir.plugin."

// Limits, where Options say nothing else.
const (
	DefaultMaxRecords     = 2000
	DefaultMaxBytes       = 1 << 20
	DefaultMaxBatchBytes  = 512 << 10
	DefaultMaxOutputBytes = 4 << 20
	DefaultBreakAfter     = 10
	DefaultMinBackoff     = time.Second
	DefaultMaxBackoff     = time.Minute
)

// Options describe one task. Zero means the default of the same name.
type Options struct {
	Plugin     string // name; the group is GroupPrefix+Plugin
	Input      record.TopicPartition
	InputTopic int // index of Input.Topic among the plugin's inputs
	Outputs    []Sink
	Policy     Policy
	DeadLetter record.TopicPartition // must exist when Policy is DeadLetter

	Transformer Transformer
	Log         Log
	Positions   Positions
	Counters    *Counters // shared by a plugin's tasks; nil: the task's own
	Logger      *slog.Logger

	MaxRecords     int           // given to one call
	MaxBytes       int           // of keys, values and headers given to one call; also of one fetch
	MaxBatchBytes  int           // of one batch written, before it is encoded
	MaxOutputBytes int           // of keys, values and headers in one commit
	BreakAfter     int           // failed records in a row after which the task backs off
	MinBackoff     time.Duration // doubled at each further failure
	MaxBackoff     time.Duration
}

func (o *Options) setDefaults() {
	setDefault(&o.MaxRecords, DefaultMaxRecords)
	setDefault(&o.MaxBytes, DefaultMaxBytes)
	setDefault(&o.MaxBatchBytes, DefaultMaxBatchBytes)
	setDefault(&o.MaxOutputBytes, DefaultMaxOutputBytes)
	setDefault(&o.BreakAfter, DefaultBreakAfter)
	setDefault(&o.MinBackoff, DefaultMinBackoff)
	setDefault(&o.MaxBackoff, DefaultMaxBackoff)
	setDefault(&o.Policy, DeadLetter)
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](v *T, d T) {
	if *v == *new(T) {
		*v = d
	}
}

// Counters are a plugin's figures. They count what is committed.
type Counters struct {
	In, Out     atomic.Int64 // records
	Rejected    atomic.Int64 // by the transformer, in good order
	Poisoned    atomic.Int64 // records it failed on
	DeadLetters atomic.Int64
	Skipped     atomic.Int64
	Lost        atomic.Int64 // removed by retention before they were read
	Failures    atomic.Int64 // failed calls, those that searched for the record at fault included
	Commits     atomic.Int64
}

// State is what a task is doing.
type State string

const (
	Running State = "running"
	BackOff State = "backing off"
	Stopped State = "stopped"
)

// Status is a task as it is now.
type Status struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	State     State  `json:"state"`
	Position  int64  `json:"position"` // next offset to read, committed
	Lag       int64  `json:"lag"`      // records committed after it
	Error     string `json:"error,omitempty"`
}

// Task transforms one partition. Run it once, on a goroutine of its own.
type Task struct {
	o       Options
	group   string
	in      Input
	out     *Output
	reader  reader
	buf     []record.Record
	writes  []record.Write
	pos     int64 // what is committed
	known   bool  // pos has been read
	limit   int   // records per call: grows and shrinks with the time calls take
	failed  int   // records failed in a row
	backoff time.Duration
	tally   tally

	mu     sync.Mutex // guards status
	status Status
}

// tally is what the round in progress will count once it is committed.
type tally struct{ poisoned, rejected, dead, skipped int64 }

// New makes a task.
func New(o Options) *Task {
	out := NewOutput(&o)
	t := &Task{o: o, group: GroupPrefix + o.Plugin, out: out, limit: o.MaxRecords}
	t.in.TopicPartition, t.in.Topic = o.Input, o.InputTopic
	t.status = Status{Topic: o.Input.Topic, Partition: o.Input.Partition, State: Running, Position: -1}
	return t
}

// Status is the task as it is now.
func (t *Task) Status() Status {
	t.mu.Lock()
	s := t.status
	t.mu.Unlock()
	if _, hw, err := t.o.Log.Offsets(t.o.Input); err == nil && s.Position >= 0 {
		s.Lag = max(0, hw-s.Position)
	}
	return s
}

func (t *Task) note(state State, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.State, t.status.Position = state, t.pos
	switch {
	case err != nil:
		t.status.Error = err.Error()
	case state == Running:
		t.status.Error = ""
	}
}

// Run works until ctx ends, when it returns nil. It returns an error when going
// on makes no sense: a record failed and the policy is Stop, or the log failed or closed.
func (t *Task) Run(ctx context.Context) error {
	for {
		err := t.work(ctx)
		if ctx.Err() != nil {
			t.note(Stopped, nil)
			return nil
		}
		if errors.Is(err, ErrStopped) || errors.Is(err, record.ErrStorage) || errors.Is(err, record.ErrClosed) {
			t.note(Stopped, err)
			return err
		}
		t.backoff = min(max(2*t.backoff, t.o.MinBackoff), t.o.MaxBackoff)
		t.note(BackOff, err)
		t.o.Logger.Warn("plugin backs off", "plugin", t.o.Plugin, "input", t.o.Input, "position", t.pos, "for", t.backoff, "err", err)
		wait := time.NewTimer(t.backoff)
		select {
		case <-ctx.Done():
			wait.Stop()
		case <-wait.C:
		}
	}
}

// work reads and transforms from the committed position on, until an error.
func (t *Task) work(ctx context.Context) error {
	if !t.known {
		pos, err := t.start()
		if err != nil {
			return err
		}
		t.pos, t.known = pos, true
	}
	t.note(Running, nil)
	for ctx.Err() == nil { // Fetch looks at ctx only when it has to wait
		raw, err := t.o.Log.Fetch(ctx, t.o.Input, t.pos, t.o.MaxBytes)
		if errors.Is(err, record.ErrOffsetOutOfRange) {
			err = t.skipGap()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read %s at offset %d: %w", t.o.Input, t.pos, err)
		}
		t.reader.reset(raw)
		for !t.reader.empty() && ctx.Err() == nil {
			if err := t.rounds(ctx); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// start is the committed position or, for a plugin that has none, the log's start.
func (t *Task) start() (int64, error) {
	pos, ok, err := t.o.Positions.Committed(t.group, t.o.Input)
	if err != nil {
		return 0, fmt.Errorf("position of group %s in %s: %w", t.group, t.o.Input, err)
	}
	if ok {
		return pos, nil
	}
	pos, _, err = t.o.Log.Offsets(t.o.Input)
	return pos, err
}

// skipGap goes on at the start of a log that no longer, or not yet, has the
// position: retention was faster than the plugin, or the topic was made anew.
func (t *Task) skipGap() error {
	start, end, err := t.o.Log.Offsets(t.o.Input)
	if err != nil {
		return err
	}
	if t.pos >= start && t.pos <= end {
		return record.ErrOffsetOutOfRange
	}
	lost := max(0, start-t.pos)
	t.o.Counters.Lost.Add(lost)
	t.o.Logger.Error("plugin's position is not in the log; it goes on at the log's start",
		"plugin", t.o.Plugin, "input", t.o.Input, "position", t.pos, "log_start", start, "log_end", end, "records_lost", lost)
	t.pos = start
	return nil
}
