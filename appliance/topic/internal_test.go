package topic

import (
	"bytes"
	"errors"
	"github.com/weirmq/weir/appliance/commitlog"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

func TestSequencesWrapAsKafkas(t *testing.T) {
	for _, c := range []struct{ s, n, want int32 }{
		{0, 0, 0}, {5, 3, 8}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 2, 5, 2},
	} {
		if got := addSequence(c.s, c.n); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.s, c.n, got, c.want)
		}
	}
}

// sequencedBatch is a batch of n records at an offset.
func sequencedBatch(t testing.TB, id int64, epoch int16, seq int32, offset int64, n int) record.Batch {
	t.Helper()
	rs := make([]record.Record, n)
	b, err := record.NewBatch(record.None, rs...)
	if err != nil {
		t.Fatal(err)
	}
	b.SetProducer(id, epoch, seq)
	b.SetBaseOffset(offset)
	return b
}

func TestProducerWindow(t *testing.T) {
	ps := producers{}
	for i := range int32(8) {
		b := sequencedBatch(t, 1, 0, 2*i, int64(10+2*i), 2)
		if _, dup, err := ps.check(b, 10); dup || err != nil {
			t.Fatal(i, dup, err)
		}
		ps.note(b, 10)
	}
	for i := range int32(8) {
		base, dup, err := ps.check(sequencedBatch(t, 1, 0, 2*i, 0, 2), 10)
		if inWindow := i >= 3; inWindow != dup || dup && base != int64(10+2*i) || !dup && !errors.Is(err, record.ErrOutOfOrderSequence) {
			t.Errorf("resend of batch %d: %d %v %v", i, base, dup, err)
		}
	}
	if _, dup, err := ps.check(sequencedBatch(t, 1, 0, 14, 0, 1), 10); dup || err == nil {
		t.Error("a batch that overlaps the last is neither new nor a resend:", dup, err)
	}
}

func TestProducersAreBounded(t *testing.T) {
	ps := producers{}
	for i := range int64(110) {
		ps.note(sequencedBatch(t, i, 0, 0, i, 1), 100)
	}
	if len(ps) != 100 || ps[9] != nil || ps[10] == nil || ps[109] == nil {
		t.Fatal(len(ps))
	}
	ps.note(sequencedBatch(t, 200, 0, 0, 200, 1), 50) // the limit is lower since the restart
	if len(ps) != 50 || ps[60] != nil || ps[61] == nil || ps[200] == nil {
		t.Fatal(len(ps))
	}
}

func TestStateHoldsOnlyWhatIsCommitted(t *testing.T) {
	s := &state{logStart: 3, producers: producers{}}
	for i := range int32(4) {
		b := sequencedBatch(t, 9, 1, i, int64(10+i), 1)
		b.SetLeaderEpoch(i / 2)
		s.note(b, 10)
	}
	got, err := decodeState(s.encode(12))
	if err != nil {
		t.Fatal(err)
	}
	if got.logStart != 3 || len(got.epochs) != 1 || got.producers[9].n != 2 || got.producers[9].last[1].end != 12 {
		t.Fatalf("%+v %+v", got, got.producers[9])
	}
	if !s.ahead(12) || s.ahead(14) {
		t.Fatal("ahead")
	}
}

// FuzzState: a damaged state file is an error, never a panic, and allocates no
// more than it paid for; an intact one reads back the same.
func FuzzState(f *testing.F) {
	s := newState(identity{})
	s.note(sequencedBatch(f, 9, 1, 0, 10, 1), 10)
	for i := range int64(3) {
		b := sequencedBatch(f, 20+i, 0, 0, 20+i, 1)
		b.SetTransactional(20+i, 0, 0)
		s.recall(b, 10)
	}
	marker := record.NewMarker(record.Marker{ProducerID: 21}, 0)
	marker.SetBaseOffset(30)
	s.recall(marker, 10)
	s.know(commitlog.SegmentID{Base: 1, End: 9, Bytes: 100, First: 1, CRC: 7, Cleaned: true})
	s.lose(lost{Damage: commitlog.Damage{First: 3, Next: 5, Segment: 1, From: 10, To: 20, Cause: "a reason"}})
	s.unknown = []byte{77, 0, 0, 0, 2, 1, 2}
	f.Add(s.encode(100))
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := decodeState(s.encode(math.MaxInt64))
		if err != nil || len(again.epochs) != len(s.epochs) || len(again.producers) != len(s.producers) || !slices.Equal(again.segments, s.segments) ||
			!slices.Equal(again.lost, s.lost) || !bytes.Equal(again.unknown, s.unknown) || again.owner != s.owner || again.generation != s.generation ||
			s.next > 0 && (again.next != s.next || !maps.Equal(again.open, s.open) || !slices.Equal(again.aborted, s.aborted)) {
			t.Fatal(err)
		}
	})
}

// FuzzEntry: no bytes in the write-ahead log make the parser panic, and what it
// accepts holds together.
func FuzzEntry(f *testing.F) {
	p := &Partition{topic: &Topic{id: ID{1}}}
	b := sequencedBatch(f, 9, 1, 0, 10, 1)
	e := make([]byte, entryAppendLen+len(b))
	p.putHead(e, entryAppend)
	copy(e[entryAppendLen:], b)
	f.Add(e)
	f.Add(bytes.Repeat([]byte{2}, entryOffsetLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil && e.kind == entryAppend && int64(len(e.batch)) != e.batch.Len() {
			t.Fatal("a batch that is not whole")
		}
	})
}

// FuzzWatermarks: no bytes make the parser panic, and what it takes is written the same.
func FuzzWatermarks(f *testing.F) {
	f.Add(watermark{logStart: 1, end: 9, segment: 3, bytes: 77, crc: 5, epoch: 2, generation: 4}.append(nil, identity{ID{1}, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeWatermarks(b, func(id identity, w watermark) {
			if !bytes.Contains(b, w.append(nil, id)) {
				t.Fatal("read something that is not there")
			}
		})
	})
}

// Sections of a newer version are kept, and an old copy is told by its generation.
func TestStateKeepsWhatItDoesNotKnow(t *testing.T) {
	s := newState(identity{ID{1}, 2})
	s.unknown = []byte{200, 0, 0, 0, 3, 1, 2, 3}
	s.generation = 7
	got, err := decodeState(s.encode(0))
	if err != nil || !bytes.Equal(got.unknown, s.unknown) || got.generation != 7 || got.owner != s.owner {
		t.Fatalf("%+v, %v", got, err)
	}
}
