package appliance_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What was set at run time says what may be deleted, so it counts before the log is opened.
func TestBrokerConfigsOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if got := b.Topics().Defaults()["retention.ms"]; got == "123456" {
		t.Fatal("it was set already")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.KafkaAddr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := "123456"
	altered, err := kadm.NewClient(client).AlterBrokerConfigs(context.Background(), []kadm.AlterConfig{{Name: "log.retention.ms", Value: &value}})
	if err != nil || altered[0].Err != nil {
		t.Fatal(err, altered)
	}
	hour := "3600000"
	altered, err = kadm.NewClient(client).AlterBrokerConfigs(context.Background(), []kadm.AlterConfig{{Name: "producer.id.expiration.ms", Value: &hour}})
	if err != nil || altered[0].Err != nil {
		t.Fatal(err, altered)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	if got := b.Topics().Tuning().ProducerExpiration; got != time.Hour {
		t.Errorf("producers expire after %v after a restart", got)
	}
	if got := b.Topics().Defaults()["retention.ms"]; got != value {
		t.Errorf("retention.ms is %q after a restart", got)
	}
}
