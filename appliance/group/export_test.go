package group

import (
	"maps"

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
