// Package transform runs topic-to-topic tasks: it reads a partition, hands the
// records to a Transformer and commits what comes out together with the position
// it was made from, in one AppendAtomic. So every input record has its effect
// exactly once, whatever happens in between.
//
// The package knows nothing of WebAssembly; a Transformer may be anything that
// turns records into records and can fail. When it fails, the Task halves the
// records until it has found the one at fault, and a Policy says what becomes of
// that record. The others go on.
package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/appliance/record"
)

// Policy says what becomes of a record that the Transformer rejects or fails on.
type Policy string

const (
	// DeadLetter writes it, with the cause in its headers, to the dead-letter topic.
	DeadLetter Policy = "dead-letter"
	// Skip counts it and goes on.
	Skip Policy = "skip"
	// Stop ends the task before it; a restart tries it again.
	Stop Policy = "stop"
)

// Validate refuses an unknown policy.
func (p Policy) Validate() error {
	switch p {
	case DeadLetter, Skip, Stop:
		return nil
	}
	return fmt.Errorf("on_failure %q: use %q, %q or %q", p, Skip, DeadLetter, Stop)
}

// Input is the records of one call.
type Input struct {
	record.TopicPartition
	Topic   int // index of the topic among the inputs
	NowMs   int64
	Records []record.Record // HeaderBlock is set, Headers are not
}

// Transformer turns records into records. It is called by one Task at a time.
type Transformer interface {
	// Transform reads in and adds to out; both are valid until it returns. It
	// calls out.Reserve before it adds, and adds nothing when it returns an error.
	// An error that wraps ErrUnavailable blames no record, any other blames one of in.
	Transform(ctx context.Context, in *Input, out *Output) error
}

var (
	// ErrUnavailable is wrapped by a Transformer that cannot work now: the task
	// waits and tries again.
	ErrUnavailable = errors.New("transformer unavailable")
	// ErrDeadline is wrapped by a Transformer whose time was up: the task tries
	// with fewer records.
	ErrDeadline = errors.New("time limit exceeded")
	// ErrOutputFull is returned by Output.Reserve.
	ErrOutputFull = errors.New("more output than one commit takes")
	// ErrStopped is returned by Run when the policy is Stop and a record failed.
	ErrStopped = errors.New("stopped at a failed record")
)

// Log is the log that a task reads and writes. Its Fetch checks CRCs, as topic.Set's does.
type Log interface {
	record.Fetcher
	record.AtomicAppender
	// Offsets is the range that can be read.
	Offsets(tp record.TopicPartition) (logStart, highWatermark int64, err error)
}

// Positions is where positions are kept: records of a consumer group in the same
// log, so that they can be committed with the data.
type Positions interface {
	// Committed is the position last committed; ok is false when there is none.
	Committed(group string, tp record.TopicPartition) (offset int64, ok bool, err error)
	// Encode makes the batch that commits a position.
	Encode(group string, tp record.TopicPartition, offset int64) (record.Write, error)
	// Applied is called once a batch of Encode is in the log.
	Applied(group string, tp record.TopicPartition, offset int64)
}
