package main

import (
	"fmt"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/topic"
)

// startBroker recovers the log and serves it to Kafka clients.
func (b *box) startBroker(listeners listenerSet) error {
	ln := listeners.take("kafka")
	o := brokerOptions(&b.cfg)
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
