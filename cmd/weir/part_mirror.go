package main

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/mirror"
)

// internalName reports whether a topic is Weir's own, by its name.
func internalName(name string) bool { return strings.HasPrefix(name, "__") }

// startMirror starts the flows to other clusters, which need not be reachable.
func (b *box) startMirror(listenerSet) error {
	if len(b.cfg.Mirror.Flows) == 0 {
		return nil
	}
	topics := b.broker.Topics()
	if _, err := topics.Ensure(mirror.GapTopic, topic.Spec{Partitions: 1, Internal: true, Configs: map[string]string{"retention.ms": "-1"}}); err != nil {
		return err
	}
	m, err := mirror.Start(mirrorOptions(&b.cfg), mirror.Deps{Log: topics, Topics: mirrorTopics{topics}, Gaps: topics, Logger: b.log})
	if err != nil {
		return err
	}
	b.add(part{name: "mirror", status: func() any { return m.Status() }, source: m, close: m.Close,
		fill: func(s *console.Snapshot) { fillFlows(s, m.Status()) }})
	return nil
}

// fillFlows shows the flows on the console.
func fillFlows(s *console.Snapshot, st mirror.Status) {
	for _, f := range st.Flows {
		row := console.Flow{Name: f.Name, State: string(f.State), Peer: strings.Join(f.To, ", "), Mirrored: f.RecordsSent, Lag: f.RecordsBehind, Error: f.LinkError}
		seen := map[string]bool{}
		for _, p := range f.Partitions {
			seen[p.Topic] = true
			if p.State == mirror.Halted {
				row.Error = fmt.Sprintf("%s-%d: %s", p.Topic, p.Partition, p.Reason)
				s.Warnings = append(s.Warnings, console.Warning{Severity: console.SeverityFailed, Text: "mirror flow " + f.Name + " is halted: " + row.Error})
			}
		}
		row.Topics = len(seen)
		s.Flows = append(s.Flows, row)
		s.Totals.Mirrored += row.Mirrored
		s.Totals.MirrorLag += row.Lag
	}
}

// mirrorTopics is the set of topics as the mirror wants it.
type mirrorTopics struct{ set *topic.Set }

func (m mirrorTopics) Topics() []mirror.Topic {
	all := m.set.Topics()
	out := make([]mirror.Topic, len(all))
	for i, t := range all {
		out[i] = mirror.Topic{Name: t.Name(), ID: t.ID(), Partitions: int32(len(t.Partitions())), Internal: t.Internal()}
	}
	return out
}

func (m mirrorTopics) Partition(tp record.TopicPartition) (mirror.Partition, error) {
	p, err := m.set.Partition(tp)
	if err != nil {
		return mirror.Partition{}, err
	}
	return mirror.Partition{TopicID: p.TopicID(), LogStartOffset: p.LogStartOffset(), HighWatermark: p.HighWatermark()}, nil
}
