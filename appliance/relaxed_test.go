package appliance_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/topic"
)

// What a power cut can take must be named wherever an operator looks.
func TestRelaxedTopicsAreNamed(t *testing.T) {
	for _, c := range []struct {
		profile appliance.Profile
		want    []string
	}{
		{appliance.ProfileSync, []string{"loose"}},
		{appliance.ProfileRelaxed, []string{"loose", "plain"}},
	} {
		t.Run(string(c.profile), func(t *testing.T) {
			b, err := appliance.Open(appliance.Options{Data: t.TempDir(), Kafka: "127.0.0.1:0", Profile: c.profile})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for name, configs := range map[string]map[string]string{
				"plain": nil, "strict": {"flush.messages": "1"}, "loose": {"flush.messages": "1000", "flush.ms": "200"},
			} {
				if _, err := b.Topics().Create(name, topic.Spec{Configs: configs}); err != nil {
					t.Fatal(err)
				}
			}
			st := b.Status()
			if st.CommitProfile != c.profile || st.Relaxed != len(c.want) || !slices.Equal(st.RelaxedTopics, c.want) {
				t.Errorf("profile %s, %d relaxed: %v; want %v", st.CommitProfile, st.Relaxed, st.RelaxedTopics, c.want)
			}
			var w metric.Writer
			b.Metrics(&w)
			for _, name := range c.want {
				if !bytes.Contains(w.Bytes(), []byte(`weir_topic_relaxed{topic="`+name+`"} 1`)) {
					t.Errorf("no metric names %s", name)
				}
			}
			wantDescribed(t, b, c.profile)
		})
	}
}

func wantDescribed(t *testing.T, b *appliance.Broker, profile appliance.Profile) {
	t.Helper()
	described, err := kadm.NewClient(client(t, b, kgo.ClientID("admin"))).DescribeTopicConfigs(patience(t), "plain", "strict", "loose", "__consumer_offsets")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"plain": "1", "strict": "1", "loose": "1000", "__consumer_offsets": "1"}
	if profile == appliance.ProfileRelaxed {
		want["plain"] = "9223372036854775807"
	}
	for _, d := range described {
		for _, got := range d.Configs {
			if got.Key == "flush.messages" && got.MaybeValue() != want[d.Name] {
				t.Errorf("flush.messages of %s is described as %s, want %s", d.Name, got.MaybeValue(), want[d.Name])
			}
		}
	}
}
