// Package logbox is the log of one box for tests: the real one, on a real disk,
// without the listeners around it.
package logbox

import (
	"fmt"
	"path/filepath"

	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/mirror"
)

// Box is an open log. It implements mirror.Topics.
type Box struct {
	Log   *topic.Set
	store *metadata.Store
}

var _ mirror.Topics = (*Box)(nil)

// Open opens the log in dir, after a crash too. change may alter how it behaves.
func Open(dir string, change ...func(*topic.Options)) (*Box, error) {
	store, err := metadata.Open(filepath.Join(dir, "weir.db"))
	if err != nil {
		return nil, err
	}
	epoch, err := store.NextEpoch()
	if err != nil {
		store.Close()
		return nil, err
	}
	o := topic.Options{FS: vfs.OS(dir), Catalog: catalog{store}, LeaderEpoch: epoch}
	for _, c := range change {
		c(&o)
	}
	set, err := topic.Open(o)
	if err != nil {
		store.Close()
		return nil, fmt.Errorf("site: %w", err)
	}
	return &Box{Log: set, store: store}, nil
}

// Close closes the log and what it is kept in.
func (s *Box) Close() error {
	err := s.Log.Close()
	if cerr := s.store.Close(); err == nil {
		err = cerr
	}
	return err
}

// Topics implements mirror.Topics.
func (s *Box) Topics() []mirror.Topic {
	all := s.Log.Topics()
	out := make([]mirror.Topic, len(all))
	for i, t := range all {
		out[i] = mirror.Topic{Name: t.Name(), ID: t.ID(), Partitions: int32(len(t.Partitions())), Internal: t.Internal()}
	}
	return out
}

// Partition implements mirror.Topics.
func (s *Box) Partition(tp record.TopicPartition) (mirror.Partition, error) {
	t := s.Log.Topic(tp.Topic)
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions()) {
		return mirror.Partition{}, record.ErrUnknownTopicOrPartition
	}
	p := t.Partitions()[tp.Partition]
	return mirror.Partition{TopicID: t.ID(), LogStartOffset: p.LogStartOffset(), HighWatermark: p.HighWatermark()}, nil
}

// catalog fits the metadata store to what the log wants.
type catalog struct{ *metadata.Store }

func (c catalog) Topics() ([]topic.Entry, error) {
	all, err := c.Store.Topics()
	if err != nil {
		return nil, err
	}
	out := make([]topic.Entry, len(all))
	for i, t := range all {
		out[i] = topic.Entry{Name: t.Name, ID: t.ID, Partitions: t.Partitions, Configs: t.Configs, Internal: t.Internal}
	}
	return out, nil
}

func (c catalog) PutTopic(e topic.Entry) error {
	return c.Store.PutTopic(metadata.Topic{Name: e.Name, ID: e.ID, Partitions: e.Partitions, Configs: e.Configs, Internal: e.Internal})
}
