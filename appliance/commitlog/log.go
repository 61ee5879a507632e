// Package commitlog is one partition on disk: segments in Apache Kafka's own
// format, their indexes, reads, and what retention removes.
//
// A log is a folder of segments, each named by the offset of its first record:
//
//	00000000000000000000.log        record batches, end to end
//	00000000000000000000.index      sparse: offset (4, relative) -> position (4)
//	00000000000000000000.timeindex  sparse: timestamp (8) -> offset (4, relative)
//
// A log is written only with batches that the write-ahead log has made durable
// already, at the place that the write-ahead log noted. So a crash needs no
// guessing about the tail of a segment: [Redo] writes the same bytes to the same
// places again. Indexes are derived; what is missing or does not hold together
// is rebuilt from the segment.
//
// One goroutine writes a log (the committer of the write-ahead log); any number
// read it at the same time. Readers see a batch once Write has returned.
package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Options says where the log is.
type Options struct {
	FS  vfs.FS
	Dir string
	// IndexFS is FS for the indexes, which are not synced; nil means FS.
	IndexFS vfs.FS
	// IndexIntervalBytes is how much log lies between two index entries; 0 means
	// 4096, as Kafka's index.interval.bytes.
	IndexIntervalBytes int
	// Start is the log start offset. Open removes segments that lie wholly below it
	// without reading them: after a crash they may hold anything.
	Start int64
	// Redo, if not nil, has been finished. Open takes over its files; the first Sync
	// makes them durable.
	Redo *Redo

	// Writeback has batches written to the disk ahead of the next Sync; nil: not.
	Writeback *vfs.Writeback

	// Known is what the owner remembers of the segment that starts at base; of several
	// any may be there. A file that is none of them is damaged, or another's. It must
	// not call the Log. nil: nothing is known.
	Known func(base int64) []SegmentID
	// Dense says that no offset is missing from segments that Known does not call
	// cleaned: one that is was lost.
	Dense bool
	// Epochs is between which leader epochs the owner knows an offset to have been
	// appended. Like Known it must not call the Log. nil: nothing is known.
	Epochs func(offset int64) (least, greatest int32)
	// Quarantine is the folder for files that are not the segment whose name they
	// bear; "" means "quarantine".
	Quarantine string
	// Damaged is told of what cannot be read any more, once in the life of a Log, by
	// whoever found it. It must not call the Log. nil: nobody is.
	Damaged func(Damage)
}

const defaultIndexInterval = 4096

func (o Options) withDefaults() Options {
	if o.IndexIntervalBytes == 0 {
		o.IndexIntervalBytes = defaultIndexInterval
	}
	if o.IndexFS == nil {
		o.IndexFS = o.FS
	}
	if o.Quarantine == "" {
		o.Quarantine = "quarantine"
	}
	return o
}

// Log is one open partition.
type Log struct {
	opts Options

	mu       sync.RWMutex // guards segments, not their content
	segments []*segment   // by base offset; the last is the active one

	structure sync.Mutex // held while segments are taken away: retention and cleaning
	swapping  bool       // a swap has failed half way; guarded by structure

	dirtyMu  sync.Mutex
	dirty    []*segment // written since the last Sync
	newNames bool       // a segment was created since the last Sync
}

// Position is a place in a log: a segment and a byte in it.
type Position struct {
	Segment int64 // base offset
	Byte    int64
}

// CorruptError says where a segment stops making sense. Nothing was changed.
type CorruptError struct {
	File string
	Byte int64
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("commitlog: %s is damaged at byte %d: %v", e.File, e.Byte, e.Err)
}
func (e *CorruptError) Unwrap() error { return e.Err }

// Open opens the log in its folder, which must exist. Only the active segment is
// looked into, and those whose size is not what the owner remembers; the others when
// they are read. What is damaged is stepped over, and Options.Damaged is told. Where
// the log ends with bytes that are no batch, Torn says so.
func Open(o Options) (*Log, error) {
	o = o.withDefaults()
	bases, err := segmentsFrom(o)
	if err != nil {
		return nil, err
	}
	redo := o.Redo
	o.Redo = nil // the segments keep o
	l := &Log{opts: o}
	for i, base := range bases {
		next := int64(0)
		if i+1 < len(bases) {
			next = bases[i+1]
		}
		s, err := openSegment(o, redo, base, next)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.segments = append(l.segments, s)
		if s.dirty.Load() {
			l.dirty, l.newNames = append(l.dirty, s), true
		}
	}
	for _, s := range slices.Clone(l.segments) {
		if s.likely() {
			continue
		}
		if err := l.load(s); err != nil && err != errRemoved && !errors.Is(err, record.ErrStorage) {
			return nil, errors.Join(err, l.Close())
		}
	}
	// The last may turn out not to belong here, and then the one before is the last.
	for s := l.active(); s != nil; s = l.active() {
		if err := l.load(s); err == nil {
			break
		} else if err != errRemoved {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// segmentsFrom lists the segments from the one that holds the log start offset on,
// by base offset, and removes those before it.
func segmentsFrom(o Options) ([]int64, error) {
	if err := finishSwaps(o); err != nil {
		return nil, err
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("commitlog: list %s: %w", o.Dir, err)
	}
	var bases []int64 // ascending, as the names are sorted
	for _, name := range names {
		if base, ok := parseName(name, logSuffix); ok {
			bases = append(bases, base)
		}
	}
	for len(bases) > 1 && bases[1] <= o.Start {
		for _, suffix := range []string{indexSuffix, timeSuffix, logSuffix} {
			name := o.Dir + "/" + fileName(bases[0], suffix)
			if err := o.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("commitlog: remove %s: %w", name, err)
			}
		}
		bases = bases[1:]
	}
	return bases, nil
}

// Start is the first offset on disk; 0 for a log without segments.
func (l *Log) Start() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segments) == 0 {
		return 0
	}
	return l.segments[0].base
}

