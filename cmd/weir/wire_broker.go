package main

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/bridge/mqtt"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
	"github.com/weirmq/weir/mirror"
)

// startBroker opens the log, which recovers it, and the Kafka listener.
func (b *box) startBroker() error {
	o := brokerOptions(&b.cfg, b.log)
	o.Mirrored = b.mirrored
	if b.certs != nil {
		o.TLS = b.certs.Server()
	}
	broker, err := appliance.Open(o)
	if err != nil {
		return err
	}
	b.broker = broker
	b.quotas.Store(broker.Quotas())
	b.authority.Store(broker.Auth())
	b.bound("kafka", broker.Status().KafkaAddr)
	view := &logView{broker: broker}
	view.recordsBefore = view.highWatermarks()
	b.add(part{
		name: "broker", status: func() any { return broker.Status() }, source: broker, fill: view.fill, close: broker.Close,
	})
	b.setClock(broker.Clock())
	b.add(part{name: "groups", status: func() any { return broker.Groups().Status() }, source: broker.Groups()})
	return b.ensureTopics(&b.cfg)
}

// ensureTopics makes the topics of a configuration that do not exist.
func (b *box) ensureTopics(cfg *firmwareconfig.Config) error {
	for _, t := range cfg.Topics {
		if _, err := b.broker.Topics().Ensure(t.Name, topicSpec(t)); err != nil {
			return fmt.Errorf("topic '%s' of the configuration: %w", t.Name, err)
		}
	}
	return nil
}

// logView shows the log on the console.
type logView struct {
	broker        *appliance.Broker
	recordsBefore int64
	recordsIn     atomic.Int64
}

func (v *logView) highWatermarks() (sum int64) {
	for _, t := range v.broker.Topics().Topics() {
		for _, p := range t.Partitions() {
			sum += p.HighWatermark()
		}
	}
	return sum
}

func (v *logView) fill(s *console.Snapshot) {
	if err := v.broker.Err(); err != nil {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed,
			Text: "the storage failed and accepts no data: " + err.Error() + "; mend the disk and restart"})
	}
	if text := v.broker.MetadataWarning(); text != "" {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: text})
	}
	s.Warnings = append(s.Warnings, damageWarnings(v.broker.Topics().WALDamage(), v.broker.Topics().Lost())...)
	disk := v.broker.Topics().DiskStatus()
	fillDisk(s, &disk)
	shares := map[string]topic.TopicDisk{}
	for _, t := range disk.Topics {
		shares[t.Topic] = t
	}
	if text := v.broker.Wear().Warning; text != "" {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: text})
	}
	if st := v.broker.Clock().Status(); !st.Trusted {
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: fmt.Sprintf(
			"the machine's clock says %s and is not trusted; records are stamped from %s on; let a time service (NTP) set it, or say that it is right with weir clock confirm",
			st.Machine.Format(time.RFC3339), st.Now.Format(time.RFC3339))})
	}
	for _, t := range v.broker.Topics().Topics() {
		if t.Relaxed() {
			s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: "topic " + t.Name() +
				": acked data can be lost on power cut (flush.messages=" + t.Config("flush.messages") + ", flush.ms=" + t.Config("flush.ms") + ")"})
		}
		shown := console.Topic{Name: t.Name(), Internal: t.Internal() || internalTopic(t.Name())}
		for _, p := range t.Partitions() {
			row := console.Partition{
				Partition: p.TopicPartition().Partition, LogStartOffset: p.LogStartOffset(), HighWatermark: p.HighWatermark(), Bytes: p.Size(),
			}
			shown.Partitions = append(shown.Partitions, row)
			shown.Bytes += row.Bytes
			shown.Records += row.HighWatermark - row.LogStartOffset
			if err := p.Err(); err != nil {
				s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: p.TopicPartition().String() + " is offline: " + err.Error()})
			}
		}
		share := shares[shown.Name]
		shown.DiskPolicy, shown.DiskPriority, shown.BytesPerSecond = share.Policy, share.Priority, share.BytesPerSecond
		shown.DroppedRecords, shown.DroppedBytes, shown.RefusedAppends = share.DroppedRecords, share.DroppedBytes, share.RefusedAppends
		s.Topics = append(s.Topics, shown)
	}
	// A deleted topic takes its records out of the sum; the counter does not go back.
	now := v.highWatermarks() - v.recordsBefore
	for {
		old := v.recordsIn.Load()
		if now <= old || v.recordsIn.CompareAndSwap(old, now) {
			break
		}
	}
	s.Totals.RecordsIn = v.recordsIn.Load()
	for _, g := range v.broker.Groups().Status().Groups {
		row := console.Group{Name: g.ID, State: g.State, Members: len(g.Members), Lag: -1}
		for _, o := range g.Offsets {
			row.Lag = max(row.Lag, 0) + max(o.Lag, 0)
		}
		s.Groups = append(s.Groups, row)
	}
}

