package topic

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
)

// Limits and defaults. Each has an Options field.
const (
	DefaultMaxPartitions      = 10_000
	DefaultCheckpointInterval = 30 * time.Second
	DefaultRetentionInterval  = 5 * time.Minute
	DefaultProducerExpiration = 24 * time.Hour
	DefaultMaxProducers       = 4096
	DefaultMaxAborted         = 100_000
	// MaxDefaultOpenFiles bounds the default of Options.OpenFiles: each open file
	// costs the kernel about a KiB.
	MaxDefaultOpenFiles = 16384
)

// Options says where a Set lives and how it behaves.
type Options struct {
	FS      vfs.FS // holds the folders "wal" and "topics"
	Catalog Catalog
	// LeaderEpoch of all partitions; it must be greater than at any open before.
	LeaderEpoch int32
	// Raise, if not nil, is told the greatest leader epoch and producer id that the
	// log holds, -1 where it holds none, once they are known and before anything is
	// appended. It returns the leader epoch to go on with.
	Raise func(epoch int32, producerID int64) (int32, error)
	// WAL is how appends are committed; FS, Dir and Log are filled in.
	WAL wal.Options
	// Partitions is how many a new topic gets unless it says; 0 means 1 (num.partitions).
	Partitions int32
	// MaxPartitions bounds the partitions of all topics; 0 means DefaultMaxPartitions.
	MaxPartitions int
	// ReserveBytes is what stays free on the disk; 0 means DefaultReserveBytes.
	ReserveBytes int64
	// TrashRetention is how long a deleted topic's data are kept, unless the disk runs
	// full; 0 means DefaultTrashRetention, less removes them at once.
	TrashRetention time.Duration
	// Ballast, if there is one, holds the reserve; FS draws on it. The Set keeps it whole.
	Ballast *vfs.Ballast
	// BudgetBytes and BudgetPercent, of the disk, bound what all segments hold; the
	// lesser counts. 0 of either: all but the reserve.
	BudgetBytes   int64
	BudgetPercent int
	// Mirrored is the offset before which every mirror flow that covers the partition
	// has carried all records away; not known where there is no such flow, or one of
	// them does not know. nil: never known. It is called without locks held.
	Mirrored func(record.TopicPartition) (offset int64, known bool)
	// OpenFiles is about how many files of segments and indexes are kept open; those
	// used least are closed for others. 0 means three quarters of what the process may
	// have open, at most MaxDefaultOpenFiles.
	OpenFiles int
	// Configs are defaults of topic configs other than those in Keys.
	Configs map[string]string
	// CheckpointInterval is how long the write-ahead log may hold what segments
	// were not synced for; RetentionInterval is log.retention.check.interval.ms.
	CheckpointInterval, RetentionInterval time.Duration
	// WritebackBytesPerSecond is how fast segments are written to the disk ahead of the
	// checkpoint; 0: the checkpoint and the kernel do all of it.
	WritebackBytesPerSecond int64
	// ProducerExpiration is how long an idle producer is remembered (producer.id.expiration.ms);
	// 0: DefaultProducerExpiration.
	ProducerExpiration time.Duration
	// MaxProducers bounds the idempotent producers that one partition remembers, about
	// 250 bytes each; 0: DefaultMaxProducers. The one idle longest is forgotten first.
	MaxProducers int
	// MaxAborted bounds the aborted transactions that one partition remembers, 32 bytes
	// each, until retention or compaction has removed their records; 0:
	// DefaultMaxAborted. With more it takes part in no further transaction.
	MaxAborted int
	// Cleaner is how compacted topics are compacted, OwnCompaction the names of topics
	// that are not, although cleanup.policy says so: who writes them does it.
	Cleaner       CleanerOptions
	OwnCompaction []string
	// Clock is what retention goes by; nil: Now, taken at its word.
	Clock Clock
	Now   func() time.Time // nil: Clock's, or time.Now
	Log   *slog.Logger     // nil: discard
}

// Catalog keeps which topics there are. A put adds an entry or replaces the one of
// that name. Puts and deletes are durable on return, and whole or not at all. One
// that also has PutTopics([]Entry) error is given many at once.
type Catalog interface {
	Topics() ([]Entry, error)
	PutTopic(Entry) error
	DeleteTopic(name string) error
}

// Entry is one topic in the Catalog.
type Entry struct {
	Name       string
	ID         ID
	Partitions int32
	Configs    map[string]string
	Internal   bool
	Created    time.Time // to the millisecond
}

