package appliance_test

import (
	"maps"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/topic"
)

// stored is the topic's entry in the data directory of a broker that is closed.
func stored(t *testing.T, dir, name string) metadata.Topic {
	t.Helper()
	store, err := metadata.Open(filepath.Join(dir, "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	found, ok, err := store.Topic(name)
	if err != nil || !ok {
		t.Fatalf("topic %s: %v, %v", name, ok, err)
	}
	return found
}

func TestTopicChangesOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	configs := map[string]string{"retention.ms": "3600000", "cleanup.policy": "compact,delete"}
	b := open(t, dir)
	if _, err := b.Topics().Create("t", topic.Spec{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	before := stored(t, dir, "t")
	b = open(t, dir)
	if err := b.Topics().AlterConfigs("t", func(map[string]string) (map[string]string, error) { return configs, nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Topics().AddPartitions("t", 5); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	after := stored(t, dir, "t")
	if after.ID != before.ID || !after.Created.Equal(before.Created) || after.Partitions != 5 || !maps.Equal(after.Configs, configs) {
		t.Errorf("the entry is %+v, was %+v", after, before)
	}
	got := open(t, dir).Topics().Topic("t")
	if len(got.Partitions()) != 5 || !maps.Equal(got.Overrides(), configs) || got.Config("cleanup.policy") != "compact,delete" {
		t.Errorf("%d partitions, overrides %v", len(got.Partitions()), got.Overrides())
	}
}
