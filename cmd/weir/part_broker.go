package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// startBroker recovers the log and serves it to Kafka clients.
func (b *box) startBroker(listeners listenerSet) error {
	ln := listeners.take("kafka")
	o := brokerOptions(b.cfg)
	o.Listener, o.Log = ln, b.log
	broker, err := appliance.Open(o)
	if err != nil {
		_ = ln.Close()
		return err
	}
	b.broker = broker
	b.add(part{name: "groups", status: func() any { return broker.Groups().Status() }, source: broker.Groups()})
	b.add(part{name: "kafka", status: func() any { return broker.Status() }, source: broker, fill: fillTopics(broker), close: broker.Close})
	if err := b.ensureTopics(); err != nil {
		return err
	}
	b.bound("kafka", ln.Addr().String())
	return nil
}

// brokerOptions maps weir.yaml to the broker's options.
func brokerOptions(c firmwareconfig.Config) appliance.Options {
	s := c.Storage
	o := appliance.Options{
		Data: c.Data.Dir, Partitions: int32(c.Kafka.NumPartitions), ReserveBytes: int64(c.Data.Reserve),
		Profile: appliance.Profile(s.CommitProfile),
		Groups:  group.Options{OffsetsRetention: time.Duration(c.Kafka.OffsetsRetentionMinutes) * time.Minute},
		WAL:     wal.Options{FileBytes: int64(s.WALFileBytes), MaxFiles: s.WALFiles, RoundBytes: int(min(int64(s.RoundBytes), int64(s.WALFileBytes)/2))},
		Wire: kafka.Options{
			AdvertisedListener: c.Kafka.Advertised, NoAutoCreateTopics: !c.Kafka.AutoCreateTopics,
			MaxProduceBytes: int(c.Kafka.MaxRequest), MaxConnections: c.Kafka.MaxConnections,
		},
		TopicConfigs: map[string]string{
			"retention.ms":      strconv.FormatInt(hoursToMs(c.Kafka.RetentionHours), 10),
			"retention.bytes":   strconv.FormatInt(c.Kafka.RetentionBytes, 10),
			"segment.bytes":     strconv.FormatInt(int64(c.Kafka.SegmentBytes), 10),
			"max.message.bytes": strconv.FormatInt(int64(c.Kafka.MessageMaxBytes), 10),
		},
	}
	if o.Profile == appliance.ProfileFlash {
		o.WAL.Linger = time.Duration(s.CommitLinger)
	}
	return o
}

func hoursToMs(h int64) int64 {
	if h < 0 {
		return -1
	}
	return h * time.Hour.Milliseconds()
}

// ensureTopics makes the topics that weir.yaml lists. Existing ones are left as they are.
func (b *box) ensureTopics() error {
	for _, t := range b.cfg.Topics {
		if _, err := b.broker.Topics().Ensure(t.Name, topic.Spec{Partitions: int32(t.Partitions), Configs: t.Configs}); err != nil {
			return fmt.Errorf("topics: %s: %w", t.Name, err)
		}
	}
	return nil
}

// fillTopics shows the log and the groups on the console.
func fillTopics(broker *appliance.Broker) func(*console.Snapshot) {
	return func(s *console.Snapshot) {
		for _, t := range broker.Topics().Topics() {
			row := console.Topic{Name: t.Name(), Internal: t.Internal()}
			for i, p := range t.Partitions() {
				part := console.Partition{Partition: int32(i), LogStartOffset: p.LogStartOffset(), HighWatermark: p.HighWatermark(), Bytes: p.Size()}
				row.Bytes += part.Bytes
				row.Records += part.HighWatermark - part.LogStartOffset
				row.Partitions = append(row.Partitions, part)
				if err := p.Err(); err != nil {
					s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: err.Error()})
				}
				s.Totals.RecordsIn += part.HighWatermark
			}
			s.Disk.LogBytes += row.Bytes
			s.Topics = append(s.Topics, row)
		}
		if err := broker.Err(); err != nil {
			s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: "storage failed, nothing is accepted until a restart: " + err.Error()})
		}
		for _, g := range broker.Groups().Status().Groups {
			row := console.Group{Name: g.ID, State: g.State, Members: len(g.Members), Lag: -1}
			for _, o := range g.Offsets {
				row.Lag = max(row.Lag, 0) + max(o.Lag, 0)
			}
			s.Groups = append(s.Groups, row)
		}
	}
}
