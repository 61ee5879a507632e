package mirror_test

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/mirror"
)

// memlog is a log in memory: the source of flows that are tested without a disk.
type memlog struct {
	mu     sync.Mutex
	topics map[string]*memTopic
	grown  chan struct{} // closed and replaced at each append
}

type memTopic struct {
	id       [16]byte
	parts    []memPartition
	internal bool
}

type memPartition struct {
	start, end int64
	batches    []record.Batch
}

func newMemlog() *memlog {
	return &memlog{topics: map[string]*memTopic{}, grown: make(chan struct{})}
}

// create makes a topic, anew if there is one.
func (m *memlog) create(name string, partitions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &memTopic{parts: make([]memPartition, partitions), internal: name == record.GapTopic}
	rand.Read(t.id[:])
	m.topics[name] = t
}

// grow gives a topic more partitions.
func (m *memlog) grow(name string, partitions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.topics[name]
	t.parts = append(t.parts, make([]memPartition, partitions-len(t.parts))...)
}

func (m *memlog) Topics() (out []mirror.Topic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, t := range m.topics {
		out = append(out, mirror.Topic{Name: name, ID: t.id, Partitions: int32(len(t.parts)), Internal: t.internal})
	}
	return out
}

func (m *memlog) part(tp record.TopicPartition) (*memTopic, *memPartition, error) {
	t := m.topics[tp.Topic]
	if t == nil || int(tp.Partition) >= len(t.parts) {
		return nil, nil, record.ErrUnknownTopicOrPartition
	}
	return t, &t.parts[tp.Partition], nil
}

func (m *memlog) Partition(tp record.TopicPartition) (mirror.Partition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, p, err := m.part(tp)
	if err != nil {
		return mirror.Partition{}, err
	}
	return mirror.Partition{TopicID: t.id, LogStartOffset: p.start, HighWatermark: p.end}, nil
}

func (m *memlog) Append(_ context.Context, tp record.TopicPartition, b record.Batch) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, p, err := m.part(tp)
	if err != nil {
		return -1, err
	}
	b = slices.Clone(b)
	b.SetBaseOffset(p.end)
	p.end = b.NextOffset()
	p.batches = append(p.batches, b)
	close(m.grown)
	m.grown = make(chan struct{})
	return b.BaseOffset(), nil
}

// purge moves the log start, as retention does.
func (m *memlog) purge(tp record.TopicPartition, start int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, p, _ := m.part(tp)
	p.start = start
}

func (m *memlog) Fetch(ctx context.Context, tp record.TopicPartition, offset int64, maxBytes int) (record.Batches, error) {
	for {
		m.mu.Lock()
		raw, err := m.read(tp, offset, maxBytes)
		grown := m.grown
		m.mu.Unlock()
		if err != nil || len(raw) > 0 {
			return raw, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-grown:
		}
	}
}

func (m *memlog) read(tp record.TopicPartition, offset int64, maxBytes int) (raw record.Batches, err error) {
	_, p, err := m.part(tp)
	if err != nil {
		return nil, err
	}
	if offset < p.start || offset > p.end {
		return nil, record.ErrOffsetOutOfRange
	}
	i, _ := slices.BinarySearchFunc(p.batches, offset, func(b record.Batch, o int64) int {
		if b.NextOffset() <= o {
			return -1
		}
		return 1
	})
	for ; i < len(p.batches); i++ {
		if len(raw) > 0 && len(raw)+len(p.batches[i]) > maxBytes {
			break
		}
		raw = append(raw, p.batches[i]...)
	}
	return raw, nil
}
