package topic

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
)

func FuzzTimes(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeTimes(nil))
	f.Add(encodeTimes([]appendTime{{0, 10, 1, 2}, {10, 12, 3, 4}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := decodeTimes(b); got != nil && !bytes.Equal(encodeTimes(got), b) {
			t.Errorf("%x is read as %v", b, got)
		}
	})
}

// What was saved is believed of segments that are as they were then; others are as
// old as the process, and no time is later than now.
func TestAdoptTimes(t *testing.T) {
	const opened = 100 * time.Second
	file := []appendTime{
		{0, 10, 1 * time.Second, 2 * time.Second},
		{10, 20, 3 * time.Second, 4 * time.Second},
		{30, 35, 5 * time.Second, 6 * time.Second},
		{50, 55, 7 * time.Second, 999 * time.Second},
		{60, 61, 8 * time.Second, 9 * time.Second},
	}
	segments := []commitlog.SegmentInfo{{Base: 10, End: 20}, {Base: 20, End: 30}, {Base: 30, End: 40}, {Base: 50, End: 55}, {Base: 60, End: 62}}
	a := appendTimes{}
	a.note(60, 62, 110*time.Second) // since the start
	a.adopt(file, segments, opened)
	want := []appendTime{
		{10, 20, 3 * time.Second, 4 * time.Second},
		{20, 30, opened, opened},
		{30, 40, 5 * time.Second, opened},
		{50, 55, 7 * time.Second, opened},
		{60, 62, 8 * time.Second, 110 * time.Second},
	}
	if !slices.Equal(a.segments, want) || !a.unsaved || !a.loaded {
		t.Errorf("%v\nwant %v", a.segments, want)
	}
	if again := decodeTimes(encodeTimes(want)); !slices.Equal(again, want) {
		t.Errorf("read again: %v", again)
	}
	a.prune(segments[3:])
	if len(a.segments) != 2 || a.segments[0].base != 50 {
		t.Errorf("pruned: %v", a.segments)
	}
}
