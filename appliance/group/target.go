package group

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
)

// refresh notices that what the group subscribes to has changed, by its members or
// because topics were made, deleted or given more partitions.
func (g *ConsumerGroup) refresh(cluster Cluster, members bool) {
	changes := cluster.Changes()
	if !members && g.seen == changes {
		return
	}
	g.seen = changes
	if hash := g.subscriptionHash(cluster); members || hash != g.hash {
		g.hash = hash
		g.epoch++
		g.write(RecordGroup, nil)
	}
}

// subscriptionHash is of the topics that exist and some member subscribes to.
func (g *ConsumerGroup) subscriptionHash(cluster Cluster) int64 {
	names := map[string]bool{}
	for _, m := range g.members {
		for _, name := range m.subscribedNames(cluster) {
			names[name] = true
		}
	}
	h := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if id, partitions, ok := cluster.Topic(name); ok {
			_, _ = h.Write(id[:]) // it never fails
			_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(partitions)))
		}
	}
	return int64(h.Sum64())
}

// subscribedNames is the topics that a member names or its expression matches.
func (m *consumer) subscribedNames(cluster Cluster) []string {
	if m.pattern == nil {
		return m.topics
	}
	names := slices.Clone(m.topics)
	for _, name := range cluster.Names() {
		if m.pattern.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// retarget computes who is to hold what from now on.
func (g *ConsumerGroup) retarget(cluster Cluster) {
	ids := slices.Sorted(maps.Keys(g.members))
	as := make([]assignee, len(ids))
	sizes := map[TopicID]int32{}
	for i, id := range ids {
		m := g.members[id]
		as[i] = assignee{id: id, instance: m.instance, held: m.target}
		for _, name := range m.subscribedNames(cluster) {
			if topic, partitions, ok := cluster.Topic(name); ok {
				sizes[topic] = partitions
				as[i].topics = append(as[i].topics, topic)
			}
		}
	}
	shares := assignors[g.assignor()](as, sizes)
	for i, id := range ids {
		if m := g.members[id]; !slices.Equal(m.target, shares[i]) {
			m.target = shares[i]
			g.write(RecordTarget, m)
		}
	}
	g.target = g.epoch
	g.write(RecordTargetEpoch, nil)
}

// assignor is the one that most members prefer.
func (g *ConsumerGroup) assignor() string {
	votes := map[string]int{}
	for _, m := range g.members {
		votes[m.assignor]++
	}
	if votes["range"] > votes["uniform"] {
		return "range"
	}
	return "uniform"
}
