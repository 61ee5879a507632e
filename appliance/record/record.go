// Package record is the data that Weir carries and the verbs that carry it.
//
// A [Batch] is one encoded Kafka record batch (magic 2): what a producer sent
// is what is stored, fetched and mirrored, byte for byte. Everything that moves
// data is either an [Appender] or a [Fetcher] of batches, whether it is the
// local log, a remote cluster or a plugin that wraps another Appender.
//
// The package is a leaf: it knows no file, no socket and no topic.
package record

import (
	"context"
	"errors"
	"strconv"
)

// TopicPartition names one partition of one topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns "topic-partition", the form Kafka uses in logs and folders.
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

// Appender appends a batch to a partition and returns once it is committed:
// on stable storage, not merely written.
//
// Append may overwrite the batch's base offset and leader epoch in place (both
// stand outside the CRC) and keeps no reference to b after it returns.
type Appender interface {
	Append(ctx context.Context, tp TopicPartition, b Batch) (baseOffset int64, err error)
}

// Fetcher reads committed batches from a partition: durable, and of transactions only
// what was committed.
//
// Fetch returns whole batches, the first of which holds offset (its base offset
// may be lower), in total about maxBytes but always at least one batch. While
// nothing is committed at offset it waits until something is, or until ctx
// ends, when it returns ctx's error. The bytes belong to the caller.
type Fetcher interface {
	Fetch(ctx context.Context, tp TopicPartition, offset int64, maxBytes int) (Batches, error)
}

// AsyncAppender is Append for a caller that keeps many appends in flight under
// one fsync: a connection's read loop.
//
// AppendAsync copies b before it returns, so the caller may reuse the memory at
// once. It may block while too many bytes await their commit round: that is the
// back pressure. Appends of one goroutine to one partition are committed in order.
type AsyncAppender interface {
	AppendAsync(tp TopicPartition, b Batch, done Completion)
}

// Completion is told the outcome of one asynchronous append, exactly once: by
// AppendAsync itself when the batch is refused, otherwise by the goroutine that
// commits rounds. Complete must not block and must not append.
type Completion interface {
	Complete(baseOffset int64, err error)
}

// Stamped is a Completion that is told, before Complete, which time (ms) its batch was
// given, if its topic stamps what it appends (message.timestamp.type=LogAppendTime).
type Stamped interface {
	Stamped(ms int64)
}

// Write is one batch and where it goes.
type Write struct {
	TopicPartition
	Batch Batch
}

// AtomicAppender commits several batches, to any partitions, all or none.
// It is how a result and the position it was computed from stay together.
type AtomicAppender interface {
	AppendAtomic(ctx context.Context, writes []Write) error
}

// AsyncWrite is a Write of a group that nobody waits for. Done may be nil.
type AsyncWrite struct {
	Write
	Done Completion
}

// AsyncAtomicAppender is AtomicAppender for a caller that keeps many groups in
// flight. Every Done is told the outcome, in the order of the writes; when the group
// is refused, all of them are told before AppendGroup returns. Batches are copied.
type AsyncAtomicAppender interface {
	AppendGroup(writes []AsyncWrite)
}

// Errors that Appenders and Fetchers return, to be tested with errors.Is.
var (
	// ErrUnknownTopicOrPartition is returned for a partition that does not exist.
	ErrUnknownTopicOrPartition = errors.New("unknown topic or partition")
	// ErrOffsetOutOfRange is returned by Fetch for an offset below the log start
	// offset or above the high watermark.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt is returned for a batch whose structure or CRC is wrong.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrInvalidRecord is returned for a batch that is intact but breaks a rule:
	// counts that disagree, a control batch from a client, a null key where the
	// topic is compacted.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrTooLarge is returned for a batch over the topic's max.message.bytes.
	ErrTooLarge = errors.New("record batch too large")
	// ErrUnsupportedCodec is returned for an unknown compression codec.
	ErrUnsupportedCodec = errors.New("unsupported compression codec")
	// ErrOutOfOrderSequence is returned to an idempotent producer whose batch
	// does not follow the last one.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrProducerFenced is returned to a producer whose epoch is not the newest.
	ErrProducerFenced = errors.New("producer fenced by a newer epoch")
	// ErrInvalidTxnState is returned for a batch that is not what the producer's
	// transaction asks for: in one that is not open, or outside of one that is.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrStorage is returned once the disk has failed: the append may or may not
	// be on it, and nothing more is accepted until a restart has re-read it.
	ErrStorage = errors.New("storage failed")
	// ErrDiskFull is returned while the disk has no more room than the reserve that
	// deletes, offset commits and recovery need. It ends by itself when there is room.
	ErrDiskFull = errors.New("disk full")
	// ErrClosed is returned by a log that is shutting down.
	ErrClosed = errors.New("log is closed")
)
