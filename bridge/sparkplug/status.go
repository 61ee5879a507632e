package sparkplug

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// MaxListed is how many edge nodes a Status names at most.
const MaxListed = 100

// MaxNamed is how many devices of each of these it names at most.
const MaxNamed = 20

// Status is a snapshot for GET /v1/status.
type Status struct {
	Groups        int `json:"groups"` // that the edge nodes are of
	Nodes         int `json:"nodes"`
	NodesOnline   int `json:"nodes_online"`
	NodesStale    int `json:"nodes_stale"` // online, but something is missing
	Devices       int `json:"devices"`
	DevicesOnline int `json:"devices_online"`
	Counts
	// Listed is up to MaxListed edge nodes, by name, those that are offline or stale first.
	Listed []NodeStatus `json:"edge_nodes"`
}

// NodeStatus is one edge node.
type NodeStatus struct {
	Name          string     `json:"name"` // GROUP/NODE
	Online        bool       `json:"online"`
	Stale         bool       `json:"stale"`
	Seq           byte       `json:"seq"`
	Born          *time.Time `json:"born,omitempty"`  // the last time
	Asked         *time.Time `json:"asked,omitempty"` // for its birth, the last time
	Gaps          uint64     `json:"gaps"`            // sequence numbers that were not the next one
	Rebirths      uint64     `json:"rebirths"`        // births asked for
	Devices       int        `json:"devices"`
	DevicesOnline int        `json:"devices_online"`
	// Named is up to MaxNamed devices, by name, those that are offline first.
	Named []DeviceStatus `json:"named_devices,omitempty"`
}

// DeviceStatus is one device of an edge node.
type DeviceStatus struct {
	Name   string `json:"name"`
	Online bool   `json:"online"`
}

// Status returns a snapshot.
func (t *Tracker) Status() Status {
	st, all := t.snapshot()
	rank := func(n NodeStatus) int {
		if n.Online && !n.Stale {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b NodeStatus) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Name, b.Name)) })
	groups := map[string]bool{}
	for _, n := range all {
		group, _, _ := strings.Cut(n.Name, "/")
		groups[group] = true
	}
	st.Groups = len(groups)
	st.Listed = all[:min(len(all), MaxListed)]
	t.nameDevices(st.Listed)
	return st
}

// nameDevices names the devices of the edge nodes that are listed.
func (t *Tracker) nameDevices(listed []NodeStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range listed {
		n := t.nodes[listed[i].Name]
		if n == nil { // forgotten meanwhile
			continue
		}
		var named []DeviceStatus
		for name, d := range n.devices {
			named = append(named, DeviceStatus{name, d.online})
		}
		slices.SortFunc(named, func(a, b DeviceStatus) int {
			if a.Online != b.Online && b.Online {
				return -1
			} else if a.Online != b.Online {
				return 1
			}
			return cmp.Compare(a.Name, b.Name)
		})
		listed[i].Named = named[:min(len(named), MaxNamed)]
	}
}

func (t *Tracker) snapshot() (st Status, all []NodeStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st = Status{Nodes: len(t.nodes), Devices: t.devices, Counts: t.counts}
	all = make([]NodeStatus, 0, len(t.nodes))
	for _, n := range t.nodes {
		s := n.status()
		if st.DevicesOnline += s.DevicesOnline; s.Online {
			st.NodesOnline++
			if s.Stale {
				st.NodesStale++
			}
		}
		all = append(all, s)
	}
	return st, all
}

func (n *node) status() NodeStatus {
	s := NodeStatus{Name: n.group + "/" + n.name, Online: n.online, Stale: n.stale, Seq: n.seq, Born: given(n.born), Asked: given(n.asked), Gaps: n.gaps, Rebirths: n.rebirths, Devices: len(n.devices)}
	for _, d := range n.devices {
		if d.online {
			s.DevicesOnline++
		}
	}
	return s
}

func given(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// Metrics writes the tracker's figures.
func (t *Tracker) Metrics(w *metric.Writer) {
	st, _ := t.snapshot()
	const nodes, devices = "Edge nodes of Sparkplug B, by state; stale are online, but messages are missing.", "Devices of Sparkplug B, by state."
	w.Gauge("weir_sparkplug_nodes", nodes, float64(st.NodesOnline-st.NodesStale), "state", "online")
	w.Gauge("weir_sparkplug_nodes", nodes, float64(st.NodesStale), "state", "stale")
	w.Gauge("weir_sparkplug_nodes", nodes, float64(st.Nodes-st.NodesOnline), "state", "offline")
	w.Gauge("weir_sparkplug_devices", devices, float64(st.DevicesOnline), "state", "online")
	w.Gauge("weir_sparkplug_devices", devices, float64(st.Devices-st.DevicesOnline), "state", "offline")
	w.Counter("weir_sparkplug_gaps_total", "Messages of edge nodes whose sequence number was not the next one.", float64(st.Gaps))
	w.Counter("weir_sparkplug_unborn_total", "Messages of edge nodes and devices without the birth before them.", float64(st.Unborn))
	w.Counter("weir_sparkplug_rebirths_total", "Births that edge nodes were asked for.", float64(st.Rebirths))
	w.Counter("weir_sparkplug_malformed_total", "Messages in spBv1.0 whose payload is none of Sparkplug B.", float64(st.Malformed))
	w.Counter("weir_sparkplug_late_deaths_total", "NDEATHs of a connection that another had followed.", float64(st.LateDeaths))
	w.Counter("weir_sparkplug_untracked_total", "Messages of edge nodes and devices beyond max_nodes and max_devices.", float64(st.Untracked))
}
