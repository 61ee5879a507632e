package topic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"sort"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/vfs"
)

// Clock is the time of the box. Package clock has the one for boxes whose clock may
// be wrong.
type Clock interface {
	// Read is the best wall time known, for timestamps, and the time known to have
	// passed since the data folder was made, for ages. The latter never jumps.
	Read() (now time.Time, elapsed time.Duration)
}

// wallClock takes a wall clock at its word: whatever it jumps has passed.
type wallClock func() time.Time

func (c wallClock) Read() (time.Time, time.Duration) {
	now := c()
	return now, time.Duration(now.UnixNano())
}

// appendTime says when a segment was appended to, first and last, in elapsed time.
// Records' own timestamps cannot say it: they are of the producers' clocks, and what
// claims to be of 1970 came just now.
type appendTime struct {
	base, end   int64 // offsets; of an active segment, end as of last
	first, last time.Duration
}

// appendTimes is those of a partition's segments, by base offset. Partition.stateMu
// guards it. Of segments that are not in it one knows only that they are older than
// this process; they are taken to be just as old, and so stay longer.
type appendTimes struct {
	segments []appendTime
	loaded   bool
	unsaved  bool
	saved    time.Duration // when it was saved
}

// note takes in an append that has its place.
func (a *appendTimes) note(base, end int64, elapsed time.Duration) {
	n := len(a.segments)
	if n == 0 || a.segments[n-1].base != base {
		a.segments = append(a.segments, appendTime{base: base, first: elapsed})
		n++
	}
	s := &a.segments[n-1]
	s.end, s.last, a.unsaved = end, elapsed, true
}

// of is the time of the segment that starts at base.
func (a *appendTimes) of(base int64) (appendTime, bool) {
	i := sort.Search(len(a.segments), func(i int) bool { return a.segments[i].base >= base })
	if i == len(a.segments) || a.segments[i].base != base {
		return appendTime{}, false
	}
	return a.segments[i], true
}

// adopt merges what the file says into what this process has seen. Only segments
// that are as they were when it was written are known by it.
func (a *appendTimes) adopt(file []appendTime, segments []commitlog.SegmentInfo, opened time.Duration) {
	seen := a.segments
	old := appendTimes{segments: file}
	a.segments = make([]appendTime, 0, len(segments)+1)
	for _, s := range segments {
		if len(seen) > 0 && s.Base >= seen[0].base {
			break
		}
		t, ok := old.of(s.Base)
		if !ok {
			t = appendTime{base: s.Base, first: opened}
		}
		if t.end != s.End {
			t.end, t.last, a.unsaved = s.End, opened, true
		}
		t.first, t.last = min(t.first, opened), min(t.last, opened)
		a.segments = append(a.segments, t)
	}
	for _, t := range file {
		a.saved = max(a.saved, min(t.last, opened)) // about then
	}
	for _, t := range seen {
		if old, ok := old.of(t.base); ok {
			t.first = min(t.first, old.first)
		}
		a.segments = append(a.segments, t)
	}
	a.loaded = true
}

// prune forgets segments that retention has removed.
func (a *appendTimes) prune(segments []commitlog.SegmentInfo) {
	if len(segments) == 0 {
		return
	}
	first := segments[0].Base
	a.segments = slices.DeleteFunc(a.segments, func(t appendTime) bool { return t.base < first })
}

// The times are saved only so often: what is lost of them makes records stay longer.
const (
	minSaveInterval = 10 * time.Minute
	maxSaveInterval = 12 * time.Hour
	savesPerPeriod  = 16 // of retention.ms
)

func saveInterval(retention time.Duration) time.Duration {
	return min(max(retention/savesPerPeriod, minSaveInterval), maxSaveInterval)
}

// The file, big endian: magic "WAT1", CRC-32C of what follows, the segments: base (8),
// end (8), first (8, ns), last (8, ns).
const (
	timesFile  = "append.times"
	timesMagic = "WAT1"
	timesHead  = 8
	timeLen    = 32
	maxTimes   = 1 << 16 // segments; of more, the oldest are not written
)

func encodeTimes(segments []appendTime) []byte {
	segments = segments[max(0, len(segments)-maxTimes):]
	b := append(make([]byte, 0, timesHead+timeLen*len(segments)), timesMagic...)
	b = append(b, 0, 0, 0, 0)
	for _, s := range segments {
		b = binary.BigEndian.AppendUint64(b, uint64(s.base))
		b = binary.BigEndian.AppendUint64(b, uint64(s.end))
		b = binary.BigEndian.AppendUint64(b, uint64(s.first))
		b = binary.BigEndian.AppendUint64(b, uint64(s.last))
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[timesHead:], castagnoli))
	return b
}

// decodeTimes is what encodeTimes wrote; nil if it is anything else.
func decodeTimes(b []byte) (segments []appendTime) {
	if len(b) < timesHead || (len(b)-timesHead)%timeLen != 0 || string(b[:4]) != timesMagic ||
		binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(b[timesHead:], castagnoli) {
		return nil
	}
	for b = b[timesHead:]; len(b) > 0; b = b[timeLen:] {
		s := appendTime{
			base: int64(binary.BigEndian.Uint64(b)), end: int64(binary.BigEndian.Uint64(b[8:])),
			first: time.Duration(binary.BigEndian.Uint64(b[16:])), last: time.Duration(binary.BigEndian.Uint64(b[24:])),
		}
		if n := len(segments); n > 0 && segments[n-1].base >= s.base {
			return nil
		}
		segments = append(segments, s)
	}
	return segments
}

// loadTimes reads the file. One that is missing or damaged is none.
func loadTimes(fsys vfs.FS, dir string) ([]appendTime, error) {
	f, err := fsys.Open(dir + "/" + timesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("topic: open %s/%s: %w", dir, timesFile, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > timesHead+timeLen*maxTimes {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("topic: read %s/%s: %w", dir, timesFile, err)
	}
	return decodeTimes(b), nil
}

// saveTimes writes the file in place and leaves it to the kernel when it reaches the
// disk: its checksum finds what a power cut tears, and then there is none.
func saveTimes(fsys vfs.FS, dir string, segments []appendTime) error {
	name := dir + "/" + timesFile
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(name)
	}
	if err != nil {
		return fmt.Errorf("topic: open %s: %w", name, err)
	}
	b := encodeTimes(segments)
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Truncate(int64(len(b)))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("topic: write %s: %w", name, err)
	}
	return nil
}
