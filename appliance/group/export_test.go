package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirmq/weir/appliance/record"
)

// Table is the table, for fuzzing what it reads.
type Table struct{ t *table }

func NewTable() Table { return Table{newTable()} }

func (t Table) Apply(r record.Record) error { return t.t.apply(&r) }

// Snapshot is what a snapshot would append.
func (t Table) Snapshot() []record.Record {
	rs, _ := t.t.snapshot(0)
	return rs
}

// State is everything alive, to compare.
func (t Table) State() map[string]map[record.TopicPartition]Offset {
	out := map[string]map[record.TopicPartition]Offset{}
	for _, id := range t.t.ids() {
		out[id] = maps.Clone(t.t.commits(id))
	}
	return out
}

// Snapshots is how many have been taken.
func (c *Coordinator) Snapshots() int64 { return c.log.snapshots.Load() }

// Resident is how many groups are in memory.
func (c *Coordinator) Resident() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}

// Tombstones is how many the table remembers.
func (c *Coordinator) Tombstones() int {
	c.log.table.mu.RLock()
	defer c.log.table.mu.RUnlock()
	return c.log.table.dead
}

// Dump is a consumer group's member as a trace shows it.
func (g *ConsumerGroup) Dump(kind RecordKind, member string) string {
	m := g.members[member]
	switch kind {
	case RecordGroup:
		return fmt.Sprint("epoch=", g.epoch)
	case RecordTargetEpoch:
		return fmt.Sprint("epoch=", g.target)
	case RecordTarget:
		return fmt.Sprint(m.target)
	case RecordCurrent:
		s := fmt.Sprintf("epoch=%d previous=%d %s %v", m.epoch, m.previous, []string{"", "stable", "unrevoked", "unreleased"}[m.state], m.assigned)
		if len(m.revoking) > 0 {
			s += fmt.Sprint(" revoking ", m.revoking)
		}
		return s
	}
	return fmt.Sprint(m.topics, m.regex)
}

// String is the partitions as "t-0 t-1", for ids that are names.
func (s Share) String() string {
	var names []string
	for _, h := range s {
		names = append(names, fmt.Sprintf("%s-%d", strings.TrimRight(string(h.Topic[:]), "\x00"), h.Partition))
	}
	return "[" + strings.Join(names, " ") + "]"
}

// Records are the changes as they stand in the log.
func (g *ConsumerGroup) Records(group string, changes []Change) []record.Record {
	return g.records(group, changes, 0)
}

// Uniform and Ranges are the assignors.
func Assign(name string, members map[string][]TopicID, held map[string]Share, sizes map[TopicID]int32) map[string]Share {
	var as []assignee
	for _, id := range slices.Sorted(maps.Keys(members)) {
		as = append(as, assignee{id: id, topics: members[id], held: held[id]})
	}
	out := map[string]Share{}
	for i, s := range assignors[name](as, sizes) {
		out[as[i].id] = s
	}
	return out
}

// OffsetRecord is the record of a committed offset.
func OffsetRecord(group string, tp record.TopicPartition, o Offset) record.Record {
	return encodeOffset(group, tp, o)
}

// MemberIDs are the members of a classic group.
func (g *Group) MemberIDs() (ids []string) {
	for _, m := range g.members {
		ids = append(ids, m.id)
	}
	return ids
}
