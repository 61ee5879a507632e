package group_test

import (
	"testing"

	"github.com/weirmq/weir/appliance/group"
)

// Which topic an offset is of outlives the rewrite of the offsets topic.
func TestSnapshotKeepsTopicIDs(t *testing.T) {
	of := group.TopicID{1, 2, 3}
	first := group.NewTable()
	if err := first.Apply(group.OffsetRecord("g", tp("t", 0), group.Offset{Offset: 5, TopicID: of})); err != nil {
		t.Fatal(err)
	}
	again := group.NewTable()
	for _, r := range first.Snapshot() {
		if err := again.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := again.State()["g"][tp("t", 0)]; got.Offset != 5 || got.TopicID != of {
		t.Errorf("after the rewrite %+v, want offset 5 of topic %x", got, of)
	}
}
