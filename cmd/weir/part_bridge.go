package main

import (
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/bridge"
)

// startBridge serves MQTT devices.
func (b *box) startBridge(listeners listenerSet) error {
	ln := listeners.take("mqtt")
	o := bridgeOptions(&b.cfg)
	o.Listener, o.MQTT.Log = ln, b.log
	br, err := bridge.Start(o, bridgeLog{b.broker.Topics()})
	if err != nil {
		_ = ln.Close()
		return err
	}
	b.add(part{name: "mqtt", status: func() any { return br.Status() }, source: br, close: br.Close,
		fill: func(s *console.Snapshot) {
			st := br.Status()
			s.Totals.DevicesConnected = int64(st.Connections)
			s.Totals.MessagesIn, s.Totals.MessagesAcked = int64(st.MessagesIn), int64(st.Committed)
		}})
	b.bound("mqtt", ln.Addr().String())
	return nil
}

// bridgeLog is the log as the bridge wants it.
type bridgeLog struct{ *topic.Set }

func (l bridgeLog) Ensure(name string, partitions int32, configs map[string]string) (int32, error) {
	t, err := l.Set.Ensure(name, topic.Spec{Partitions: partitions, Configs: configs, Internal: internalName(name)})
	if err != nil {
		return 0, err
	}
	return int32(len(t.Partitions())), nil
}

func (l bridgeLog) Offsets(tp record.TopicPartition) (start, end int64, err error) {
	p, err := l.Partition(tp)
	if err != nil {
		return 0, 0, err
	}
	return p.LogStartOffset(), p.HighWatermark(), nil
}

func (l bridgeLog) DeleteRecords(tp record.TopicPartition, before int64) error {
	p, err := l.Partition(tp)
	if err != nil {
		return err
	}
	_, err = p.DeleteRecords(before)
	return err
}