// damageWarnings says what the disk did not keep; /v1/status lists all of it.
func damageWarnings(log []wal.Damage, lost []topic.Lost) (out []console.Warning) {
	add := func(format string, args ...any) {
		out = append(out, console.Warning{Severity: console.SeverityFailed, Text: fmt.Sprintf(format, args...)})
	}
	if len(log) > 0 {
		text := fmt.Sprintf("this start found the write-ahead log damaged: %s, %s", log[0].File, log[0].Cause)
		if n := len(log) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d places more)", n)
		}
		add("%s; acknowledged records may be missing, what could not be read is in the folder quarantine, and the disk should be looked at", text)
	}
	if len(lost) > 0 {
		records := int64(0)
		for _, l := range lost {
			records += l.Last + 1 - l.First
		}
		add("records lost to damage on the disk: %d, the first of them offsets %d to %d of %s-%d; %s names all, and the disk should be looked at",
			records, lost[0].First, lost[0].Last, lost[0].Topic, lost[0].Partition, record.GapTopic)
	}
	return out
}

// forecastWarning is how long before the room is used up an operator is told.
const forecastWarning = 24 * time.Hour

// fillDisk shows how long the room lasts, and warns when it does not.
func fillDisk(s *console.Snapshot, d *topic.DiskStatus) {
	s.Disk.LogBytes = d.LogBytes
	s.Disk.ReserveBytes, s.Disk.BallastBytes, s.Disk.BudgetBytes, s.Disk.RoomBytes = d.ReserveBytes, d.BallastBytes, d.BudgetBytes, d.RoomBytes
	s.Disk.FullInSeconds, s.Disk.LosesFirst, s.Disk.Forecast, s.Disk.Refusing = d.FullInSeconds, d.LosesFirst, d.Forecast, d.Refusing
	switch {
	case d.Refusing:
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: d.Forecast})
	case d.FullInSeconds >= 0 && d.FullInSeconds < int64(forecastWarning/time.Second):
		s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: d.Forecast})
	}
	for _, t := range d.Topics {
		if t.DroppedRecords > 0 {
			s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityWarning, Text: fmt.Sprintf(
				"topic %s let go of %d records for want of room since the start; %s names them", t.Topic, t.DroppedRecords, record.GapTopic)})
		}
	}
}

// deviceLog is the log as the bridge wants it.
type deviceLog struct{ *topic.Set }

var _ mqtt.Log = deviceLog{}

// Ensure implements mqtt.Log.
func (l deviceLog) Ensure(name string, partitions int32, configs map[string]string) (int32, error) {
	t, err := l.Set.Ensure(name, topic.Spec{Partitions: partitions, Configs: configs, Internal: internalTopic(name)})
	if err != nil {
		return 0, err
	}
	return int32(len(t.Partitions())), nil
}

// TopicID implements mqtt.Log.
func (l deviceLog) TopicID(name string) (id [16]byte, ok bool) {
	t := l.Topic(name)
	if t == nil {
		return id, false
	}
	return t.ID(), true
}

// MaxMessageBytes implements mqtt.Log. A topic that was deleted meanwhile refuses the batch itself.
func (l deviceLog) MaxMessageBytes(name string) int {
	t := l.Topic(name)
	if t == nil {
		return math.MaxInt
	}
	return t.MaxMessageBytes()
}

// Offsets implements mqtt.Log.
func (l deviceLog) Offsets(tp record.TopicPartition) (start, end int64, err error) {
	p, err := l.Partition(tp)
	if err != nil {
		return 0, 0, err
	}
	return p.LogStartOffset(), p.LastStableOffset(), nil
}

// DeleteRecords implements mqtt.Log.
func (l deviceLog) DeleteRecords(tp record.TopicPartition, before int64) error {
	p, err := l.Partition(tp)
	if err != nil {
		return err
	}
	_, err = p.DeleteRecords(before)
	return err
}

// sourceTopics is the log as the mirror wants it.
type sourceTopics struct{ set *topic.Set }

var _ mirror.Topics = sourceTopics{}

// Topics implements mirror.Topics.
func (s sourceTopics) Topics() []mirror.Topic {
	all := s.set.Topics()
	out := make([]mirror.Topic, len(all))
	for i, t := range all {
		out[i] = mirror.Topic{Name: t.Name(), ID: t.ID(), Partitions: int32(len(t.Partitions())), Internal: t.Internal() || internalTopic(t.Name())}
	}
	return out
}

// Partition implements mirror.Topics.
func (s sourceTopics) Partition(tp record.TopicPartition) (mirror.Partition, error) {
	t := s.set.Topic(tp.Topic)
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions()) {
		return mirror.Partition{}, record.ErrUnknownTopicOrPartition
	}
	p := t.Partitions()[tp.Partition]
	return mirror.Partition{TopicID: t.ID(), LogStartOffset: p.LogStartOffset(), HighWatermark: p.LastStableOffset()}, nil
}

// errStorage ends the process: only a restart re-reads what the disk really holds.
var errStorage = errors.New("the storage failed")
