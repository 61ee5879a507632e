package group

import (
	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
)

// maxStatusOffsets bounds the offsets that one Status lists.
const maxStatusOffsets = 1000

// Status is a snapshot of all groups.
type Status struct {
	Groups []GroupStatus `json:"groups"`
	// OffsetsLeftOut is how many offsets there are beyond those listed.
	OffsetsLeftOut int `json:"offsets_left_out,omitempty"`
	// Error is why commits are not accepted, empty when they are.
	Error string `json:"error,omitempty"`
	// LostRecords is how many records of the offsets topic the disk has not kept.
	// Groups that had commits in them go on from older ones.
	LostRecords int64 `json:"lost_records,omitempty"`
}

// GroupStatus is one group.
type GroupStatus struct {
	ID         string         `json:"id"`
	State      string         `json:"state"`
	Generation int32          `json:"generation"`
	Protocol   string         `json:"protocol,omitempty"`
	Members    []MemberStatus `json:"members"`
	Offsets    []OffsetStatus `json:"offsets"`
}

// MemberStatus is one member of a group.
type MemberStatus struct {
	ID         string `json:"id"`
	InstanceID string `json:"instance_id,omitempty"`
	ClientID   string `json:"client_id"`
	Host       string `json:"host"`
}

// OffsetStatus is how far a group is in one partition. Lag is -1 when unknown.
type OffsetStatus struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Lag       int64  `json:"lag"`
}

// Status shows all groups, their members and committed offsets.
func (c *Coordinator) Status() Status {
	st := Status{Groups: []GroupStatus{}, LostRecords: c.log.lost()}
	if _, err := c.log.health(); err != nil {
		st.Error = err.Error()
	}
	groups, _ := c.List() // fails only for the reason above
	listed := 0
	for _, d := range groups {
		g := GroupStatus{ID: d.Group, State: d.State.String(), Generation: d.Generation, Protocol: d.Protocol, Members: []MemberStatus{}, Offsets: []OffsetStatus{}}
		for _, m := range d.Members {
			g.Members = append(g.Members, MemberStatus{ID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, Host: m.ClientHost})
		}
		for _, o := range c.committedAll(d.Group) {
			if listed++; listed > maxStatusOffsets {
				st.OffsetsLeftOut++
				continue
			}
			g.Offsets = append(g.Offsets, OffsetStatus{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Lag: c.lag(o.TopicPartition, o.Offset)})
		}
		st.Groups = append(st.Groups, g)
	}
	return st
}

func (c *Coordinator) lag(tp record.TopicPartition, offset int64) int64 {
	if c.opts.HighWatermark == nil {
		return -1
	}
	hw, ok := c.opts.HighWatermark(tp)
	if !ok {
		return -1
	}
	return max(hw-offset, 0)
}

// Metrics writes the coordinator's figures.
func (c *Coordinator) Metrics(w *metric.Writer) {
	groups, _ := c.List()
	states := map[State]int{}
	members := 0
	for i := range groups {
		states[groups[i].State]++
		members += len(groups[i].Members)
	}
	for s := Empty; s <= Reconciling; s++ {
		w.Gauge("weir_groups", "consumer groups by state", float64(states[s]), "state", s.String())
	}
	w.Gauge("weir_group_members", "members of all consumer groups", float64(members))
	_, offsets := c.log.table.size()
	w.Gauge("weir_group_offsets", "committed offsets kept", float64(offsets))
	w.Counter("weir_group_offset_commits_total", "offsets committed by clients", float64(c.commits.Load()))
	w.Counter("weir_group_rebalances_total", "generations begun", float64(c.rebalances.Load()))
	w.Counter("weir_group_offsets_expired_total", "offsets deleted because their group was idle", float64(c.expired.Load()))
	w.Counter("weir_group_snapshots_total", "rewrites of the offsets topic", float64(c.log.snapshots.Load()))
	w.Counter("weir_group_unreadable_records_total", "records of the offsets topic that could not be read", float64(c.log.unreadable.Load()))
	up := 1.0
	if _, err := c.log.health(); err != nil {
		up = 0
	}
	w.Gauge("weir_group_coordinator_up", "1 while offsets can be committed", up)
}
