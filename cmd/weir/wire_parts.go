package main

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/mirror"
)

// startBridge serves MQTT on the log.
func (b *box) startBridge() error {
	o := bridgeOptions(&b.cfg, b.log)
	o.MQTT.Now, o.MQTT.Age = b.broker.Clock().Now, b.broker.Clock().Age
	o.MQTT.Identify, o.MQTT.Exchange = b.identify, b.exchange
	encrypt(&b.cfg, o.Listeners, b.certs)
	devices, err := bridge.Start(o, deviceLog{b.broker.Topics()})
	if err != nil {
		return err
	}
	b.devices = devices
	b.bound("mqtt", devices.Status().Addr)
	b.add(part{
		name: "mqtt", status: func() any { return devices.Status() }, source: devices, close: devices.Close,
		fill: func(s *console.Snapshot) {
			st := devices.Status()
			s.Totals.DevicesConnected = int64(st.Connections)
			s.Totals.MessagesIn = int64(st.MessagesIn)
			s.Totals.MessagesAcked = int64(st.Committed)
		},
	})
	return nil
}

// startMirror starts the flows; their targets may be away for days.
func (b *box) startMirror() error {
	if len(b.cfg.Mirror.Flows) == 0 {
		return nil
	}
	topics := b.broker.Topics()
	if _, err := topics.Ensure(record.GapTopic, topic.GapSpec()); err != nil {
		return fmt.Errorf("make %s: %w", record.GapTopic, err)
	}
	flows, err := mirror.Start(mirrorOptions(&b.cfg), mirror.Deps{Log: topics, Topics: sourceTopics{topics}, Gaps: topics, Logger: b.log})
	if err != nil {
		return err
	}
	b.flows.Store(flows)
	b.add(part{
		name: "mirror", status: func() any { return flows.Status() }, source: flows, close: flows.Close,
		fill: func(s *console.Snapshot) {
			for _, f := range flows.Status().Flows {
				fillFlow(s, &f)
			}
		},
	})
	return nil
}

// mirrored is how far all flows have carried a partition away, for the disk budget.
func (b *box) mirrored(tp record.TopicPartition) (offset int64, known bool) {
	flows := b.flows.Load()
	if flows == nil {
		return 0, false
	}
	return flows.Carried(tp)
}

func fillFlow(s *console.Snapshot, f *mirror.FlowStatus) {
	row := console.Flow{
		Name: f.Name, State: string(f.State), Peer: strings.Join(f.To, " "), Mirrored: f.RecordsSent, Lag: f.RecordsBehind, Error: f.LinkError,
	}
	topics := map[string]bool{}
	for _, p := range f.Partitions {
		topics[p.Topic] = true
		if p.State == mirror.Halted {
			row.Error = fmt.Sprintf("%s-%d: %s", p.Topic, p.Partition, p.Reason)
		}
	}
	row.Topics = len(topics)
	s.Flows = append(s.Flows, row)
	s.Totals.Mirrored += row.Mirrored
	s.Totals.MirrorLag += row.Lag
	if f.State == mirror.Halted {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: "mirror flow " + f.Name + " has halted: " + row.Error})
	}
}
