package checker

// The anomalies of committed offsets.
const (
	// CommitLost: a group's offset is below one whose commit was acked.
	CommitLost Class = "commit lost"
	// CommitInvented: a group's offset is above all that it tried to commit.
	CommitInvented Class = "commit invented"
)

// Commits follows the offsets that one consumer group commits, which must grow.
type Commits struct {
	h     *History
	group string
	tried map[Partition]int64
	acked map[Partition]int64
}

// Commits returns the record of a group's commits.
func (h *History) Commits(group string) *Commits {
	return &Commits{h: h, group: group, tried: map[Partition]int64{}, acked: map[Partition]int64{}}
}

// Tried notes that a commit is about to be sent.
func (c *Commits) Tried(p Partition, offset int64) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.tried[p] = max(c.tried[p], offset)
}

// Acked notes that a commit was acknowledged.
func (c *Commits) Acked(p Partition, offset int64) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.acked[p] = max(c.acked[p], offset)
}

// Found judges what the log says the group's offset is; 0 stands for none. It
// must not be called while a commit is under way.
func (c *Commits) Found(p Partition, offset int64) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	switch {
	case offset < c.acked[p]:
		c.h.anomalies.add(CommitLost, "group %s at %s: offset %d, %d was acked", c.group, p, offset, c.acked[p])
	case offset > c.tried[p]:
		c.h.anomalies.add(CommitInvented, "group %s at %s: offset %d, at most %d was ever committed", c.group, p, offset, c.tried[p])
	}
}

// Known returns the partitions that have an acked commit.
func (c *Commits) Known() []Partition {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	var out []Partition
	for p := range c.acked {
		out = append(out, p)
	}
	return out
}
