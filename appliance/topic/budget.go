package topic

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/record"
)

// rollBytes is the least an active segment must hold to be ended so that it can go.
const rollBytes = 64 << 10

// victim is a segment that the disk policy of its topic gives up.
type victim struct {
	p        *Partition
	priority int64
	age      int64 // no record up to its end is younger, ms
	end      int64 // offset after its last record
	limit    int64 // offset before which records may go
	bytes    int64
	active   bool // it has to be ended first
}

// Reclaim has topics let go of records if there is too little room, until there is
// enough, and reports whether there is. What nobody misses goes first; then, as
// their weir.disk.policy allows, the segments of the topics with the lowest
// weir.disk.priority, among equals the oldest segment. An active segment goes after
// all complete ones of its priority.
func (s *Set) Reclaim() bool {
	s.reclaiming.Lock()
	defer s.reclaiming.Unlock()
	lack := s.space.lack()
	if lack == 0 {
		return true
	}
	if s.emptyTrash() {
		s.space.measure()
		if lack = s.space.lack(); lack == 0 {
			return true
		}
	}
	for _, d := range choose(s.victims(), lack) {
		if err := s.drop(d); err != nil {
			if !errors.Is(err, record.ErrClosed) {
				s.opts.Log.Error("no room made", "partition", d.p.tp.String(), "err", err)
			}
			return false
		}
	}
	s.space.measure()
	return s.space.lack() == 0
}

// victims lists what may go, in the order in which it goes.
func (s *Set) victims() (all []victim) {
	for _, t := range s.Topics() {
		if t.config().diskPolicy == DiskReject {
			continue
		}
		for _, p := range t.Partitions() {
			all = p.victims(all)
		}
	}
	slices.SortFunc(all, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), compareBool(a.active, b.active), cmp.Compare(a.age, b.age),
			cmp.Compare(a.p.tp.Topic, b.p.tp.Topic), cmp.Compare(a.p.tp.Partition, b.p.tp.Partition), cmp.Compare(a.end, b.end))
	})
	return all
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// victims adds the segments that may go, oldest first. Ages grow with the offsets,
// whatever the records' timestamps do: a segment never goes before those ahead of it.
func (p *Partition) victims(all []victim) []victim {
	if p.Err() != nil {
		return all
	}
	limit := p.expendable()
	v := victim{p: p, limit: limit, priority: p.topic.config().diskPriority, age: -1}
	segments, err := p.log.Segments()
	if err != nil {
		p.set.opts.Log.Error("what could go is not known", "partition", p.tp.String(), "err", err)
		return all
	}
	for i, seg := range segments {
		v.age, v.end, v.bytes = max(v.age, seg.MaxTimestamp), seg.End, seg.Bytes
		v.active = i == len(segments)-1
		if seg.End > limit || v.active && seg.Bytes < rollBytes {
			break
		}
		if seg.End > p.start.Load() {
			all = append(all, v)
		}
	}
	return all
}

// expendable is the offset before which the topic's disk policy, and retention, may
// let go of records.
func (p *Partition) expendable() int64 {
	if p.topic.config().diskPolicy != DiskKeepUnmirrored {
		return math.MaxInt64
	}
	if f := p.set.opts.Mirrored; f != nil {
		if offset, known := f(p.tp); known {
			return offset
		}
	}
	return -1
}

// dropped is what one partition lets go of.
type dropped struct {
	p     *Partition
	end   int64 // offset after the last record that goes
	limit int64 // offset before which records may go
	bytes int64
	roll  bool // the active segment goes too
}

// choose takes victims until lack bytes go: one range per partition, in the order
// in which the partitions come up.
func choose(victims []victim, lack int64) (out []dropped) {
	at := map[*Partition]int{}
	for _, v := range victims {
		if lack <= 0 {
			break
		}
		lack -= v.bytes
		i, ok := at[v.p]
		if !ok {
			i = len(out)
			at[v.p] = i
			out = append(out, dropped{p: v.p, limit: v.limit})
		}
		d := &out[i]
		d.end, d.bytes, d.roll = v.end, d.bytes+v.bytes, v.active
	}
	return out
}

// emptyTrash removes what is kept of deleted topics, and reports whether that was
// anything.
func (s *Set) emptyTrash() bool {
	t, ok := any(s).(interface {
		EmptyTrash(olderThan time.Duration) (topics int, err error)
	})
	if !ok {
		return false
	}
	topics, err := t.EmptyTrash(0)
	if err != nil {
		s.opts.Log.Error("the trash is not emptied", "err", err)
	}
	return topics > 0
}
