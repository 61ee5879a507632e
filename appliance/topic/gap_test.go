package topic

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// noTopics is a catalog that begins empty and forgets.
type noTopics struct{}

func (noTopics) Topics() ([]Entry, error) { return nil, nil }
func (noTopics) PutTopic(Entry) error     { return nil }
func (noTopics) DeleteTopic(string) error { return nil }

func TestGapBecomesARecord(t *testing.T) {
	s, err := Open(Options{FS: vfs.OS(t.TempDir()), Catalog: noTopics{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Ensure(record.GapTopic, Spec{Internal: true}); err != nil {
		t.Fatal(err)
	}
	s.reportGap(record.Gap{Topic: "mqtt", Partition: 3, FirstOffset: 10, LastOffset: 19, Count: 10, Bytes: 700, Reason: record.GapDisk})
	bs, err := s.Fetch(context.Background(), record.TopicPartition{Topic: record.GapTopic}, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := record.Batch(bs).Records()
	if err != nil || len(rs) != 1 || string(rs[0].Key) != "mqtt-3" {
		t.Fatalf("%+v, %v; want one record with the key mqtt-3", rs, err)
	}
	var g record.Gap
	if err := json.Unmarshal(rs[0].Value, &g); err != nil || g.LastOffset != 19 || g.Reason != record.GapDisk || g.Time.IsZero() {
		t.Fatalf("%+v, %v", g, err)
	}
}
