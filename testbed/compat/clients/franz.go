package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

type franz struct{}

func (franz) open(opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.SeedBrokers(bootstrap()))
	if s := securityOf(); s != nil {
		opts = append(opts, kgo.DialTLSConfig(s.tls))
		switch s.mechanism {
		case "SCRAM-SHA-512":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.user, Pass: s.password}.AsSha512Mechanism()))
		case "SCRAM-SHA-256":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.user, Pass: s.password}.AsSha256Mechanism()))
		default:
			opts = append(opts, kgo.SASL(plain.Auth{User: s.user, Pass: s.password}.AsMechanism()))
		}
	}
	return kgo.NewClient(opts...)
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func franzRecords(topic string, values []string, headers ...kgo.RecordHeader) []*kgo.Record {
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Key: fmt.Append(nil, "k-", i), Value: []byte(v), Headers: headers}
	}
	return records
}

func (f franz) produce(ctx context.Context, topic, codec string, values []string) error {
	cl, err := f.open(kgo.ProducerBatchCompression(franzCodecs[codec]))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, franzRecords(topic, values, kgo.RecordHeader{Key: "codec", Value: []byte(codec)})...).FirstErr()
}

func (f franz) consume(ctx context.Context, group, topic string, seen func(string)) error {
	opts := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(heartbeat),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if readCommitted() {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	cl, err := f.open(opts...)
	if err != nil {
		return err
	}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) { seen(string(r.Value)) })
	}
	defer cl.Close()
	return cl.CommitUncommittedOffsets(context.Background())
}

func (f franz) transact(ctx context.Context, topic, id string) error {
	cl, err := f.open(kgo.TransactionalID(id))
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, end := range []struct {
		format string
		commit kgo.TransactionEndTry
	}{{"aborted-%d", kgo.TryAbort}, {"committed-%d", kgo.TryCommit}} {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		if err := cl.ProduceSync(ctx, franzRecords(topic, numbered(end.format, perTransaction))...).FirstErr(); err != nil {
			return err
		}
		if err := cl.EndTransaction(ctx, end.commit); err != nil {
			return err
		}
	}
	return nil
}

func (f franz) admin(ctx context.Context, topic string) error {
	cl, err := f.open()
	if err != nil {
		return err
	}
	adm := kadm.NewClient(cl)
	defer adm.Close()
	if _, err := adm.CreateTopic(ctx, 3, 1, nil, topic); err != nil {
		return err
	}
	if err := f.partitions(ctx, adm, topic, 3); err != nil {
		return err
	}
	value := "123456"
	if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, topic); err != nil {
		return err
	}
	described, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err
	}
	found := false
	for _, c := range described[0].Configs {
		found = found || c.Key == "retention.ms" && c.MaybeValue() == value
	}
	if !found {
		return errors.New("retention.ms is not what it was set to")
	}
	if _, err := adm.UpdatePartitions(ctx, 5, topic); err != nil {
		return err
	}
	if err := f.partitions(ctx, adm, topic, 5); err != nil {
		return err
	}
	if _, err := adm.ListGroups(ctx); err != nil {
		return err
	}
	_, err = adm.DeleteTopics(ctx, topic)
	return err
}

func (franz) partitions(ctx context.Context, adm *kadm.Client, topic string, want int) error {
	topics, err := adm.ListTopics(ctx, topic)
	if err == nil && len(topics[topic].Partitions) != want {
		err = fmt.Errorf("%d partitions, want %d", len(topics[topic].Partitions), want)
	}
	return err
}
