package appliance

import (
	"time"

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
		entries[i] = topic.Entry{Name: t.Name, ID: t.ID, Partitions: t.Partitions, Configs: t.Configs, Internal: t.Internal}
	}
	return entries, nil
}

func (c catalog) PutTopic(e topic.Entry) error {
	created, err := c.created(e)
	if err != nil {
		return err
	}
	return c.store.PutTopic(metadata.Topic{
		Name: e.Name, ID: e.ID, Partitions: e.Partitions, Configs: e.Configs, Internal: e.Internal, Created: created,
	})
}

// created is when the topic was made: now, unless this replaces its entry.
func (c catalog) created(e topic.Entry) (time.Time, error) {
	t, ok, err := c.store.Topic(e.Name)
	if err != nil || ok && t.ID == e.ID {
		return t.Created, err
	}
	return time.Now(), nil
}

func (c catalog) DeleteTopic(name string) error { return c.store.DeleteTopic(name) }
