package group

import (
	"maps"
	"slices"
)

// ConsumerDescription is a consumer group as ConsumerGroupDescribe shows it.
type ConsumerDescription struct {
	Group              string
	State              State // Empty, Assigning, Reconciling or Stable
	Epoch, TargetEpoch int32
	Assignor           string
	Members            []ConsumerMember
}

// ConsumerMember is one member of a ConsumerDescription.
type ConsumerMember struct {
	MemberID, InstanceID, Rack string
	ClientID, ClientHost       string
	Epoch                      int32
	Classic                    bool // speaks the classic protocol
	Topics                     []string
	Regex                      string
	Assigned, Target           Share
}

// Describe describes the group; the slices must not be modified.
func (g *ConsumerGroup) Describe(id string) ConsumerDescription {
	d := ConsumerDescription{Group: id, State: g.state(), Epoch: g.epoch, TargetEpoch: g.target, Assignor: g.assignor()}
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		d.Members = append(d.Members, ConsumerMember{
			MemberID: m.id, InstanceID: m.instance, Rack: m.rack, ClientID: m.clientID, ClientHost: m.clientHost, Epoch: m.epoch, Classic: m.classic != nil,
			Topics: m.topics, Regex: m.regex, Assigned: m.assigned, Target: m.target,
		})
	}
	return d
}

func (g *ConsumerGroup) state() State {
	switch {
	case g.Empty():
		return Empty
	case g.epoch > g.target:
		return Assigning
	}
	for _, m := range g.members {
		if m.state != memberStable || m.epoch != g.target {
			return Reconciling
		}
	}
	return Stable
}
