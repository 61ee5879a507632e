package appliance

import (
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/topic"
)

// catalog lets the topics keep their entries in the metadata store.
type catalog struct{ store *metadata.Store }

func (c catalog) Topics() ([]topic.Entry, error) {
	stored, err := c.store.Topics()
	if err != nil {
		return nil, err
	}
	entries := make([]topic.Entry, len(stored))
	for i, t := range stored {
		entries[i] = topic.Entry{Name: t.Name, ID: t.ID, Partitions: t.Partitions, Configs: t.Configs, Internal: t.Internal, Created: t.Created}
	}
	return entries, nil
}

func (c catalog) PutTopic(e topic.Entry) error { return c.PutTopics([]topic.Entry{e}) }

// PutTopics lets one write of the store take many topics.
func (c catalog) PutTopics(entries []topic.Entry) error {
	stored := make([]metadata.Topic, len(entries))
	for i, e := range entries {
		stored[i] = metadata.Topic{Name: e.Name, ID: e.ID, Partitions: e.Partitions, Configs: e.Configs, Internal: e.Internal, Created: e.Created}
	}
	return c.store.PutTopics(stored)
}

func (c catalog) DeleteTopic(name string) error { return c.store.DeleteTopic(name) }
