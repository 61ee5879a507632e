// Package checker decides from a history of sends and reads whether a log kept
// its promises: nothing acked lost, nothing reordered, nothing served twice.
//
// The model is that of Jepsen's Kafka workload. Every value sent is unique: a
// [Lane] numbers its values 1, 2, 3, …. A lane is what must stay in order: one
// producer and one key, so one partition. Test clients note each send, each ack
// and each record read with its offset; [History.Check] then lists the anomalies.
//
// A History is safe for concurrent use. It takes about 60 bytes a value.
package checker

import (
	"fmt"
	"sync"
)

// Class is a kind of anomaly.
type Class string

// The anomalies that are looked for.
const (
	// Lost: an acked value is missing although higher offsets were read.
	Lost Class = "A1 lost"
	// LostTail: an acked value is missing and nothing above it was read.
	LostTail Class = "A2 lost tail"
	// Hole: a value is missing, acked or not, while a later one of its lane is there.
	Hole Class = "A3 hole"
	// Duplicate: a value of a lane that allows none is at two offsets.
	Duplicate Class = "A4 duplicate"
	// TwoValues: two values were seen at one offset.
	TwoValues Class = "A5 two values at one offset"
	// SpuriousOffset: an ack named an offset where the value is not.
	SpuriousOffset Class = "A6 spurious offset"
	// OffsetReuse: an offset holds another value than before a restart.
	OffsetReuse Class = "A7 offset reuse"
	// PollSkip: a reader's offsets went back, or left out records that exist.
	PollSkip Class = "A8 poll skip"
	// Reorder: values of a lane are not in the order of sending.
	Reorder Class = "A9 reorder"
	// Vanished: a record that was read once is not in the log at the end.
	Vanished Class = "A11 vanished"
	// WatermarkBack: a reader was told of an end below one that was told before.
	WatermarkBack Class = "A11 watermark went back"
	// EarlyEnd: a partition's end was told below a record that was acked or read:
	// damage, or a file that is missing, taken for the end of the log.
	EarlyEnd Class = "A14 end before known records"
	// Removed: a partition starts above what anybody was allowed to remove.
	Removed Class = "A14 records removed"
	// AckMoved: a resend was acked at another offset than the value before.
	AckMoved Class = "A15 resend at another offset"
	// StartBack: a partition starts below where it started before, or a value that
	// was compacted away is there again.
	StartBack Class = "A18 log start went back"
	// Stuck: something that had to end did not.
	Stuck Class = "A19 stuck"
	// Invented: a record was read that nobody sent.
	Invented Class = "invented"
)

// Partition names a partition of the log under test.
type Partition struct {
	Topic string
	Index int32
}

func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Index) }

// value is what stands at an offset: which lane's, which number.
type value struct {
	lane *Lane
	seq  int64
}

func (v value) String() string { return fmt.Sprintf("%s#%d", v.lane.name, v.seq) }

// seen is a value at an offset and the boot in which it was first seen there.
type seen struct {
	value
	boot int
	last bool // read by the final reader
}

// History is what test clients did and saw.
type History struct {
	mu        sync.Mutex
	boot      int
	lanes     map[string]*Lane
	order     []*Lane
	log       map[Partition]map[int64]seen
	readers   []*Reader
	anomalies anomalies
	reads     int64
	bounds    map[Partition]*bounds
	waits     map[*wait]bool
}

// New returns an empty history.
func New() *History {
	return &History{lanes: map[string]*Lane{}, log: map[Partition]map[int64]seen{}, bounds: map[Partition]*bounds{},
		waits: map[*wait]bool{}}
}

// Restarted notes that the log under test was restarted.
func (h *History) Restarted() {
	h.mu.Lock()
	h.boot++
	h.mu.Unlock()
}

// Lane is one producer with one key. Its values are numbered from 1.
type Lane struct {
	h          *History
	name       string
	duplicates bool
	compacted  bool
	sends      []send // of value seq at seq-1
}

type send struct {
	state  state
	at     Partition // where the ack said it is
	offset int64     // or noOffset
	copies int32     // in the log at the end
}

type state uint8

const (
	unknown state = iota // sent, fate not known
	acked
	abandoned // the client gave it up: it may be there or not
)

const noOffset = -1 << 62

// Lane returns the lane of that name, which is new when it was not asked for
// before. With duplicates, values may be in the log more than once (MQTT at
// QoS 1, producers that are not idempotent): they are counted and not reported.
func (h *History) Lane(name string, duplicates bool) *Lane {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[name]
	if l == nil {
		l = &Lane{h: h, name: name, duplicates: duplicates}
		h.lanes[name] = l
		h.order = append(h.order, l)
	}
	return l
}

// Name is the name that the lane was made with.
func (l *Lane) Name() string { return l.name }

// Send notes that the next value is about to be sent, and returns its number.
func (l *Lane) Send() int64 {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	l.sends = append(l.sends, send{offset: noOffset})
	return int64(len(l.sends))
}

// Acked notes an ack that tells no offset, as MQTT's.
func (l *Lane) Acked(seq int64) { l.ack(seq, Partition{}, noOffset) }

// AckedAt notes an ack that tells where the value is.
func (l *Lane) AckedAt(seq int64, p Partition, offset int64) { l.ack(seq, p, offset) }

func (l *Lane) ack(seq int64, p Partition, offset int64) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if seq < 1 || seq > int64(len(l.sends)) {
		l.h.anomalies.add(Invented, "%s: ack of value %d, %d were sent", l.name, seq, len(l.sends))
		return
	}
	s := &l.sends[seq-1]
	s.state = acked
	if offset == noOffset {
		return
	}
	if offset < 0 {
		l.h.anomalies.add(SpuriousOffset, "%s#%d acked at %s offset %d", l.name, seq, p, offset)
		return
	}
	if s.offset != noOffset && (s.at != p || s.offset != offset) && !l.duplicates {
		l.h.anomalies.add(AckMoved, "%s#%d was acked at %s offset %d, and then at %s offset %d", l.name, seq, s.at, s.offset, p, offset)
	}
	s.at, s.offset = p, offset
	l.h.place(p, offset, value{l, seq}, "acked")
}

// Abandoned notes that the client gave the value up after an error: it may be in
// the log or not, and is no hole if it is not.
func (l *Lane) Abandoned(seq int64) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if s := &l.sends[seq-1]; s.state == unknown {
		s.state = abandoned
	}
}

// Counts returns how many values the lane sent and how many were acked.
func (l *Lane) Counts() (sent, ackedCount int64) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	for i := range l.sends {
		if l.sends[i].state == acked {
			ackedCount++
		}
	}
	return int64(len(l.sends)), ackedCount
}

// place notes that v is at an offset, and returns what is noted there.
func (h *History) place(p Partition, offset int64, v value, how string) seen {
	part := h.log[p]
	if part == nil {
		part = map[int64]seen{}
		h.log[p] = part
	}
	old, ok := part[offset]
	switch {
	case !ok:
		old = seen{value: v, boot: h.boot}
		part[offset] = old
		h.of(p).known = max(h.of(p).known, offset+1)
	case old.value == v:
	case old.boot != h.boot:
		h.anomalies.add(OffsetReuse, "%s offset %d: %v before a restart, %v %s after it", p, offset, old.value, v, how)
	default:
		h.anomalies.add(TwoValues, "%s offset %d: %v, and %v %s", p, offset, old.value, v, how)
	}
	return old
}
