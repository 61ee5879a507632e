package mirror

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// Status is what an operator asks first: is it leaving, how far behind, why not.
type Status struct {
	Site  string       `json:"site"`
	Flows []FlowStatus `json:"flows"`
}

// FlowStatus is one flow. State is the worst of its partitions.
type FlowStatus struct {
	Name          string            `json:"name"`
	To            []string          `json:"to"`
	State         State             `json:"state"`
	LinkError     string            `json:"link_error,omitempty"`
	RecordsSent   int64             `json:"records_sent"` // acknowledged since start
	BytesSent     int64             `json:"bytes_sent"`
	RecordsBehind int64             `json:"records_behind"`
	Partitions    []PartitionStatus `json:"partitions"`
	Events        []Event           `json:"events,omitempty"` // the latest, oldest first
}

// PartitionStatus is the progress of one partition.
type PartitionStatus struct {
	Topic        string `json:"topic"`
	Partition    int32  `json:"partition"`
	TargetTopic  string `json:"target_topic"`
	State        State  `json:"state"`
	Reason       string `json:"reason,omitempty"`
	AckedOffset  int64  `json:"acked_offset"` // of the source: all before it is at the target; -1 while unknown
	SourceEnd    int64  `json:"source_end"`
	TargetOffset int64  `json:"target_offset"`
	// RecordsBehind is offsets not acknowledged yet; BytesBehind is estimated
	// from what is in memory, -1 when nothing is.
	RecordsBehind int64 `json:"records_behind"`
	BytesBehind   int64 `json:"bytes_behind"`
	// OldestUnackedMs is how long the partition has been behind without an
	// acknowledgement; 0 when it is not behind.
	OldestUnackedMs int64 `json:"oldest_unacked_ms"`
}

// Status is the progress of all flows.
func (m *Mirror) Status() Status {
	s := Status{Site: m.site}
	for _, f := range m.flows {
		s.Flows = append(s.Flows, f.status(time.Now()))
	}
	return s
}

func (f *flow) status(now time.Time) FlowStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := FlowStatus{
		Name: f.opt.Name, To: f.opt.To, State: Streaming, LinkError: f.linkErr,
		RecordsSent: f.counts.records, BytesSent: f.counts.bytes, Events: slices.Clone(f.events),
	}
	for _, l := range f.lanes {
		p := f.partitionStatus(l, now)
		s.RecordsBehind += p.RecordsBehind
		s.State = worse(s.State, p.State)
		s.Partitions = append(s.Partitions, p)
	}
	if s.LinkError != "" {
		s.State = worse(s.State, Connecting)
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}

func worse(a, b State) State {
	if a == Halted || b == Halted {
		return Halted
	}
	if a == Connecting || b == Connecting {
		return Connecting
	}
	return Streaming
}

func (f *flow) partitionStatus(l *lane, now time.Time) PartitionStatus {
	p := PartitionStatus{
		Topic: l.tp.Topic, Partition: l.tp.Partition, TargetTopic: l.remote, State: l.win.state, Reason: l.win.reason,
		AckedOffset: -1, TargetOffset: -1, BytesBehind: -1,
	}
	if p.Reason == "" {
		p.Reason = l.sourceErr
	}
	from := int64(0)
	if part, err := f.deps.Topics.Partition(l.tp); err == nil {
		p.SourceEnd, from = part.HighWatermark, part.LogStartOffset
	}
	if l.started || l.win.state == Halted {
		p.AckedOffset, p.TargetOffset, from = l.win.source, l.win.target, l.win.source
	}
	p.RecordsBehind = max(0, p.SourceEnd-from)
	if p.RecordsBehind == 0 {
		p.BytesBehind = 0
		return p
	}
	p.OldestUnackedMs = now.Sub(l.progress).Milliseconds()
	var bytes, records int64
	for i := range l.win.pending {
		bytes, records = bytes+int64(len(l.win.pending[i].batch)), records+l.win.pending[i].count
	}
	if records > 0 {
		p.BytesBehind = int64(float64(bytes) / float64(records) * float64(p.RecordsBehind))
		p.OldestUnackedMs = max(0, now.Sub(l.win.pending[0].readAt).Milliseconds())
	}
	return p
}

// Metrics writes the figures of all flows.
func (m *Mirror) Metrics(w *metric.Writer) {
	all := m.Status().Flows
	sum := func(name, help string, value func(*FlowStatus) float64, kind func(string, string, float64, ...string)) {
		for i := range all {
			kind(name, help, value(&all[i]), "flow", all[i].Name)
		}
	}
	sum("weir_mirror_records_sent_total", "Records acknowledged by the target.", func(s *FlowStatus) float64 { return float64(s.RecordsSent) }, w.Counter)
	sum("weir_mirror_bytes_sent_total", "Bytes of batches acknowledged by the target.", func(s *FlowStatus) float64 { return float64(s.BytesSent) }, w.Counter)
	sum("weir_mirror_link_up", "1 while the target can be worked with.", func(s *FlowStatus) float64 { return truth(s.LinkError == "") }, w.Gauge)
	each := func(name, help string, value func(*PartitionStatus) float64) {
		for i := range all {
			for j := range all[i].Partitions {
				p := &all[i].Partitions[j]
				w.Gauge(name, help, value(p), "flow", all[i].Name, "topic", p.Topic, "partition", strconv.Itoa(int(p.Partition)))
			}
		}
	}
	each("weir_mirror_records_behind", "Records not acknowledged by the target yet.", func(p *PartitionStatus) float64 { return float64(p.RecordsBehind) })
	each("weir_mirror_oldest_unacked_seconds", "How long the partition waits for an acknowledgement.", func(p *PartitionStatus) float64 { return float64(p.OldestUnackedMs) / 1000 })
	each("weir_mirror_halted", "1 when the partition is halted.", func(p *PartitionStatus) float64 { return truth(p.State == Halted) })
	m.countMetrics(w)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *Mirror) countMetrics(w *metric.Writer) {
	for _, f := range m.flows {
		f.mu.Lock()
		w.Counter("weir_mirror_gaps_total", "Gap records written.", float64(f.counts.gaps), "flow", f.opt.Name)
		f.mu.Unlock()
	}
	kinds := []Kind{SourcePurged, SourceRecreated, SourceTruncated, SourceCorrupt, SourceCompacted, TargetRecreated, TargetTruncated, TargetDiverged, PositionLost, Rejected, TooLarge}
	for _, f := range m.flows {
		f.mu.Lock()
		for _, k := range kinds {
			w.Counter("weir_mirror_events_total", "Things noticed that contradict a position.", float64(f.counts.events[k]), "flow", f.opt.Name, "kind", string(k))
		}
		f.mu.Unlock()
	}
}
