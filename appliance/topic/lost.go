package topic

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
)

// maxLost bounds the runs of lost records that a partition remembers one by one.
// Beyond it the two that lie nearest are told as one.
const maxLost = 256

// maxCause bounds the text of why records are lost.
const maxCause = 200

// lost is a run of records that the disk did not keep. It is remembered until the
// log start has passed it: so it is reported once, and shown as long as it matters.
type lost struct {
	commitlog.Damage
	time     time.Time
	reported bool // its gap record has been handed on
}

func (l lost) append(b []byte) []byte {
	for _, n := range []int64{l.First, l.Next, l.Segment, l.From, l.To, l.time.UnixMilli()} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	cause := l.Cause[:min(len(l.Cause), maxCause)]
	return append(append(b, flag(l.reported, flagReported), byte(len(cause))), cause...)
}

// decodeLost takes one off b, which is long enough.
func decodeLost(b []byte) (l lost, rest []byte) {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	l.First, l.Next, l.Segment, l.From, l.To, l.time = at(0), at(8), at(16), at(24), at(32), time.UnixMilli(at(40))
	l.reported = b[48]&flagReported != 0
	end := lostLen + int(b[49])
	l.Cause = string(b[lostLen:end])
	return l, b[end:]
}

// lose takes note that records cannot be read any more and reports those that were
// not known to be lost. The partition serves what lies before and after them.
func (p *Partition) lose(d commitlog.Damage) {
	p.stateMu.Lock()
	start := max(p.start.Load(), p.state.logStart)
	d.First = max(d.First, start)
	fresh := p.state.lose(lost{Damage: d, time: p.set.opts.Now()})
	p.stateMu.Unlock()
	if !fresh {
		return
	}
	p.touch() // the next checkpoint saves it
	p.set.reportGap(record.Gap{Topic: p.tp.Topic, Partition: p.tp.Partition, FirstOffset: d.First, LastOffset: d.Next - 1,
		Count: d.Next - d.First, Bytes: d.To - d.From, Reason: record.GapCorrupt, Detail: d.Cause})
	p.stateMu.Lock()
	p.state.reported(d.First, d.Next)
	p.stateMu.Unlock()
}

// knowsLost reports whether all of the records that d has taken are known to be lost.
func (s *state) knowsLost(d commitlog.Damage) bool {
	for _, known := range s.lost {
		if known.First <= d.First && d.Next <= known.Next {
			return true
		}
	}
	return false
}

// lose adds l unless it is known. It reports whether it was news.
func (s *state) lose(l lost) bool {
	if l.First >= l.Next {
		return false
	}
	if s.knowsLost(l.Damage) {
		return false
	}
	s.lost = append(s.lost, l)
	slices.SortFunc(s.lost, func(a, b lost) int { return cmp.Compare(a.First, b.First) })
	if len(s.lost) > maxLost {
		s.joinNearest()
	}
	s.dirty = true
	return true
}

func (s *state) joinNearest() {
	at := 1
	for i := 2; i < len(s.lost); i++ {
		if s.lost[i].First-s.lost[i-1].Next < s.lost[at].First-s.lost[at-1].Next {
			at = i
		}
	}
	a, b := &s.lost[at-1], s.lost[at]
	a.Next, a.reported = max(a.Next, b.Next), a.reported && b.reported
	s.lost = slices.Delete(s.lost, at, at+1)
}

func (s *state) reported(first, next int64) {
	for i := range s.lost {
		if l := &s.lost[i]; !l.reported && l.First >= first && l.Next <= next {
			l.reported, s.dirty = true, true
		}
	}
}

// forget drops what lies below the log start: nobody will ask for it again.
func (s *state) forget() {
	s.lost = slices.DeleteFunc(s.lost, func(l lost) bool { return l.Next <= s.logStart })
	s.segments = slices.DeleteFunc(s.segments, func(id commitlog.SegmentID) bool { return id.End <= s.logStart })
	s.transactions.forget(s.logStart)
}

// Lost is a run of records that a partition no longer has although nobody asked it
// to let go of them.
type Lost struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	First     int64     `json:"first_offset"`
	Last      int64     `json:"last_offset"`
	Segment   int64     `json:"segment"`
	From      int64     `json:"from_byte"`
	To        int64     `json:"to_byte"`
	Cause     string    `json:"cause"`
	Time      time.Time `json:"time"`
}

// Lost lists the records of all partitions that damage has taken.
func (s *Set) Lost() []Lost {
	var out []Lost
	for _, t := range s.Topics() {
		for _, p := range t.Partitions() {
			out = append(out, p.Lost()...)
		}
	}
	return out
}

// Lost lists the partition's records that damage has taken, by offset.
func (p *Partition) Lost() []Lost {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.state == nil || len(p.state.lost) == 0 {
		return nil
	}
	out := make([]Lost, len(p.state.lost))
	for i, l := range p.state.lost {
		out[i] = Lost{Topic: p.tp.Topic, Partition: p.tp.Partition, First: l.First, Last: l.Next - 1,
			Segment: l.Segment, From: l.From, To: l.To, Cause: l.Cause, Time: l.time.UTC()}
	}
	return out
}
