package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/site"
)

const (
	createdTopics  = 200
	createRequests = 5 // of each kind
)

// create times CreateTopics as an administrator sees it: one topic of many
// partitions, many topics in one request, and one after the other.
func create(o options, t *table) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*restartWait)
	defer cancel()
	dir := filepath.Join(o.dir, "create")
	defer os.RemoveAll(dir)
	parts := o.partitions[0]
	config := fmt.Sprintf("kafka: {max.partitions: %d}\n", createRequests*(parts+2*createdTopics)+200)
	s, err := site.Start(ctx, site.Options{Binary: o.weir, Dir: dir, Config: config, ReadyTimeout: restartWait})
	if err != nil {
		return err
	}
	defer s.Kill()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.RequestTimeoutOverhead(restartWait))
	if err != nil {
		return err
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	for _, kind := range []struct {
		what              string
		topics, parts, by int // by: topics of one request
	}{
		{fmt.Sprintf("CreateTopics, 1 topic of %d partitions", parts), 1, parts, 1},
		{fmt.Sprintf("CreateTopics, %d topics of 1 partition in one request", createdTopics), createdTopics, 1, createdTopics},
		{fmt.Sprintf("CreateTopics, %d topics of 1 partition, one by one", createdTopics), createdTopics, 1, 1},
	} {
		var took []float64
		for range createRequests {
			seconds, err := createTopics(ctx, adm, kind.topics, kind.parts, kind.by)
			if err != nil {
				return err
			}
			took = append(took, seconds)
		}
		t.alone(measure{kind.what, "", "s"}, took)
	}
	return nil
}

var createdNames int

func createTopics(ctx context.Context, adm *kadm.Client, topics, parts, by int) (seconds float64, err error) {
	var names []string
	for range topics {
		createdNames++
		names = append(names, fmt.Sprint("created-", createdNames))
	}
	start := time.Now()
	for i := 0; i < topics; i += by {
		answers, err := adm.CreateTopics(ctx, int32(parts), 1, nil, names[i:i+by]...)
		if err == nil {
			err = answers.Error()
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds(), nil
}

// filled is the restart row with records in every partition: each has files of its
// own that a start must know of.
func filled(o options, t *table) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*restartWait)
	defer cancel()
	parts := o.partitions[len(o.partitions)-1]
	dir := filepath.Join(o.dir, "filled")
	defer os.RemoveAll(dir)
	config := fmt.Sprintf("kafka: {max.partitions: %d}\ntopics: [{name: %s, partitions: %d}]\n", parts+200, topicName, parts)
	s, err := site.Start(ctx, site.Options{Binary: o.weir, Dir: dir, Config: config, ReadyTimeout: restartWait})
	if err != nil {
		return err
	}
	defer s.Kill()
	what := fmt.Sprintf("%d partitions, records in each", parts)
	killed, err := startAgain(ctx, s, func() error {
		defer s.Kill()
		return fillEach(ctx, s, parts)
	})
	if err != nil {
		return err
	}
	stopped, err := startAgain(ctx, s, func() error {
		code, err := s.Stop(restartWait)
		if err == nil && code != 0 {
			err = fmt.Errorf("weir stopped with code %d", code)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.alone(measure{"ready after kill -9, " + what, "<= 2", "s"}, killed)
	t.alone(measure{"ready after a clean stop, " + what, "<= 1", "s"}, stopped)
	return nil
}

// fillEach produces some records to every partition.
func fillEach(ctx context.Context, s *site.Site, parts int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, 3*parts)
	for i := range records {
		records[i] = &kgo.Record{Topic: topicName, Partition: int32(i % parts), Value: make([]byte, valueBytes)}
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}
