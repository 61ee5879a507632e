package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of Kafka's records in __consumer_offsets. Offsets and groups are
// written in versions that every Kafka since 2.3 reads; newer ones than these are
// carried through snapshots unread.
const (
	offsetKeyVersion     = 1 // 0 means the same
	groupKeyVersion      = 2
	offsetValueVersion   = 3
	groupValueVersion    = 3
	maxReadValueVersion  = 3
	consumerProtocolType = "consumer"
)

// encode is the group's GroupMetadataValue. The assignor's metadata is kept only
// for the protocol selected.
func (g *Group) encode() []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation, v.CurrentStateTimestamp = g.protocolType, g.generation, g.since.UnixMilli()
	if len(g.members) > 0 {
		v.Protocol, v.Leader = &g.protocol, &g.leader
	}
	for _, m := range g.members {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.ClientID, vm.ClientHost = m.id, m.clientID, m.clientHost
		if m.instance != "" {
			vm.InstanceID = &m.instance
		}
		vm.SessionTimeoutMillis = int32(m.session.Milliseconds())
		vm.RebalanceTimeoutMillis = int32(m.rebalance.Milliseconds())
		vm.Subscription, _ = m.protocol(g.protocol)
		vm.Assignment = m.assignment
		v.Members = append(v.Members, vm)
	}
	return v.AppendTo(nil)
}

// Restore returns a group as a GroupMetadataValue describes it: stable, or
// empty when it had no members. All sessions begin anew at now.
func Restore(limits *Limits, value []byte, now time.Time) (*Group, error) {
	v, err := decodeGroupValue(value)
	if err != nil {
		return nil, err
	}
	g := NewGroup(limits, now)
	g.protocolType, g.generation = v.ProtocolType, v.Generation
	g.since = time.UnixMilli(v.CurrentStateTimestamp)
	if len(v.Members) == 0 {
		return g, nil
	}
	if v.Protocol == nil || v.Leader == nil {
		return nil, fmt.Errorf("group: stored metadata has %d members but no protocol or leader", len(v.Members))
	}
	g.state, g.protocol, g.leader = Stable, *v.Protocol, *v.Leader
	for _, vm := range v.Members {
		m := &member{
			id: vm.MemberID, clientID: vm.ClientID, clientHost: vm.ClientHost, synced: true,
			session:    time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalance:  time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			protocols:  []Protocol{{g.protocol, vm.Subscription}},
			assignment: vm.Assignment,
			deadline:   now.Add(time.Duration(vm.SessionTimeoutMillis) * time.Millisecond),
		}
		if vm.InstanceID != nil {
			m.instance = *vm.InstanceID
		}
		g.members = append(g.members, m)
	}
	return g, nil
}

func decodeGroupValue(value []byte) (v kmsg.GroupMetadataValue, err error) {
	if version := versionOf(value); version < 0 || version > maxReadValueVersion {
		return v, fmt.Errorf("group: stored metadata has version %d, this broker reads 0 to %d", version, maxReadValueVersion)
	}
	if err := v.ReadFrom(value); err != nil {
		return v, fmt.Errorf("group: stored metadata: %w", err)
	}
	return v, nil
}

// versionOf is the version that keys and values begin with, -1 when there is none.
func versionOf(b []byte) int16 {
	if len(b) < 2 {
		return -1
	}
	return int16(b[0])<<8 | int16(b[1])
}
