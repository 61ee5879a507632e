package firmwareconfig_test

import (
	"testing"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// What is advertised is the entry's, else the section's.
func TestAdvertised(t *testing.T) {
	cfg, err := firmwareconfig.Load("testdata/advertised.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range cfg.KafkaListeners() {
		got = append(got, l.Advertised)
	}
	if len(got) != 2 || got[0] != "10.0.0.7:9092" || got[1] != "gw.example:19093" {
		t.Errorf("advertised %q", got)
	}
	// Another address is not reached under what was said of the old one.
	cfg.Kafka.ListenAt([]string{"127.0.0.1:0", "127.0.0.1:9093"})
	if l := cfg.Kafka.Listen; l[0].Advertised != "" || l[1].Advertised != "gw.example:19093" || l[0].Address != "127.0.0.1:0" {
		t.Errorf("listens at %+v", l)
	}
}