// End is the offset after the last record and the place after the last batch.
func (l *Log) End() (offset int64, at Position) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segments) == 0 {
		return 0, Position{}
	}
	s := l.segments[len(l.segments)-1]
	return s.end.Load(), Position{s.base, s.size.Load()}
}

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var n int64
	for _, s := range l.segments {
		n += s.size.Load()
	}
	return n
}

// Write puts durable batches, one or several end to end, in their place: at the
// end of the active segment, or at the start of a new one.
func (l *Log) Write(at Position, batches []byte) error {
	s := l.active()
	if s == nil || s.base != at.Segment {
		var err error
		if s, err = l.roll(at.Segment); err != nil {
			return err
		}
	}
	if size := s.size.Load(); size != at.Byte {
		return fmt.Errorf("commitlog: internal error: %s is %d bytes long, a batch is to go to %d", s.name(logSuffix), size, at.Byte)
	}
	// Whoever has seen the new end, and then takes what is dirty, must find s there.
	l.dirtyMu.Lock()
	defer l.dirtyMu.Unlock()
	if err := s.append(batches); err != nil {
		return err
	}
	if !s.dirty.Load() {
		s.dirty.Store(true)
		l.dirty = append(l.dirty, s)
	}
	return nil
}

func (l *Log) active() *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// roll begins a new segment. Its name is made durable by the next Sync; until
// then the write-ahead log can make it anew.
func (l *Log) roll(base int64) (*segment, error) {
	if a := l.active(); a != nil && base < a.end.Load() {
		return nil, fmt.Errorf("commitlog: internal error: roll of %s to %d, the log ends at %d", l.opts.Dir, base, a.end.Load())
	}
	s, err := createSegment(l.opts, base)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if n := len(l.segments); n > 0 {
		l.segments[n-1].next = base
		l.segments[n-1].sealed.Store(true)
	}
	l.segments = append(l.segments, s)
	l.mu.Unlock()
	l.dirtyMu.Lock()
	l.newNames = true
	l.dirtyMu.Unlock()
	return s, nil
}

// Sync makes all that was written before the call durable: bytes, sizes, names.
func (l *Log) Sync() error {
	dirty, names := l.takeDirty()
	for i, s := range dirty {
		if !s.acquire() {
			continue // removed by retention meanwhile
		}
		err := s.sync()
		s.release()
		if err != nil {
			l.putBack(dirty[i:], names)
			return err
		}
	}
	return l.syncNames(names)
}

// Flush is Sync for a caller who makes the whole file system durable after it.
func (l *Log) Flush() error {
	dirty, names := l.takeDirty()
	for _, s := range dirty {
		if !s.acquire() {
			continue // removed by retention meanwhile
		}
		err := s.flushIndex()
		s.release()
		if err != nil {
			l.putBack(dirty, names)
			return err
		}
	}
	return nil
}

// putBack has what takeDirty took be dirty again: its indexes had no room.
func (l *Log) putBack(dirty []*segment, names bool) {
	l.dirtyMu.Lock()
	defer l.dirtyMu.Unlock()
	for _, s := range dirty {
		if !s.dirty.Swap(true) {
			l.dirty = append(l.dirty, s)
		}
	}
	l.newNames = l.newNames || names
}

func (l *Log) takeDirty() (dirty []*segment, names bool) {
	l.dirtyMu.Lock()
	defer l.dirtyMu.Unlock()
	dirty, names = l.dirty, l.newNames
	l.dirty, l.newNames = nil, false
	for _, s := range dirty {
		s.dirty.Store(false)
	}
	return dirty, names
}

func (l *Log) syncNames(names bool) error {
	if names {
		if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
			return fmt.Errorf("%w: commitlog: sync folder %s: %w", vfs.ErrUnsynced, l.opts.Dir, err)
		}
	}
	return nil
}

// Close closes the files. What was written stays; it is durable if Sync came before.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		s.release()
	}
	l.segments = nil
	return nil
}

// find returns the segment that holds offset, or the first record after it, loaded
// and acquired; nil when there is none.
func (l *Log) find(offset int64) (*segment, error) {
	for {
		s := l.candidate(offset)
		if s == nil {
			return nil, nil
		}
		if err := l.load(s); err == errRemoved {
			s.release()
			continue
		} else if err != nil {
			s.release()
			if s.removed.Load() {
				continue // by retention, after it was found
			}
			return nil, err
		}
		if s.end.Load() > offset {
			return s, nil
		}
		s.release() // it ends before the next begins, as is known now
	}
}

// candidate returns the segment that holds offset as far as is known, acquired.
func (l *Log) candidate(offset int64) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > offset }) - 1
	// A segment may end before the next one starts where records were removed.
	for i = max(i, 0); i < len(l.segments); i++ {
		if s := l.segments[i]; s.end.Load() > offset && s.acquire() {
			return s
		}
	}
	return nil
}

const (
	logSuffix   = ".log"
	indexSuffix = ".index"
	timeSuffix  = ".timeindex"
)

// FileName is the name of the segment that starts at offset base.
func FileName(base int64) string { return fileName(base, logSuffix) }

func fileName(base int64, suffix string) string { return fmt.Sprintf("%020d%s", base, suffix) }

func parseName(name, suffix string) (base int64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		base = base*10 + int64(c-'0')
	}
	return base, base >= 0
}
