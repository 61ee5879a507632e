package appliance_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A topic's id is its identity: the same after every restart, never zero, and that
// of internal topics too. Clients refuse the answers of a broker that changes it.
func TestTopicIDsOutliveRestarts(t *testing.T) {
	s := newSite(t)
	ids := func() map[string]kadm.TopicID {
		all, err := kadm.NewClient(s.client()).ListTopicsWithInternal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]kadm.TopicID{}
		for name, d := range all {
			if out[name] = d.ID; d.ID == (kadm.TopicID{}) {
				t.Errorf("topic %s has no id", name)
			}
		}
		return out
	}
	before := ids()
	if len(before) < 2 {
		t.Fatalf("topics %v, want t and internal ones", before)
	}
	for _, kill := range []bool{false, true} {
		s.restart(kill)
		for name, id := range ids() {
			if before[name] != id {
				t.Errorf("kill=%v: topic %s has id %v, had %v", kill, name, id, before[name])
			}
		}
	}
}
