package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

type saramaClient struct{}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func (saramaClient) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	if s := securityOf(); s != nil {
		c.Net.TLS.Enable, c.Net.TLS.Config = true, s.tls
		c.Net.SASL.Enable, c.Net.SASL.User, c.Net.SASL.Password = true, s.user, s.password
		c.Net.SASL.Mechanism = sarama.SASLMechanism(s.mechanism)
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{mechanism: s.mechanism} }
	}
	return c
}

// scramClient is the one that sarama's examples show.
type scramClient struct {
	*scram.ClientConversation
	mechanism string
}

func (c *scramClient) Begin(user, password, authzID string) error {
	generator := scram.HashGeneratorFcn(func() hash.Hash { return sha512.New() })
	if c.mechanism == sarama.SASLTypeSCRAMSHA256 {
		generator = func() hash.Hash { return sha256.New() }
	}
	client, err := generator.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	c.ClientConversation = client.NewConversation()
	return nil
}

func saramaMessages(topic string, values []string, headers ...sarama.RecordHeader) []*sarama.ProducerMessage {
	messages := make([]*sarama.ProducerMessage, len(values))
	for i, v := range values {
		messages[i] = &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("k-", i)), Value: sarama.StringEncoder(v), Headers: headers}
	}
	return messages
}

func (s saramaClient) produce(_ context.Context, topic, codec string, values []string) error {
	config := s.config()
	config.Producer.Compression = saramaCodecs[codec]
	producer, err := sarama.NewSyncProducer([]string{bootstrap()}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.SendMessages(saramaMessages(topic, values, sarama.RecordHeader{Key: []byte("codec"), Value: []byte(codec)}))
}

// saramaHandler gives each message to seen and marks it.
type saramaHandler func(string)

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		h(string(m.Value))
		session.MarkMessage(m, "")
	}
	return nil
}

func (s saramaClient) consume(ctx context.Context, group, topic string, seen func(string)) error {
	config := s.config()
	config.Consumer.Group.Session.Timeout, config.Consumer.Group.Heartbeat.Interval = sessionTimeout, heartbeat
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if readCommitted() {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	members, err := sarama.NewConsumerGroup([]string{bootstrap()}, group, config)
	if err != nil {
		return err
	}
	for ctx.Err() == nil { // Consume ends with each rebalance
		if err := members.Consume(ctx, []string{topic}, saramaHandler(seen)); err != nil {
			return err
		}
	}
	return members.Close()
}

func (s saramaClient) transact(_ context.Context, topic, id string) error {
	config := s.config()
	config.Producer.Idempotent, config.Producer.Transaction.ID, config.Net.MaxOpenRequests = true, id, 1
	producer, err := sarama.NewSyncProducer([]string{bootstrap()}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, end := range []struct {
		format string
		call   func() error
	}{{"aborted-%d", producer.AbortTxn}, {"committed-%d", producer.CommitTxn}} {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		if err := producer.SendMessages(saramaMessages(topic, numbered(end.format, perTransaction))); err != nil {
			return err
		}
		if err := end.call(); err != nil {
			return err
		}
	}
	return nil
}

func (s saramaClient) admin(_ context.Context, topic string) error {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap()}, s.config())
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	if err := s.partitions(admin, topic, 3); err != nil {
		return err
	}
	value := "123456"
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}, false); err != nil {
		return err
	}
	configs, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
	if err != nil {
		return err
	}
	if len(configs) != 1 || configs[0].Value != value {
		return errors.New("retention.ms is not what it was set to")
	}
	if err := admin.CreatePartitions(topic, 5, nil, false); err != nil {
		return err
	}
	if err := s.partitions(admin, topic, 5); err != nil {
		return err
	}
	if _, err := admin.ListConsumerGroups(); err != nil {
		return err
	}
	if _, _, err := admin.DescribeCluster(); err != nil {
		return err
	}
	return admin.DeleteTopic(topic)
}

func (saramaClient) partitions(admin sarama.ClusterAdmin, topic string, want int) error {
	topics, err := admin.DescribeTopics([]string{topic})
	if err == nil && len(topics[0].Partitions) != want {
		err = fmt.Errorf("%d partitions, want %d", len(topics[0].Partitions), want)
	}
	return err
}