// Set is all topics of the box.
type Set struct {
	opts      Options
	tuning    atomic.Pointer[Tuning]
	tuned     chan struct{} // the tuning has changed
	wal       *wal.Log
	space     *space
	files     *vfs.Pool // of the segments
	indexes   *vfs.Pool
	writeback *vfs.Writeback

	creating sync.Mutex // one change of the topics at a time
	trash    sync.Mutex // one at a time empties it
	adopted  int        // topics that Open found on the disk alone

	mu      sync.RWMutex // guards topics, ids and count
	topics  map[string]*Topic
	ids     map[ID]*Topic
	count   int
	changes atomic.Uint64

	gathered gathered     // the applier's
	late     atomic.Int64 // batches, of all partitions
	gaps     chan record.Gap
	trends   trends

	saidNoRoom atomic.Int64 // when, in Unix nanoseconds

	reclaiming sync.Mutex // one at a time

	dirtyMu sync.Mutex
	dirty   []*Partition

	cleaning      sync.Mutex // one log at a time, and no topic removed meanwhile
	cleaner       *cleaner
	checkpointing sync.Mutex // one at a time, and no topic removed meanwhile
	marks         watermarks
	walDamage     []wal.Damage // found by Open
	closing       chan struct{}
	closeOnce     sync.Once
	closeErr      error
	background    sync.WaitGroup
	stop          chan struct{}
}

var _ interface {
	record.Appender
	record.AsyncAppender
	record.AtomicAppender
	record.Fetcher
} = (*Set)(nil)

const (
	walDir    = "wal"
	topicsDir = "topics"
	// quarantineDir keeps what is damaged, or is not what it should be.
	quarantineDir = "quarantine"
)

// Open opens the set, after a crash with everything that was acknowledged: what
// the write-ahead log holds is brought to its place first.
func Open(o Options) (*Set, error) {
	if o.Partitions == 0 {
		o.Partitions = 1
	}
	o.MaxProducers, o.MaxAborted = cmp.Or(o.MaxProducers, DefaultMaxProducers), cmp.Or(o.MaxAborted, DefaultMaxAborted)
	if o.MaxPartitions == 0 {
		o.MaxPartitions = DefaultMaxPartitions
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = DefaultReserveBytes
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = DefaultCheckpointInterval
	}
	if o.RetentionInterval == 0 {
		o.RetentionInterval = DefaultRetentionInterval
	}
	if o.TrashRetention == 0 {
		o.TrashRetention = DefaultTrashRetention
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = min(vfs.OpenFileLimit()/4*3, MaxDefaultOpenFiles)
	}
	if o.Now == nil {
		o.Now = time.Now
		if o.Clock != nil {
			o.Now = func() time.Time { now, _ := o.Clock.Read(); return now }
		}
	}
	if o.Clock == nil {
		o.Clock = wallClock(o.Now)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := CheckConfigs(o.Configs); err != nil {
		return nil, fmt.Errorf("default topic configs: %w", err)
	}
	o.WAL.FS, o.WAL.Dir, o.WAL.Log = o.FS, walDir, o.Log
	files := vfs.NewPool(o.FS, o.OpenFiles)
	s := &Set{opts: o, topics: map[string]*Topic{}, ids: map[ID]*Topic{}, gaps: make(chan record.Gap, maxPendingGaps), files: files, indexes: files.Derived(), writeback: vfs.NewWriteback(o.WritebackBytesPerSecond, time.Now), closing: make(chan struct{}), stop: make(chan struct{})}
	s.tuned = make(chan struct{}, 1)
	s.Tune(o.tuning())
	if err := s.load(); err != nil {
		return nil, err
	}
	s.space = newSpace(&s.opts, s.segmentBytes)
	s.opts.WAL.MayGrow = func() bool { return s.space.mayGrow(cmp.Or(o.WAL.FileBytes, wal.DefaultFileBytes)) }
	if err := s.recover(); err != nil {
		return nil, err
	}
	s.space.measure()
	s.cleaner = newCleaner(s)
	s.background.Add(6)
	go s.trashLoop()
	go s.spaceLoop()
	go s.checkpointLoop()
	go s.retentionLoop()
	go s.gapLoop()
	go s.cleaner.loop()
	return s, nil
}

// load builds the topics that the catalog names, without opening their logs. The
// names of the two folders are made durable by wal.Open, which is next.
func (s *Set) load() error {
	for _, dir := range []string{walDir, topicsDir, trashDir} {
		if err := s.opts.FS.MkdirAll(dir); err != nil {
			return fmt.Errorf("topic: make folder %s: %w", dir, err)
		}
	}
	entries, err := s.opts.Catalog.Topics()
	if err != nil {
		return err
	}
	if entries, err = s.reconcile(entries); err != nil {
		return err
	}
	for _, e := range entries {
		s.add(s.build(e))
	}
	return nil
}

// build makes the value of a topic; its partitions have no log yet.
func (s *Set) build(e Entry) *Topic {
	t := &Topic{name: e.Name, id: e.ID, internal: e.Internal, created: e.Created}
	t.settings.Store(resolve(e.Configs, s.opts.Configs, e.Internal))
	ps := s.buildPartitions(t, 0, e.Partitions)
	t.partitions.Store(&ps)
	return t
}

// buildPartitions makes the values of partitions from up to before to.
func (s *Set) buildPartitions(t *Topic, from, to int32) (ps []*Partition) {
	for i := from; i < to; i++ {
		tp := record.TopicPartition{Topic: t.name, Partition: i}
		ps = append(ps, &Partition{set: s, topic: t, tp: tp, dir: topicsDir + "/" + tp.String()})
	}
	return ps
}

func (s *Set) add(t *Topic) {
	s.topics[t.name], s.ids[t.id] = t, t
	s.count += len(t.Partitions())
	s.changes.Add(1)
}

// Topic finds a topic by name; nil if there is none.
func (s *Set) Topic(name string) *Topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.topics[name]
}

