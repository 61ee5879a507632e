package group

import (
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// maybeSnapshot keeps the log short; see the package's doc. The follower runs it,
// so the table holds still.
func (l *offsetsLog) maybeSnapshot() {
	// A table larger than the limit must double the log before it is written again.
	// And a cut may not fall among the copies of the last snapshot: it would
	// keep a copy and delete the tombstone that it must yield to.
	if l.sinceSnapshot <= max(l.snapshotAfter, l.snapshotBytes) || l.applied < l.table.copiesEnd {
		return
	}
	begin := l.applied
	// What is not decided stays as it lies: the marker refers to it. If that is among the
	// copies, wait.
	keep := l.table.firstHeld(begin)
	if keep < l.table.copiesEnd {
		return
	}
	rs, size := l.table.snapshot(time.Now().UnixMilli())
	l.sinceSnapshot, l.snapshotBytes = -size, size
	end, err := l.appendAll(rs)
	l.table.mu.Lock()
	l.table.copiesEnd = max(begin, end)
	l.table.mu.Unlock()
	if err == nil {
		_, err = l.part.DeleteRecords(keep)
	}
	if err != nil {
		l.logger.Error("snapshot of the offsets topic failed; it grows until the next one", "partition", TopicPartition.String(), "offset", begin, "err", err)
		return
	}
	l.snapshots.Add(1)
}

// snapshot is every live record of the table, as copies, and about how many bytes they take.
func (t *table) snapshot(nowMs int64) (rs []record.Record, size int64) {
	add := func(r record.Record, at int64) {
		const overhead = 48 // of a record with its header
		size += int64(len(r.Key) + len(r.Value) + overhead)
		rs = append(rs, copied(r, at))
	}
	for id, g := range t.groups {
		if g.meta.at >= 0 && !g.meta.dead {
			add(encodeGroup(id, g.meta.value, nowMs), g.meta.at)
		}
		for tp, c := range g.offsets {
			if !c.dead {
				add(encodeOffset(id, tp, c.value), c.at)
			}
		}
	}
	for _, g := range t.groups {
		for key, c := range g.consumers {
			if !c.dead {
				add(record.Record{Timestamp: nowMs, Key: []byte(key), Value: c.value}, c.at)
			}
		}
	}
	for key, c := range t.other {
		if !c.dead {
			add(record.Record{Timestamp: nowMs, Key: []byte(key), Value: c.value}, c.at)
		}
	}
	return rs, size
}
