package topic

import (
	"fmt"
	"math"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// DiskStatus is the room that the log has, in bytes.
type DiskStatus struct {
	FreeBytes    int64 `json:"free_bytes"`    // of the disk, without the ballast
	TotalBytes   int64 `json:"total_bytes"`   // 0: not known
	ReserveBytes int64 `json:"reserve_bytes"` // that stays free
	BallastBytes int64 `json:"ballast_bytes"` // how much of the reserve is taken from the disk now
	BudgetBytes  int64 `json:"budget_bytes"`  // that all segments may have: -1, no limit but the reserve
	LogBytes     int64 `json:"log_bytes"`     // of all segments
	RoomBytes    int64 `json:"room_bytes"`    // until the disk policies come in; -1: not known
	Refusing     bool  `json:"refusing"`      // the last append was refused for want of room
	OverBudget   bool  `json:"over_budget"`   // it is the budget that limits the room, not the disk

	BytesPerSecond float64 `json:"bytes_per_second"` // growth of the log, over minutes
	// FullInSeconds is when the room is used up at this rate; -1 when the log does
	// not grow, or it is not known yet.
	FullInSeconds int64 `json:"full_in_seconds"`
	// LosesFirst is the topic that lets go of records first; empty when none does, and
	// appends are refused.
	LosesFirst string `json:"loses_first,omitempty"`
	Forecast   string `json:"forecast"` // the same in words

	Topics []TopicDisk `json:"topics"` // by name
}

// TopicDisk is one topic's share. The counters begin with the process.
type TopicDisk struct {
	Topic          string  `json:"topic"`
	Bytes          int64   `json:"bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	Policy         string  `json:"policy"`
	Priority       int64   `json:"priority"`
	DroppedRecords int64   `json:"dropped_records"`
	DroppedBytes   int64   `json:"dropped_bytes"`
	RefusedAppends int64   `json:"refused_appends"`
}

// DiskStatus says how much room there is, who has it and how long it will last.
func (s *Set) DiskStatus() DiskStatus {
	sp := s.space
	st := DiskStatus{FreeBytes: sp.free.Load(), TotalBytes: sp.total.Load(), ReserveBytes: sp.reserve, BallastBytes: sp.held(),
		BudgetBytes: sp.budget(), RoomBytes: sp.room(), Refusing: sp.refused.Load(), OverBudget: sp.overBudget()}
	if st.BudgetBytes == unlimited {
		st.BudgetBytes = -1
	}
	if st.RoomBytes == unlimited {
		st.RoomBytes = -1
	} else {
		st.RoomBytes = max(st.RoomBytes, 0)
	}
	s.trends.mu.Lock()
	defer s.trends.mu.Unlock()
	for _, t := range s.Topics() {
		row := TopicDisk{Topic: t.name, Bytes: t.size(), BytesPerSecond: s.trends.topics[t.id].perSecond(),
			Policy: t.config().diskPolicy, Priority: t.config().diskPriority,
			DroppedRecords: t.droppedRecords.Load(), DroppedBytes: t.droppedBytes.Load(), RefusedAppends: t.refused.Load()}
		st.LogBytes += row.Bytes
		st.Topics = append(st.Topics, row)
	}
	st.BytesPerSecond = s.trends.log.perSecond()
	full := s.trends.log.until(sp.budgetRoom())
	if d := s.trends.disk.until(sp.diskRoom(sp.reserve)); full < 0 || d >= 0 && d < full {
		full = d
	}
	st.FullInSeconds = -1
	if full >= 0 {
		st.FullInSeconds = int64(full / time.Second)
	}
	st.LosesFirst = s.losesFirst()
	st.Forecast = st.forecast(full)
	return st
}

// losesFirst is the topic that lets go of records first: of those of the lowest
// priority that may, the one with the oldest segment. Empty when none may.
func (s *Set) losesFirst() (name string) {
	first := victim{priority: math.MaxInt64}
	for _, t := range s.Topics() {
		priority := t.config().diskPriority
		if t.config().diskPolicy == DiskReject || priority > first.priority {
			continue
		}
		for _, p := range t.Partitions() {
			segments, err := p.log.Segments()
			if err != nil || len(segments) == 0 || segments[0].MaxTimestamp < 0 {
				continue
			}
			if age := segments[0].MaxTimestamp; priority < first.priority || age < first.age {
				first, name = victim{priority: priority, age: age}, t.name
			}
		}
	}
	return name
}

func (st *DiskStatus) forecast(full time.Duration) string {
	then := "then appends are refused"
	if st.LosesFirst != "" {
		then = "topic " + st.LosesFirst + " loses data first"
	}
	switch {
	case st.Refusing && st.OverBudget:
		return "data.budget is used up: appends are refused until there is room"
	case st.Refusing:
		return "the disk is full: appends are refused until there is room"
	case full < 0:
		return "not filling up"
	}
	return fmt.Sprintf("no room in %s at this rate; %s", roughly(full), then)
}

// roughly is a time in the one unit that an operator thinks in.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 72*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// Metrics writes the figures.
func (st *DiskStatus) Metrics(w *metric.Writer) {
	refusing := 0.0
	if st.Refusing {
		refusing = 1
	}
	w.Gauge("weir_disk_free_bytes", "Bytes free on the disk, without the ballast.", float64(st.FreeBytes))
	w.Gauge("weir_disk_total_bytes", "Bytes of the disk.", float64(st.TotalBytes))
	w.Gauge("weir_disk_reserve_bytes", "Bytes that stay free for deletes, commits and recovery.", float64(st.ReserveBytes))
	w.Gauge("weir_disk_ballast_bytes", "How much of the reserve is taken from the disk now.", float64(st.BallastBytes))
	w.Gauge("weir_disk_budget_bytes", "Bytes that all segments may have; -1: no limit but the reserve.", float64(st.BudgetBytes))
	w.Gauge("weir_disk_log_bytes", "Bytes of all segments.", float64(st.LogBytes))
	w.Gauge("weir_disk_room_bytes", "Bytes until the disk policies come in; -1: not known.", float64(st.RoomBytes))
	w.Gauge("weir_disk_refusing", "1 while appends are refused for want of room.", refusing)
	w.Gauge("weir_disk_growth_bytes_per_second", "Growth of the log, smoothed over minutes.", st.BytesPerSecond)
	w.Gauge("weir_disk_full_in_seconds", "When the room is used up at this rate; -1: it is not filling up.", float64(st.FullInSeconds))
	each := func(write func(string, string, float64, ...string), name, help string, value func(*TopicDisk) float64) {
		for i := range st.Topics {
			write(name, help, value(&st.Topics[i]), "topic", st.Topics[i].Topic)
		}
	}
	each(w.Gauge, "weir_disk_topic_bytes", "Bytes of a topic's segments.", func(t *TopicDisk) float64 { return float64(t.Bytes) })
	each(w.Counter, "weir_disk_dropped_records_total", "Records that the disk policy let go of.", func(t *TopicDisk) float64 { return float64(t.DroppedRecords) })
	each(w.Counter, "weir_disk_dropped_bytes_total", "Bytes that the disk policy let go of.", func(t *TopicDisk) float64 { return float64(t.DroppedBytes) })
	each(w.Counter, "weir_disk_refused_appends_total", "Appends refused for want of room.", func(t *TopicDisk) float64 { return float64(t.RefusedAppends) })
}
