package kafka_test

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

// memoryCatalog is a catalog that ends with the test.
type memoryCatalog struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *memoryCatalog) Topics() ([]topic.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.entries), func(a, b topic.Entry) int { return cmp.Compare(a.Name, b.Name) }), nil
}

func (c *memoryCatalog) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *memoryCatalog) DeleteTopic(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	return nil
}

const testEpoch = 3

// openTopics opens the real log in a folder of the test's.
func openTopics(t testing.TB) *topic.Set {
	t.Helper()
	s, err := topic.Open(topic.Options{
		FS: vfs.OS(t.TempDir()), Catalog: &memoryCatalog{entries: map[string]topic.Entry{}}, LeaderEpoch: testEpoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close topics: %v", err)
		}
	})
	return s
}

// newBroker is a server over a real log.
func newBroker(t testing.TB, o kafka.Options) (*kafka.Server, *topic.Set) {
	t.Helper()
	if o.Topics == nil {
		o.Topics = openTopics(t)
	}
	var ids atomic.Int64
	o.NextProducerID = func() (int64, error) { return ids.Add(1), nil }
	return newServer(t, o), o.Topics
}

// create makes a topic with n partitions.
func create(t testing.TB, s *topic.Set, name string, n int32) *topic.Topic {
	t.Helper()
	created, err := s.Create(name, topic.Spec{Partitions: n})
	if err != nil {
		t.Fatal(err)
	}
	return created
}
