// Package topic is the broker's set of topics: lookup, the rules of append and
// fetch, the high watermark and those who wait for it, retention and checkpoints.
//
// A [Set] owns the write-ahead log and a commitlog for each [Partition]. An append
// is checked, given its offset and its place under the partition's staging lock,
// and copied into the write-ahead log's open round. When the round is durable the
// committer writes the batch to its segment, moves the high watermark and completes
// the append. So a segment never holds what is not durable, and no reader sees it.
//
// Lock order: Set.trash, Set.creating, Set.cleaning, Set.checkpointing,
// Partition.staging, the write-ahead
// log's, Partition.stateMu. Set.mu is held for lookups only.
package topic

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// ID is a topic's identity; a topic deleted and created again has another.
type ID [16]byte

// Spec says what a new topic is to be.
type Spec struct {
	Partitions int32             // 0: Options.Partitions
	Configs    map[string]string // overrides, by Kafka's names
	Internal   bool
}

// Errors of Create, Delete, AlterConfigs and AddPartitions, beside those of package record.
var (
	ErrExists            = errors.New("topic already exists")
	ErrInvalidName       = errors.New("invalid topic name")
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	ErrInvalidConfig     = errors.New("invalid topic config")
)

// Topic is one topic. Its configs may change and partitions may be added at any
// time; what a method returned stays as it was. A topic that was deleted keeps
// answering, its partitions refuse.
type Topic struct {
	name       string
	id         ID
	internal   bool
	created    time.Time
	settings   atomic.Pointer[settings]
	partitions atomic.Pointer[[]*Partition]

	// Since the process started.
	refused        atomic.Int64 // appends for want of room
	droppedRecords atomic.Int64 // by the disk policy
	droppedBytes   atomic.Int64
}

func (t *Topic) Name() string   { return t.name }
func (t *Topic) ID() ID         { return t.id }
func (t *Topic) Internal() bool { return t.internal }

// Partitions is the topic's partitions, by number; do not modify. Their number
// only grows, and it does so by a new slice.
func (t *Topic) Partitions() []*Partition { return *t.partitions.Load() }

// Config is the value in force for a key of Keys, by Kafka's name.
func (t *Topic) Config(key string) string { return t.settings.Load().values[key] }

// MaxMessageBytes is how large a batch may be, its max.message.bytes.
func (t *Topic) MaxMessageBytes() int { return t.config().maxMessageBytes }

// Overrides is the configs set on this topic itself; do not modify.
func (t *Topic) Overrides() map[string]string { return t.settings.Load().overrides }

// config is the values in force, parsed. One load: who looks at several of them
// keeps the pointer, so that they are of one moment.
func (t *Topic) config() *config { return &t.settings.Load().config }

// Relaxed reports whether acknowledged records of the topic can be lost on a power
// cut, because its flush.messages is more than 1.
func (t *Topic) Relaxed() bool { return t.config().relaxed() }

// entry is the topic as the Catalog has it.
func (t *Topic) entry() Entry {
	return Entry{Name: t.name, ID: t.id, Partitions: int32(len(t.Partitions())), Configs: t.Overrides(), Internal: t.internal, Created: t.created}
}

// maxNameLen is Kafka's: a name, a partition and a suffix must fit a file name.
const maxNameLen = 249

// CheckName says what is wrong with a topic name, by Kafka's rules.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is a folder", ErrInvalidName, name)
	case len(name) > maxNameLen:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrInvalidName, len(name), maxNameLen)
	}
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("%w: %q contains %q; letters, digits, '.', '_' and '-' are allowed", ErrInvalidName, name, c)
		}
	}
	return nil
}

// noteRefused counts an append that was refused for want of room.
func (t *Topic) noteRefused(err error) {
	if errors.Is(err, record.ErrDiskFull) {
		t.refused.Add(1)
	}
}
