// Package topic is the broker's set of topics: lookup, the rules of append and
// fetch, the high watermark and those who wait for it.
package topic

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

var errSkeleton = errors.New("topic: to be built")

// ID is a topic's identity; a topic deleted and created again has another.
type ID [16]byte

// Spec says what a new topic is to be.
type Spec struct {
	Partitions int32             // 0: the default, num.partitions
	Configs    map[string]string // overrides, by Kafka's names
	Internal   bool
}

// Errors of Create and Delete, beside those of package record.
var (
	ErrExists            = errors.New("topic already exists")
	ErrInvalidName       = errors.New("invalid topic name")
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	ErrInvalidConfig     = errors.New("invalid topic config")
)

// Set is all topics of the box. It implements record.Appender, AsyncAppender,
// AtomicAppender and Fetcher.
type Set struct{}

var _ interface {
	record.Appender
	record.AsyncAppender
	record.AtomicAppender
	record.Fetcher
} = (*Set)(nil)

func (s *Set) Close() error { return errSkeleton }

// Create makes a topic; it is durable when Create returns.
func (s *Set) Create(name string, spec Spec) (*Topic, error) { return nil, errSkeleton }

// Ensure returns the topic, after creating it by spec if there is none. An
// existing topic is left as it is.
func (s *Set) Ensure(name string, spec Spec) (*Topic, error) { return nil, errSkeleton }

// Delete removes a topic and its data.
func (s *Set) Delete(name string) error { return errSkeleton }

// Topic finds a topic by name; nil if there is none.
func (s *Set) Topic(name string) *Topic { return nil }

// ByID finds a topic by identity; nil if there is none.
func (s *Set) ByID(id ID) *Topic { return nil }

// Topics lists all topics, sorted by name.
func (s *Set) Topics() []*Topic { return nil }

// Partition finds one partition; the error is record.ErrUnknownTopicOrPartition.
func (s *Set) Partition(tp record.TopicPartition) (*Partition, error) { return nil, errSkeleton }

func (s *Set) Append(ctx context.Context, tp record.TopicPartition, b record.Batch) (int64, error) {
	return 0, errSkeleton
}
func (s *Set) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	done.Complete(-1, errSkeleton)
}
func (s *Set) AppendAtomic(ctx context.Context, writes []record.Write) error { return errSkeleton }
func (s *Set) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	return nil, errSkeleton
}

// Topic is one topic.
type Topic struct{}

func (t *Topic) Name() string             { return "" }
func (t *Topic) ID() ID                   { return ID{} }
func (t *Topic) Internal() bool           { return false }
func (t *Topic) Partitions() []*Partition { return nil }

// Config is the value in force for a key of Keys, by Kafka's name.
func (t *Topic) Config(key string) string { return "" }

// Overrides is the configs set on this topic itself; do not modify.
func (t *Topic) Overrides() map[string]string { return nil }

// Key is one topic config: the table that parsing, DescribeConfigs and the docs share.
type Key struct {
	Name, Default, Doc string
	Type               string // Kafka's: long, int, string, list, boolean
}

// Keys lists the topic configs that Weir knows, sorted by name.
var Keys []Key

// Partition is one partition. All methods are safe for concurrent use.
type Partition struct{}

func (p *Partition) TopicPartition() record.TopicPartition { return record.TopicPartition{} }

// LogStartOffset is the first offset that can be read.
func (p *Partition) LogStartOffset() int64 { return 0 }

// HighWatermark is the offset after the last committed record.
func (p *Partition) HighWatermark() int64 { return 0 }

// LeaderEpoch grows at every boot and is never reset.
func (p *Partition) LeaderEpoch() int32 { return 0 }

// Size is the bytes of the partition's segments.
func (p *Partition) Size() int64 { return 0 }

// Append is AppendAsync on a partition already looked up: produce's hot path.
func (p *Partition) Append(b record.Batch, done record.Completion) {}

// Read returns committed bytes from the batch that holds offset on: whole batches, about
// maxBytes, at least one batch unless offset is the high watermark, when the
// section is empty. The error is record.ErrOffsetOutOfRange or a wrapped disk error.
// The caller must Close the section.
func (p *Partition) Read(offset int64, maxBytes int) (Section, error) { return Section{}, errSkeleton }

// Section is a range of a segment file, ready for a socket. WriteTo to a
// *net.TCPConn is a sendfile.
type Section struct{}

func (s Section) Len() int                            { return 0 }
func (s Section) WriteTo(w io.Writer) (int64, error)  { return 0, errSkeleton }
func (s Section) AppendTo(dst []byte) ([]byte, error) { return dst, errSkeleton }
func (s Section) Close() error                        { return nil }

// OffsetForTime is the first record with timestamp >= ts (ms): its offset and
// timestamp, or -1, -1 when there is none.
func (p *Partition) OffsetForTime(ts int64) (offset, timestamp int64, err error) { return -1, -1, nil }

// MaxTimestamp is the record with the greatest timestamp: -1, -1 when empty (ListOffsets -3).
func (p *Partition) MaxTimestamp() (offset, timestamp int64, err error) { return -1, -1, nil }

// EndOffsetForEpoch answers OffsetForLeaderEpoch: the end offset of the largest
// epoch <= epoch, and that epoch; -1, -1 when unknown.
func (p *Partition) EndOffsetForEpoch(epoch int32) (endEpoch int32, endOffset int64) { return -1, -1 }

// Watch has ch signalled (a send that never blocks: give it a buffer of one) at
// each advance of the high watermark, until Unwatch.
func (p *Partition) Watch(ch chan<- struct{})   {}
func (p *Partition) Unwatch(ch chan<- struct{}) {}

// DeleteRecords moves the log start offset up to before; -1 means the high watermark.
func (p *Partition) DeleteRecords(before int64) (logStart int64, err error) { return 0, errSkeleton }

// Now is a test seam for time.
type Now func() time.Time