// ByID finds a topic by identity; nil if there is none.
func (s *Set) ByID(id ID) *Topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ids[id]
}

// Topics lists all topics, sorted by name.
func (s *Set) Topics() []*Topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Topic, 0, len(s.topics))
	for _, t := range s.topics {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Topic) int { return strings.Compare(a.name, b.name) })
	return out
}

// Adopted is how many topics Open found on the disk that the Catalog did not name.
func (s *Set) Adopted() int { return s.adopted }

// Changes grows whenever a topic is created, altered or deleted.
func (s *Set) Changes() uint64 { return s.changes.Load() }

// Partition finds one partition; the error is record.ErrUnknownTopicOrPartition.
func (s *Set) Partition(tp record.TopicPartition) (*Partition, error) {
	s.mu.RLock()
	t := s.topics[tp.Topic]
	s.mu.RUnlock()
	if t != nil {
		if ps := t.Partitions(); tp.Partition >= 0 && int(tp.Partition) < len(ps) {
			return ps[tp.Partition], nil
		}
	}
	return nil, fmt.Errorf("%w: %s", record.ErrUnknownTopicOrPartition, tp)
}

// Failed is closed when the storage has failed: nothing more is accepted until a
// restart. Err says why.
func (s *Set) Failed() <-chan struct{} { return s.wal.Failed() }

// Err is why the set accepts nothing more; nil while it does.
func (s *Set) Err() error { return s.wal.Err() }

// WAL is the write-ahead log's counters, live.
func (s *Set) WAL() *wal.Stats { return s.wal.Stats() }

// Close commits what is staged, checkpoints, and closes all files.
func (s *Set) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		// The committer may be waiting for a checkpoint: that loop ends last.
		s.closeErr = s.wal.Drain()
		close(s.stop)
		s.background.Wait()
		if s.closeErr == nil {
			s.closeErr = s.checkpoint()
		}
		for _, t := range s.Topics() {
			for _, p := range t.Partitions() {
				if p.log != nil {
					s.closeErr = errors.Join(s.closeErr, p.log.Close())
				}
			}
		}
		s.closeErr = errors.Join(s.closeErr, s.closeWatermarks(), s.wal.Close())
	})
	return s.closeErr
}

func (s *Set) markDirty(p *Partition) {
	s.dirtyMu.Lock()
	defer s.dirtyMu.Unlock()
	if p.dirty.Swap(true) {
		return
	}
	s.dirty = append(s.dirty, p)
}

func (p *Partition) options() commitlog.Options {
	return commitlog.Options{FS: p.set.files, IndexFS: p.set.indexes, Dir: p.dir, Writeback: p.set.writeback,
		Known: p.known, Epochs: p.epochsAt, Quarantine: quarantineDir, Damaged: p.lose}
}
