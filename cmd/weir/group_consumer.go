package main

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// describeConsumerGroup is describeGroup for one of the consumer protocol (KIP-848),
// which DescribeGroups does not show. It says false where there is none.
func describeConsumerGroup(s *session, adm *kadm.Client, group string) (groupDescription, bool, error) {
	described, err := adm.DescribeConsumerGroups(s.ctx, group)
	g := described[group]
	if err != nil || g.Err != nil || g.Group == "" || g.State == "Dead" {
		return groupDescription{}, false, nil // also from brokers that do not know the protocol
	}
	d := groupDescription{Group: group, State: g.State, Assignor: g.AssignorName, Coordinator: g.Coordinator.NodeID, Members: []memberRow{}, Offsets: []lagRow{}}
	owners := map[string]map[int32]string{}
	for _, m := range g.Members {
		row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		for topic, partitions := range m.Assignment {
			row.Partitions += len(partitions)
			if owners[topic] == nil {
				owners[topic] = map[int32]string{}
			}
			for p := range partitions {
				owners[topic][p] = m.MemberID
			}
		}
		d.Members = append(d.Members, row)
	}
	return d, true, d.addOffsets(s, adm, owners)
}

// addOffsets adds what is committed and what is owned, with the lag of each.
func (d *groupDescription) addOffsets(s *session, adm *kadm.Client, owners map[string]map[int32]string) error {
	committed, err := adm.FetchOffsets(s.ctx, d.Group)
	if err != nil {
		return brokerError("fetch the offsets of", d.Group, err)
	}
	topics := map[string]bool{}
	for topic := range committed {
		topics[topic] = true
	}
	for topic := range owners {
		topics[topic] = true
	}
	offsets, err := offsetsOf(s, adm, slices.Sorted(maps.Keys(topics)))
	if err != nil {
		return err
	}
	for topic := range topics {
		for p, end := range offsets.end[topic] {
			at, has := committed.Lookup(topic, p)
			owner, owned := owners[topic][p]
			if !has && !owned {
				continue
			}
			row := lagRow{Topic: topic, Partition: p, Committed: -1, End: end.Offset, Lag: end.Offset - offsets.start[topic][p].Offset, Member: owner}
			if has && at.At >= 0 {
				row.Committed, row.Lag = at.At, end.Offset-at.At
			}
			d.Offsets, d.Lag = append(d.Offsets, row), d.Lag+row.Lag
		}
	}
	slices.SortFunc(d.Offsets, func(a, b lagRow) int {
		if a.Topic != b.Topic {
			if a.Topic < b.Topic {
				return -1
			}
			return 1
		}
		return int(a.Partition - b.Partition)
	})
	return nil
}
