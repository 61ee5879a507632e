package topic

import (
	"bytes"
	"maps"
	"math"
	"testing"
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
