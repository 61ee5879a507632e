// Package mirror carries partitions of the local log to another cluster, Apache
// Kafka or a second Weir, exactly once and over a link that may be down for days.
//
// A [Mirror] runs flows. Each flow reads through a record.Fetcher and writes
// with the idempotent producer protocol, and keeps its position in the target:
// an anchor in the compacted topic weir-mirror-positions.<site>.internal plus
// the target's own end offsets say where to go on, so nothing local can be lost
// or be wrong. What does not fit (a recreated topic, a purged source, a foreign
// writer) is an [Event] with a policy, never a guess.
//
// Batches pass compressed as they are; only small ones are merged. To read the
// code begin with anchor.go (the protocol), window.go (one partition's state
// machine) and plan.go (how a partition starts), then flow.go.
package mirror

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/weirmq/weir/appliance/record"
)

// Topics is what a mirror needs to know of the local log beside its records.
// Both methods are called often and must be cheap.
type Topics interface {
	// Topics is all topics, in any order.
	Topics() []Topic
	// Partition is one partition as it is now, or record.ErrUnknownTopicOrPartition.
	Partition(tp record.TopicPartition) (Partition, error)
}

// Topic is one local topic.
type Topic struct {
	Name       string
	ID         [16]byte
	Partitions int32
	Internal   bool
}

// Partition is one local partition.
type Partition struct {
	TopicID        [16]byte
	LogStartOffset int64
	HighWatermark  int64
}

// Deps is what a mirror works on.
type Deps struct {
	Log    record.Fetcher
	Topics Topics
	// Gaps takes gap records for partition 0 of record.GapTopic, which must exist; nil
	// leaves them to events and the log.
	Gaps record.Appender
	// Logger gets what is noticed; nil discards it.
	Logger *slog.Logger
}

// Mirror is the running flows of a site.
type Mirror struct {
	site  string
	flows []*flow
	once  sync.Once
}

// Start starts the flows. It does not wait for their targets: those may be
// unreachable for days. An error is one of the options.
func Start(o Options, d Deps) (*Mirror, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mirror{site: o.Site}
	for _, fo := range o.Flows {
		f, err := startFlow(o.Site, fo, d)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("mirror: flow %q: %w", fo.Name, err)
		}
		m.flows = append(m.flows, f)
	}
	return m, nil
}

// Close stops the flows and returns once their goroutines have ended. It takes
// a few seconds at most, also when a target is unreachable.
func (m *Mirror) Close() error {
	m.once.Do(func() {
		var all sync.WaitGroup
		for _, f := range m.flows {
			all.Go(f.close)
		}
		all.Wait()
	})
	return nil
}
