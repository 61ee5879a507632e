package topic

import (
	"bytes"
	"maps"
	"math"
	"testing"
	"time"
)

func TestCleanPointsComeBack(t *testing.T) {
	points := map[partitionID]*cleanPoint{
		{ID{1, 2}, 0}:             {dirty: 0, horizon: math.MaxInt64},
		{ID{1, 2}, math.MaxInt32}: {dirty: math.MaxInt64, horizon: 0},
		{ID{0xff}, 7}:             {dirty: 12, horizon: 1_700_000_000_000},
	}
	text := encodeCleanPoints(points)
	got, err := decodeCleanPoints(text)
	if err != nil || !maps.EqualFunc(got, points, func(a, b *cleanPoint) bool { return a.dirty == b.dirty && a.horizon == b.horizon }) {
		t.Errorf("%v, %v from\n%s", got, err, text)
	}
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if _, err := decodeCleanPoints(bad); err == nil {
			t.Errorf("byte %d flipped, and nobody noticed", i)
		}
		if _, err := decodeCleanPoints(text[:i]); err == nil {
			t.Errorf("cut at byte %d, and nobody noticed", i)
		}
	}
}

// A segment made of several is as old as the youngest: retention must not take what
// came last for what came first.
func TestJoinedSegmentsAreAsOldAsTheYoungest(t *testing.T) {
	var a appendTimes
	for i := range int64(4) {
		a.note(10*i, 10*i+10, time.Duration(i+1)*time.Hour)
	}
	a.join(10, 30)
	for base, want := range map[int64]time.Duration{0: time.Hour, 10: 3 * time.Hour, 30: 4 * time.Hour} {
		if s, ok := a.of(base); !ok || s.last != want {
			t.Errorf("segment %d: %v, %v; want %v", base, s, ok, want)
		}
	}
	if s, _ := a.of(10); s.end != 30 || s.first != 2*time.Hour {
		t.Errorf("%+v", s)
	}
	b := appendTimes{segments: []appendTime{{base: 20, end: 30, first: 5, last: 7}}}
	b.join(0, 30) // the first is older than this process
	if s, ok := b.of(0); !ok || s.last != 7 || s.end != 30 {
		t.Errorf("%+v, %v", s, ok)
	}
	b.join(40, 50)
	if _, ok := b.of(40); ok {
		t.Error("a segment that nobody knows is known")
	}
}

func FuzzCleanPoints(f *testing.F) {
	f.Add(encodeCleanPoints(map[partitionID]*cleanPoint{{ID{3}, 1}: {dirty: 5, horizon: 6}}))
	f.Add([]byte("weir-cleaner 1\ncrc 00000000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		points, err := decodeCleanPoints(text)
		if err != nil {
			return
		}
		again, err := decodeCleanPoints(encodeCleanPoints(points))
		if err != nil || len(again) != len(points) {
			t.Errorf("%d points, %d again, %v", len(points), len(again), err)
		}
		for _, p := range points {
			if p.dirty < 0 || p.horizon < 0 {
				t.Errorf("%+v", p)
			}
		}
	})
}
