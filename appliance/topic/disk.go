package topic

import (
	"fmt"
	"math"
	"time"
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
		BudgetBytes: sp.budget(), RoomBytes: sp.room(), Refusing: sp.refused.Load()}
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
	case st.Refusing:
		return "full now: appends are refused until there is room"
	case full < 0:
		return "not filling up"
	}
	return fmt.Sprintf("full in %s at this rate; %s", roughly(full), then)
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
