package topic_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// A relaxed topic acknowledges what a power cut can take, within flush.ms, but shows
// to readers only what it cannot.
func TestRelaxedTopicShowsOnlyWhatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, names := crashfs.New(), newCatalog()
		s, err := openOn(disk, names, 0, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		made, err := s.Create("r", topic.Spec{Configs: map[string]string{"flush.messages": "1000", "flush.ms": "250"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create("strict", topic.Spec{}); err != nil {
			t.Fatal(err)
		}
		p, tp := made.Partitions()[0], record.TopicPartition{Topic: "r"}
		append := func(tp record.TopicPartition, v string) {
			t.Helper()
			if _, err := s.Append(t.Context(), tp, batch(t, 0, v)); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		append(tp, "a")
		append(tp, "b")
		if d := time.Since(start); d != 0 || p.HighWatermark() != 0 {
			t.Fatalf("acknowledged after %v, readers see up to %d: want at once, and nothing", d, p.HighWatermark())
		}
		// Offset 1 was given, so it is no error to ask for it, as in Kafka; 3 was not.
		if c, err := p.Read(1, 1<<20); c.Len() != 0 || err != nil {
			t.Fatalf("a reader was given %d bytes beyond the watermark, %v", c.Len(), err)
		}
		if _, err := p.Read(3, 1<<20); !errors.Is(err, record.ErrOffsetOutOfRange) {
			t.Fatal(err)
		}
		if _, err := s.Fetch(t.Context(), tp, 1, 1<<20); err != nil { // waits
			t.Fatal(err)
		}
		if got := values(t, s, tp, 0); len(got) != 2 || time.Since(start) != 250*time.Millisecond {
			t.Fatalf("%q after %v; want both after 250 ms", got, time.Since(start))
		}
		append(tp, "c")
		append(record.TopicPartition{Topic: "strict"}, "d") // its sync covers c as well
		if p.HighWatermark() != 3 {
			t.Fatalf("the watermark is %d after a sync of everything, want 3", p.HighWatermark())
		}
		append(tp, "e")

		after, err := openOn(disk.Clone(crashfs.CloneConfig{}), names, 1, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer after.Close()
		if got := values(t, after, tp, 0); len(got) != 3 {
			t.Fatalf("after a power cut that takes all it can: %q, want a b c", got)
		}
		killed, err := openOn(disk.Killed(), names, 1, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer killed.Close()
		if got := values(t, killed, tp, 0); len(got) != 4 {
			t.Fatalf("after a kill: %q, want a b c e", got)
		}
	})
}
