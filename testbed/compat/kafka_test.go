package compat_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
)

// The harness itself: records survive a kill and a restart on the same address.
func TestKafkaRestartKeepsRecords(t *testing.T) {
	k := compat.StartKafka(t, "auto.create.topics.enable=true")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("kept"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "kept", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	k.Restart(t)
	for {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		if rs := fs.Records(); len(rs) > 0 {
			if got := string(rs[0].Value); got != "v" {
				t.Fatalf("read %q, want v", got)
			}
			return
		}
	}
}
