package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

type kafkaGo struct{}

var kafkaGoCodecs = map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

func (kafkaGo) mechanism(s *security) (sasl.Mechanism, error) {
	switch s.mechanism {
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, s.user, s.password)
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, s.user, s.password)
	}
	return plain.Mechanism{Username: s.user, Password: s.password}, nil
}

func (k kafkaGo) transport() (*kafka.Transport, error) {
	s := securityOf()
	if s == nil {
		return &kafka.Transport{}, nil
	}
	m, err := k.mechanism(s)
	return &kafka.Transport{TLS: s.tls, SASL: m}, err
}

func (k kafkaGo) client() (*kafka.Client, error) {
	t, err := k.transport()
	return &kafka.Client{Addr: kafka.TCP(bootstrap()), Transport: t}, err
}

func (k kafkaGo) produce(ctx context.Context, topic, codec string, values []string) error {
	t, err := k.transport()
	if err != nil {
		return err
	}
	w := &kafka.Writer{Addr: kafka.TCP(bootstrap()), Topic: topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll, Compression: kafkaGoCodecs[codec], Transport: t}
	messages := make([]kafka.Message, len(values))
	for i, v := range values {
		messages[i] = kafka.Message{Key: fmt.Append(nil, "k-", i), Value: []byte(v), Headers: []kafka.Header{{Key: "codec", Value: []byte(codec)}}}
	}
	return errors.Join(w.WriteMessages(ctx, messages...), w.Close())
}

func (k kafkaGo) consume(ctx context.Context, group, topic string, seen func(string)) error {
	dialer := &kafka.Dialer{DualStack: true}
	if s := securityOf(); s != nil {
		m, err := k.mechanism(s)
		if err != nil {
			return err
		}
		dialer.TLS, dialer.SASLMechanism = s.tls, m
	}
	isolation := kafka.ReadUncommitted
	if readCommitted() {
		isolation = kafka.ReadCommitted
	}
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap()}, GroupID: group, Topic: topic, Dialer: dialer, StartOffset: kafka.FirstOffset,
		SessionTimeout: sessionTimeout, HeartbeatInterval: heartbeat, IsolationLevel: isolation})
	for {
		m, err := r.ReadMessage(ctx) // and commits it
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return r.Close()
		}
		if err != nil {
			return err
		}
		seen(string(m.Value))
	}
}

func (kafkaGo) transact(context.Context, string, string) error {
	return errors.New("kafka-go has no transactional producer")
}

func (k kafkaGo) admin(ctx context.Context, topic string) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	created, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 3, ReplicationFactor: 1}}})
	if err = errors.Join(err, created.Errors[topic]); err != nil {
		return err
	}
	if err := k.partitions(ctx, c, topic, 3); err != nil {
		return err
	}
	if _, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: "123456", ConfigOperation: kafka.ConfigOperationSet}}}}}); err != nil {
		return err
	}
	described, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}})
	if err != nil {
		return err
	}
	if described.Resources[0].ConfigEntries[0].ConfigValue != "123456" {
		return errors.New("retention.ms is not what it was set to")
	}
	added, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 5}}})
	if err = errors.Join(err, added.Errors[topic]); err != nil {
		return err
	}
	if c, err = k.client(); err != nil { // the old one remembers metadata for seconds
		return err
	}
	if err := k.partitions(ctx, c, topic, 5); err != nil {
		return err
	}
	groups, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err = errors.Join(err, groups.Error); err != nil {
		return err
	}
	deleted, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	return errors.Join(err, deleted.Errors[topic])
}

func (kafkaGo) partitions(ctx context.Context, c *kafka.Client, topic string, want int) error {
	m, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	if got := len(m.Topics[0].Partitions); got != want {
		return fmt.Errorf("%d partitions, want %d", got, want)
	}
	return nil
}
