package checker_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/weirmq/weir/testbed/checker"
)

var (
	p0 = checker.Partition{Topic: "t", Index: 0}
	p1 = checker.Partition{Topic: "t", Index: 1}
)

// model is a log that behaves; each test plants one fault in it or its history.
type model struct {
	h     *checker.History
	lanes map[string]*checker.Lane
	log   []entry // of p0
}

type entry struct {
	lane string
	seq  int64
}

// sound is a history without fault: an idempotent lane and one that may repeat,
// each sent and acked 1 to 5, interleaved at offsets 0 to 9.
func sound() *model {
	m := &model{h: checker.New(), lanes: map[string]*checker.Lane{}}
	m.lanes["kafka"], m.lanes["mqtt"] = m.h.Lane("kafka", false), m.h.Lane("mqtt", true)
	for range 5 {
		m.produce("kafka", true)
		m.produce("mqtt", true)
	}
	return m
}

func (m *model) produce(lane string, ack bool) {
	l := m.lanes[lane]
	seq := l.Send()
	m.log = append(m.log, entry{lane, seq})
	switch {
	case !ack:
	case lane == "kafka":
		l.AckedAt(seq, p0, int64(len(m.log)-1))
	default:
		l.Acked(seq)
	}
}

// read reads the log by r, leaving out the offsets given.
func (m *model) read(r *checker.Reader, without ...int64) {
	for o, e := range m.log {
		if !slices.Contains(without, int64(o)) {
			r.Record(p0, int64(o), e.lane, e.seq)
		}
	}
}

func (m *model) readAll(without ...int64) { m.read(m.h.FinalReader(), without...) }

func TestPlantedFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(m *model)
		want  map[checker.Class]int64
	}{
		{"none", func(m *model) { m.readAll() }, nil},
		{"none: an unacked tail is missing", func(m *model) {
			m.produce("kafka", false)
			m.readAll(10)
		}, nil},
		{"none: an abandoned value is missing", func(m *model) {
			seq := m.lanes["kafka"].Send()
			m.lanes["kafka"].Abandoned(seq)
			m.produce("kafka", true)
			m.readAll()
		}, nil},
		{"none: MQTT repeats a run after a reconnect", func(m *model) {
			m.log = append(m.log, entry{"mqtt", 4}, entry{"mqtt", 5})
			m.produce("mqtt", true)
			m.readAll()
		}, nil},
		{"none: a group is rebalanced and reads a stretch again", func(m *model) {
			r := m.h.Reader("group")
			m.read(r)
			r.Assigned(p0)
			m.read(r)
			m.readAll()
		}, nil},
		{"none: values known before a restart are still there", func(m *model) {
			m.read(m.h.Reader("before"))
			m.h.Restarted()
			m.produce("mqtt", true)
			m.readAll()
		}, nil},

		{"A1: an acked value is missing below the end", func(m *model) {
			m.produce("mqtt", true)
			m.readAll(8) // kafka#5
		}, map[checker.Class]int64{checker.Lost: 1}},
		{"A2: the acked tail is missing", func(m *model) { m.readAll(8, 9) }, map[checker.Class]int64{checker.LostTail: 2}},
		{"A2: a whole acked lane is missing", func(m *model) {
			seq := m.h.Lane("alone", false).Send()
			m.h.Lane("alone", false).AckedAt(seq, p1, 0)
			m.readAll()
		}, map[checker.Class]int64{checker.LostTail: 1}},
		{"A3: an acked value is missing before a later one", func(m *model) { m.readAll(4) }, map[checker.Class]int64{checker.Hole: 1}},
		{"A3: an unacked value is missing before a later one", func(m *model) {
			m.produce("mqtt", false)
			m.produce("mqtt", true)
			m.readAll(10)
		}, map[checker.Class]int64{checker.Hole: 1}},
		{"A4: a retried batch was stored twice", func(m *model) {
			m.log = append(m.log, entry{"kafka", 5})
			m.readAll()
		}, map[checker.Class]int64{checker.Duplicate: 1}},
		{"A5: two readers see different values", func(m *model) {
			m.h.Reader("stale").Record(p0, 6, "mqtt", 1)
			m.readAll()
		}, map[checker.Class]int64{checker.TwoValues: 1}},
		{"A6: an ack says offset -1", func(m *model) {
			m.lanes["kafka"].AckedAt(5, p0, -1)
			m.readAll()
		}, map[checker.Class]int64{checker.SpuriousOffset: 1}},
		{"A6: an ack says offset 0, the value is at 10", func(m *model) {
			seq := m.lanes["kafka"].Send()
			m.log = append(m.log, entry{"kafka", seq})
			m.lanes["kafka"].AckedAt(seq, p0, 0)
			m.readAll()
		}, map[checker.Class]int64{checker.SpuriousOffset: 1, checker.TwoValues: 1}},
		{"A7: a restart gives an acked offset away", func(m *model) {
			m.h.Restarted()
			m.log[8] = entry{"mqtt", 5}
			m.readAll(9)
		}, map[checker.Class]int64{checker.OffsetReuse: 1, checker.LostTail: 1}},
		{"A8: a reader goes back", func(m *model) {
			r := m.h.Reader("group")
			m.read(r)
			r.Record(p0, 9, "mqtt", 5)
			m.readAll()
		}, map[checker.Class]int64{checker.PollSkip: 1}},
		{"A8: a reader leaves records out", func(m *model) {
			m.read(m.h.Reader("group"), 3, 4, 7)
			m.readAll()
		}, map[checker.Class]int64{checker.PollSkip: 2}},
		{"A9: two values are swapped", func(m *model) {
			m.produce("mqtt", true)
			m.produce("mqtt", true)
			m.log[10], m.log[11] = m.log[11], m.log[10]
			m.readAll()
		}, map[checker.Class]int64{checker.Reorder: 1}},
		{"A9: a lane is spread over partitions", func(m *model) {
			seq := m.lanes["mqtt"].Send()
			r := m.h.FinalReader()
			m.read(r)
			r.Record(p1, 0, "mqtt", seq)
		}, map[checker.Class]int64{checker.Reorder: 1}},
		{"A11: a record was read above the watermark and is gone", func(m *model) {
			m.produce("mqtt", false)
			m.read(m.h.Reader("hasty"))
			m.h.Restarted()
			m.readAll(10)
		}, map[checker.Class]int64{checker.Vanished: 1}},
		{"A11: a stale leader tells of an end that is passed", func(m *model) {
			m.h.Reader("first").Range(p1, 0, 7)
			m.h.Reader("second").Range(p1, 0, 6)
			m.readAll()
		}, map[checker.Class]int64{checker.WatermarkBack: 1}},
		{"A14: damage is taken for the end of the log", func(m *model) {
			m.h.Restarted()
			r := m.h.FinalReader()
			r.Range(p0, 0, 6)
			m.read(r, 6, 7, 8, 9)
		}, map[checker.Class]int64{checker.EarlyEnd: 1, checker.LostTail: 4}},
		{"A14: segments are deleted as orphans", func(m *model) {
			m.read(m.h.Reader("before"))
			m.h.Restarted()
			r := m.h.FinalReader()
			r.Range(p0, 4, 10)
			m.read(r, 0, 1, 2, 3)
		}, map[checker.Class]int64{checker.Removed: 1, checker.Hole: 4, checker.Vanished: 2}},
		{"A14: good segments behind a bad one are deleted", func(m *model) {
			m.produce("kafka", true)
			m.h.Restarted()
			m.produce("mqtt", true)
			m.readAll(6, 7, 8, 9, 10)
		}, map[checker.Class]int64{checker.Lost: 3, checker.Hole: 2}},
		{"A15: a resend after a restart is stored again", func(m *model) {
			m.h.Restarted()
			m.log = append(m.log, entry{"kafka", 5})
			m.lanes["kafka"].AckedAt(5, p0, 10)
			m.readAll()
		}, map[checker.Class]int64{checker.AckMoved: 1, checker.Duplicate: 1}},
		{"A15: the window is too small for a resend of the sixth batch back", func(m *model) {
			for range 5 {
				m.produce("kafka", true)
			}
			m.log = append(m.log, entry{"kafka", 5})
			m.readAll()
		}, map[checker.Class]int64{checker.Duplicate: 1}},
		{"none: a resend is acked at the offset that it has", func(m *model) {
			m.h.Restarted()
			m.lanes["kafka"].AckedAt(5, p0, 8)
			m.readAll()
		}, nil},
		{"none: retention removes what it may", func(m *model) {
			r := m.h.Reader("group")
			r.Range(p0, 0, 10)
			m.read(r)
			m.h.Trimmed(p0, 4)
			r = m.h.FinalReader()
			r.Range(p0, 4, 10)
			m.read(r, 0, 1, 2, 3)
		}, nil},
		{"A18: retention removes more than it may", func(m *model) {
			m.h.Trimmed(p0, 4)
			r := m.h.FinalReader()
			r.Range(p0, 5, 10)
			m.read(r, 0, 1, 2, 3, 4)
		}, map[checker.Class]int64{checker.Removed: 1, checker.Hole: 1}},
		{"A18: a crash brings back what was deleted", func(m *model) {
			m.h.Trimmed(p0, 4)
			m.h.Reader("before").Range(p0, 4, 10)
			m.h.Restarted()
			m.h.Reader("after").Range(p0, 0, 10)
			m.readAll()
		}, map[checker.Class]int64{checker.StartBack: 1}},
		{"none: compaction keeps the last value of each key", func(m *model) {
			m.compacted()
			m.read(m.h.Reader("before"))
			m.readAll(0, 1, 2, 4, 5, 6, 7)
		}, nil},
		{"A18: compaction removes the last value of a key", func(m *model) {
			m.compacted()
			m.readAll(0, 1, 2, 3, 4, 5, 6, 8)
		}, map[checker.Class]int64{checker.Lost: 1}},
		{"A18: compaction under a reader drops records that stay", func(m *model) {
			m.compacted()
			m.read(m.h.Reader("group"), 5, 6)
			m.readAll(0, 1, 6)
		}, map[checker.Class]int64{checker.PollSkip: 1}},
		{"A19: a producer is stuck after the disk has healed", func(m *model) {
			m.h.Begin("append to t-0")
			m.h.Begin("poll of group g")()
			m.readAll()
		}, map[checker.Class]int64{checker.Stuck: 1}},
		{"invented: a value that was never sent", func(m *model) {
			m.log = append(m.log, entry{"kafka", 6}, entry{"nobody", 1})
			m.readAll()
		}, map[checker.Class]int64{checker.Invented: 2}},
		{"invented: an ack of what was never sent", func(m *model) {
			m.lanes["mqtt"].Acked(6)
			m.readAll()
		}, map[checker.Class]int64{checker.Invented: 1}},
		{"none: a commit of unknown fate is there, or not", func(m *model) {
			c := m.h.Commits("g")
			c.Tried(p0, 4)
			c.Acked(p0, 4)
			c.Tried(p0, 7)
			c.Found(p0, 4)
			c.Found(p0, 7)
			m.readAll()
		}, nil},
		{"none: records are gone that were to be deleted", func(m *model) {
			m.read(m.h.Reader("before"))
			m.h.Trimmed(p0, 5)
			m.h.Lane("mqtt", true).AckedAt(2, p0, 3)
			m.readAll(0, 1, 2, 3, 4)
		}, nil},
		{"A3, A11: a record above the log start is gone with those below", func(m *model) {
			m.read(m.h.Reader("before"))
			m.h.Trimmed(p0, 4)
			m.h.Lane("mqtt", true).AckedAt(2, p0, 3)
			m.readAll(0, 1, 2, 3, 4)
		}, map[checker.Class]int64{checker.Hole: 1}},
		{"none: a compacted lane keeps its last value", func(m *model) {
			m.read(m.h.Reader("before"))
			m.h.Lane("kafka", false).Compacted()
			m.readAll(0, 2, 4, 6)
		}, nil},
		{"A2: a compacted lane lost its last value", func(m *model) {
			m.h.Lane("kafka", false).Compacted()
			m.readAll(8)
		}, map[checker.Class]int64{checker.Lost: 1}},
		{"an acked commit is gone", func(m *model) {
			c := m.h.Commits("g")
			c.Tried(p0, 7)
			c.Acked(p0, 7)
			c.Found(p0, 4)
			c.Found(p1, 0)
			m.readAll()
		}, map[checker.Class]int64{checker.CommitLost: 1}},
		{"a group's offset is from nowhere", func(m *model) {
			m.h.Commits("g").Found(p0, 1)
			m.readAll()
		}, map[checker.Class]int64{checker.CommitInvented: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sound()
			c.fault(m)
			r := m.h.Check()
			if !maps.Equal(r.Anomalies, c.want) || r.OK() != (c.want == nil) {
				t.Errorf("got %v\nwant %v", r, c.want)
			}
			if again := m.h.Check(); again.String() != r.String() {
				t.Errorf("a second check says\n%v, the first\n%v", again, r)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	m := sound()
	m.log = append(m.log, entry{"mqtt", 5})
	m.produce("mqtt", false)
	m.read(m.h.Reader("group"))
	m.readAll()
	want := "2 lanes: 11 sent, 10 acked, 1 unknown; 12 records at the end, 1 allowed duplicates; 24 reads; no anomaly"
	if got := m.h.Check().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if sent, acked := m.lanes["mqtt"].Counts(); sent != 6 || acked != 5 {
		t.Errorf("lane counts %d sent, %d acked", sent, acked)
	}
}

func TestDetailsAreBounded(t *testing.T) {
	h := checker.New()
	l := h.Lane("kafka", false)
	for range 1000 {
		l.Acked(l.Send())
	}
	h.FinalReader()
	r := h.Check()
	if r.Anomalies[checker.LostTail] != 1000 || len(r.Details) > 10 {
		t.Errorf("%d anomalies, %d details", r.Anomalies[checker.LostTail], len(r.Details))
	}
}

func Example() {
	h := checker.New()
	l := h.Lane("pump-1", false)
	p := checker.Partition{Topic: "telemetry", Index: 0}
	l.AckedAt(l.Send(), p, 0)
	l.AckedAt(l.Send(), p, 1)
	h.Restarted()
	h.FinalReader().Record(p, 0, "pump-1", 1)
	fmt.Println(h.Check())
	// Output:
	// 1 lanes: 2 sent, 2 acked, 0 unknown; 1 records at the end, 0 allowed duplicates; 1 reads; ANOMALIES
	//   A2 lost tail: 1
	//     A2 lost tail: pump-1#2 was acked and is missing; the lane's last value there is #1
}

// compacted says that all lanes are.
func (m *model) compacted() {
	for _, l := range m.lanes {
		l.Compacted()
	}
}
