package checker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxDetails bounds how many anomalies of one class are told in words.
const maxDetails = 5

// Result is the verdict on a history.
type Result struct {
	Lanes      int
	Sent       int64
	Acked      int64
	Unknown    int64 // sent, neither acked nor abandoned
	Reads      int64 // records read by all readers
	Records    int64 // in the log at the end
	Duplicates int64 // surplus copies in lanes that allow them
	Anomalies  map[Class]int64
	Details    []string
}

// OK reports whether there is no anomaly.
func (r *Result) OK() bool { return len(r.Anomalies) == 0 }

// String is the figures in one line, then the anomalies, each on its own line.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d lanes: %d sent, %d acked, %d unknown; %d records at the end, %d allowed duplicates; %d reads; ",
		r.Lanes, r.Sent, r.Acked, r.Unknown, r.Records, r.Duplicates, r.Reads)
	if r.OK() {
		b.WriteString("no anomaly")
		return b.String()
	}
	b.WriteString("ANOMALIES")
	for _, c := range slices.Sorted(maps.Keys(r.Anomalies)) {
		fmt.Fprintf(&b, "\n  %s: %d", c, r.Anomalies[c])
	}
	for _, d := range r.Details {
		b.WriteString("\n    " + d)
	}
	return b.String()
}

// anomalies counts all and keeps the first few of each class in words.
type anomalies struct {
	count   map[Class]int64
	details []string
}

func (a *anomalies) add(c Class, format string, args ...any) {
	if a.count == nil {
		a.count = map[Class]int64{}
	}
	if a.count[c]++; a.count[c] <= maxDetails {
		a.details = append(a.details, string(c)+": "+fmt.Sprintf(format, args...))
	}
}

func (a *anomalies) clone() anomalies {
	return anomalies{count: maps.Clone(a.count), details: slices.Clone(a.details)}
}

// copyAt is one place of a value in the log at the end.
type copyAt struct {
	p      Partition
	offset int64
	seq    int64
}

// Check judges the history. The final reader must have read all partitions to
// their ends. It may be called again after more was noted.
func (h *History) Check() *Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := h.anomalies.clone()
	r := &Result{Lanes: len(h.order), Reads: h.reads}
	placed := map[*Lane][]copyAt{}
	ends := map[Partition]int64{}
	for p, part := range h.log {
		for _, offset := range slices.Sorted(maps.Keys(part)) {
			s := part[offset]
			if !s.last {
				continue
			}
			r.Records++
			ends[p] = max(ends[p], offset+1)
			placed[s.lane] = append(placed[s.lane], copyAt{p, offset, s.seq})
		}
	}
	h.checkVanished(placed, &found)
	for _, l := range h.order {
		r.Duplicates += l.check(placed[l], ends, &found)
		for i := range l.sends {
			r.Sent++
			switch l.sends[i].state {
			case acked:
				r.Acked++
			case unknown:
				r.Unknown++
			}
		}
	}
	h.checkJumps(&found)
	h.checkWaits(&found)
	r.Anomalies, r.Details = found.count, found.details
	return r
}

// checkVanished looks for offsets that were read and are not there at the end. An
// ack alone is left to the lane, which knows whether the value is elsewhere.
func (h *History) checkVanished(placed map[*Lane][]copyAt, found *anomalies) {
	for p, part := range h.log {
		for offset, s := range part {
			ack := s.lane.sends[s.seq-1]
			if s.last || ack.state == acked && ack.at == p && ack.offset == offset || h.removed(p, offset, s.value, placed[s.lane]) {
				continue
			}
			found.add(Vanished, "%v was read at %s offset %d and is not there at the end", s.value, p, offset)
		}
	}
}

// check judges one lane and returns the number of surplus copies that it allows.
func (l *Lane) check(copies []copyAt, ends map[Partition]int64, found *anomalies) (surplus int64) {
	for i := range l.sends {
		l.sends[i].copies = 0
	}
	slices.SortFunc(copies, func(a, b copyAt) int {
		if c := strings.Compare(a.p.Topic, b.p.Topic); c != 0 {
			return c
		}
		if a.p.Index != b.p.Index {
			return int(a.p.Index - b.p.Index)
		}
		return int(min(1, max(-1, a.offset-b.offset)))
	})
	lowest, highest := int64(len(l.sends))+1, int64(0)
	where := map[Partition]bool{}
	for _, c := range copies {
		where[c.p], lowest = true, min(lowest, c.seq)
		s := &l.sends[c.seq-1]
		if s.copies++; s.copies > 1 {
			if surplus++; !l.duplicates {
				found.add(Duplicate, "%s#%d: copy %d at %s offset %d", l.name, c.seq, s.copies, c.p, c.offset)
			}
			continue // order is judged by first copies
		}
		if c.seq < highest {
			found.add(Reorder, "%s#%d first stands at %s offset %d, behind #%d", l.name, c.seq, c.p, c.offset, highest)
		}
		highest = max(highest, c.seq)
	}
	if len(where) > 1 {
		found.add(Reorder, "%s is on %d partitions, a lane belongs on one", l.name, len(where))
	}
	l.checkMissing(lowest, highest, ends, found)
	l.checkAckOffsets(copies, found)
	if !l.duplicates {
		return 0
	}
	return surplus
}

func (l *Lane) checkMissing(lowest, highest int64, ends map[Partition]int64, found *anomalies) {
	for i := range l.sends {
		s, seq := &l.sends[i], int64(i+1)
		switch {
		case s.copies > 0 || s.state == abandoned || l.gone(seq, lowest, highest):
		case seq < highest:
			found.add(Hole, "%s#%d (%s) is missing, #%d is there", l.name, seq, s.state, highest)
		case s.state == unknown:
		case s.offset != noOffset && s.offset < ends[s.at]-1:
			found.add(Lost, "%s#%d was acked at %s offset %d and is missing; the partition ends at %d", l.name, seq, s.at, s.offset, ends[s.at])
		default:
			found.add(LostTail, "%s#%d was acked and is missing; the lane's last value there is #%d", l.name, seq, highest)
		}
	}
}

// checkAckOffsets compares where acks said values are with where they are.
func (l *Lane) checkAckOffsets(copies []copyAt, found *anomalies) {
	right := make(map[int64]bool)
	for _, c := range copies {
		if s := &l.sends[c.seq-1]; s.offset == c.offset && s.at == c.p {
			right[c.seq] = true
		}
	}
	for i := range l.sends {
		if s := &l.sends[i]; s.offset != noOffset && s.copies > 0 && !right[int64(i+1)] {
			found.add(SpuriousOffset, "%s#%d was acked at %s offset %d and is elsewhere", l.name, i+1, s.at, s.offset)
		}
	}
}

// checkJumps looks for records that a reader stepped over.
func (h *History) checkJumps(found *anomalies) {
	for _, r := range h.readers {
		for _, j := range r.jumps {
			for offset := j.from + 1; offset < j.to && offset-j.from < 1<<20; offset++ {
				if s, ok := h.log[j.p][offset]; ok && s.last {
					found.add(PollSkip, "%s: %s offset %d came after %d and left out %v at %d", r.name, j.p, j.to, j.from, s.value, offset)
					break
				}
			}
		}
	}
}

func (s state) String() string { return [...]string{"not acked", "acked", "abandoned"}[s] }
