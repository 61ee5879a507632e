package metadata

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Topic is what is known of a topic beside its records.
type Topic struct {
	Name       string
	ID         [16]byte
	Partitions int32
	Configs    map[string]string // overrides, by Kafka's names
	Internal   bool
	Created    time.Time // to the millisecond
}

// topicJSON is a Topic as it is stored, under its name.
type topicJSON struct {
	ID         string            `json:"id"` // URL-safe base64, as Kafka writes ids
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	CreatedMs  int64             `json:"createdMs"`
}

// Topics lists all topics, sorted by name.
func (s *Store) Topics() ([]Topic, error) {
	var topics []Topic
	err := s.view(func(tx *bolt.Tx) error {
		return tx.Bucket(topicsBucket).ForEach(func(name, value []byte) error {
			t, err := decodeTopic(string(name), value)
			topics = append(topics, t)
			return err
		})
	})
	return topics, err
}

// Topic returns the topic of that name; ok is false if there is none.
func (s *Store) Topic(name string) (t Topic, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		value := tx.Bucket(topicsBucket).Get([]byte(name))
		if value == nil {
			return nil
		}
		t, err = decodeTopic(name, value)
		ok = err == nil
		return err
	})
	return t, ok, err
}

// PutTopic adds the topic or replaces the one of that name.
func (s *Store) PutTopic(t Topic) error { return s.PutTopics([]Topic{t}) }

// PutTopics is PutTopic for several at once: all or none of them.
func (s *Store) PutTopics(topics []Topic) error {
	values := make([][]byte, len(topics))
	for i, t := range topics {
		if t.Name == "" || t.Partitions < 1 {
			return fmt.Errorf("metadata: topic %q with %d partitions: a topic needs a name and a partition", t.Name, t.Partitions)
		}
		var err error
		values[i], err = json.Marshal(topicJSON{
			ID:         base64.RawURLEncoding.EncodeToString(t.ID[:]),
			Partitions: t.Partitions, Configs: t.Configs, Internal: t.Internal, CreatedMs: t.Created.UnixMilli(),
		})
		if err != nil {
			return fmt.Errorf("metadata: topic %s: %w", t.Name, err)
		}
	}
	return s.update(func(w writer) error {
		for i, t := range topics {
			if err := w.put(w.root(topicsBucket), []byte(t.Name), values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteTopic removes the topic; no error if there is none.
func (s *Store) DeleteTopic(name string) error {
	return s.update(func(w writer) error { return w.delete(w.root(topicsBucket), []byte(name)) })
}

func decodeTopic(name string, value []byte) (Topic, error) {
	var j topicJSON
	if err := json.Unmarshal(value, &j); err != nil {
		return Topic{}, fmt.Errorf("%w: topic %q: %w", ErrCorrupt, name, err)
	}
	t := Topic{Name: name, Partitions: j.Partitions, Configs: j.Configs, Internal: j.Internal, Created: time.UnixMilli(j.CreatedMs)}
	id, err := base64.RawURLEncoding.DecodeString(j.ID)
	if err == nil && copy(t.ID[:], id) != len(t.ID) {
		err = errors.New("too short")
	}
	if err != nil {
		return Topic{}, fmt.Errorf("%w: topic %q: id %q: %w", ErrCorrupt, name, j.ID, err)
	}
	return t, nil
}
