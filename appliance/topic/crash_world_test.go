package topic_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// world is a Set on a crashing disk, a workload, and what was promised to whom.
// What it does follows from its seed, but for how the goroutines of the Set meet.
type world struct {
	t     *testing.T
	seed  uint64
	fs    *crashfs.FS
	rnd   *rand.Rand
	clock hands

	set   atomic.Pointer[topic.Set] // nil while it is being opened; hooks look at its watermarks
	epoch atomic.Int32

	// before and after see every operation, numbered over all disks that the world
	// had, and every change of the catalog, which is an operation of no file.
	before func(index int, op crashfs.Op) error
	after  func(index int, op crashfs.Op)
	ops    atomic.Int64
	quiet  atomic.Bool // no before and after any more

	// tolerant is set once an error was injected: operations may fail from then on.
	tolerant atomic.Bool

	// moving is held while the world goes to another disk: the applier of the set that it
	// leaves still works on the old one, and neither its operations nor what its readers
	// see counts for the new one.
	moving sync.RWMutex

	mu       sync.Mutex // guards what follows; an ack and a cut exclude one another
	catalog  map[string]topic.Entry
	logs     map[logKey]*promises
	sent     []placed // every value, by its number
	groups   [][]placed
	forms    map[topic.ID][]form
	owed     map[topic.ID]string // topics whose Create was acknowledged, and no Delete asked for
	dead     map[topic.ID]grave  // topics whose Delete was acknowledged
	sequence int32

	transactions []*transaction
	unsure       []string // what the idempotent producer sent and had no answer to
}

type logKey struct {
	id        topic.ID
	partition int32
}

// promises is what one partition owes. Slices only grow, so a copy of it is a
// snapshot.
type promises struct {
	acked           []acked
	attempted       int64 // records that somebody tried to append
	start, startMax int64 // the log start: acknowledged, and asked for
	seen            int64 // the greatest high watermark that a reader may have seen
	last            record.Batch
	lastBase        int64        // of last, the newest acknowledged batch of the idempotent producer
	unsure          record.Batch // what it sent and has no answer to
	unsureValues    []string
}

type acked struct {
	offset int64
	value  string
}

type placed struct {
	log   logKey
	value string
}

// catalogKind is the operation that a change of the catalog counts as.
const catalogKind crashfs.Kind = "catalog"

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), clock: hands{now: time.UnixMilli(1_700_000_000_000)},
		catalog: map[string]topic.Entry{}, logs: map[logKey]*promises{}, forms: map[topic.ID][]form{},
		owed: map[topic.ID]string{}, dead: map[topic.ID]grave{}}
	w.use(crashfs.New())
	return w
}

// use has the world go on with another disk.
func (w *world) use(disk *crashfs.FS) {
	w.mu.Lock()
	w.fs = disk
	w.mu.Unlock()
	var index sync.Map // of the operations under way, by their number on this disk
	disk.OnOp(func(op crashfs.Op) error {
		n := int(w.ops.Add(1)) - 1
		index.Store(op.Index, n)
		if w.before == nil || w.quiet.Load() {
			return nil
		}
		return w.before(n, op)
	}, func(op crashfs.Op) {
		n, _ := index.LoadAndDelete(op.Index)
		w.moving.RLock()
		defer w.moving.RUnlock()
		if w.after != nil && !w.quiet.Load() && w.fs == disk {
			w.after(n.(int), op)
		}
	})
}

func (w *world) Topics() ([]topic.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.catalog)), nil
}

func (w *world) PutTopic(e topic.Entry) error {
	return w.catalogOp("put "+e.Name, func() { w.catalog[e.Name] = e })
}

func (w *world) DeleteTopic(name string) error {
	return w.catalogOp("delete "+name, func() { delete(w.catalog, name) })
}

// catalogOp changes the catalog. It is durable and whole on return, and the power
// may go before and after it, as with the operations of the disk.
func (w *world) catalogOp(name string, change func()) error {
	op := crashfs.Op{Kind: catalogKind, Name: name}
	n := int(w.ops.Add(1)) - 1
	if w.before != nil {
		if err := w.before(n, op); err != nil {
			return err
		}
	}
	w.mu.Lock()
	change()
	w.mu.Unlock()
	if w.after != nil {
		w.after(n, op)
	}
	return nil
}

func openOn(disk *crashfs.FS, c topic.Catalog, epoch int32, now func() time.Time) (*topic.Set, error) {
	return openWithin(disk, c, epoch, now, 0)
}

// crowded has every second life of a disk take all rounds for crowded: their batches
// are late for their segments.
func crowded(epoch int32) int { return int(epoch&1)*2 - 1 }

// openWithin opens a set that lets go of records when it has more bytes; 0: no limit.
func openWithin(disk *crashfs.FS, c topic.Catalog, epoch int32, now func() time.Time, budget int64) (*topic.Set, error) {
	return topic.Open(topic.Options{FS: disk, Catalog: c, LeaderEpoch: epoch, OpenFiles: 3, Now: now, BudgetBytes: budget,
		WAL:                wal.Options{FileBytes: 64 << 10, MaxFiles: 3, CrowdedRuns: crowded(epoch)},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour,
		Cleaner: topic.CleanerOptions{Disabled: true, MapBytes: 1 << 10}})
}

func (w *world) open() { w.openWithin(0) }

func (w *world) openWithin(budget int64) {
	w.set.Store(nil)
	s, err := openWithin(w.fs, w, w.epoch.Add(1), w.clock.Now, budget)
	if !w.ok("open", err) {
		panic(stopped{})
	}
	w.set.Store(s)
}

// ok reports success; a failure that was not injected ends the workload.
func (w *world) ok(what string, err error) bool {
	if err != nil && !w.tolerant.Load() {
		w.t.Errorf("seed %d: %s: %v", w.seed, what, err)
		panic(stopped{})
	}
	return err == nil
}

type stopped struct{}

// stop ends a goroutine of the workload that has given up.
func (w *world) stop() {
	if p := recover(); p != nil && p != (stopped{}) {
		panic(p)
	}
}

// log is the promises of a partition; nil if its topic is not there. The caller
// holds mu.
func (w *world) log(name string, partition int32) (logKey, *promises) {
	t := w.set.Load().Topic(name)
	if t == nil || int(partition) >= len(t.Partitions()) {
		return logKey{}, nil
	}
	k := logKey{t.ID(), partition}
	if w.logs[k] == nil {
		w.logs[k] = &promises{lastBase: -1}
	}
	return k, w.logs[k]
}

// unique makes n values that no other record has. The caller holds mu.
func (w *world) unique(k logKey, n, size int) (out []string) {
	for range n {
		v := fmt.Sprintf("%d %s", len(w.sent), strings.Repeat("x", w.rnd.IntN(size)))
		w.sent = append(w.sent, placed{k, v})
		out = append(out, v)
	}
	w.logs[k].attempted += int64(n)
	return out
}

// ack notes the promise the moment it is made.
type ack struct {
	w      *world
	log    *promises
	values []string
	batch  record.Batch // of the idempotent producer
	done   chan error
}

func (a *ack) Complete(base int64, err error) {
	if err == nil {
		a.w.mu.Lock()
		for i, v := range a.values {
			a.log.acked = append(a.log.acked, acked{base + int64(i), v})
		}
		if a.batch != nil {
			a.log.last, a.log.lastBase, a.log.unsure = a.batch, base, nil
		}
		a.w.mu.Unlock()
	}
	a.done <- err
}

func (w *world) acks() (n int) {
	for _, p := range w.logs {
		n += len(p.acked)
	}
	return n
}

// snapshot is what was promised when the power went.
type snapshot struct {
	catalog map[string]topic.Entry
	logs    map[logKey]promises
	sent    []placed
	groups  [][]placed
	forms   map[topic.ID][]form
	owed    map[topic.ID]string
	dead    map[topic.ID]grave

	transactions []transaction
}

// lose is the snapshot, about once in three, of a box that has lost its catalog as
// well: the folders must tell.
func (s snapshot) lose(rnd *rand.Rand) snapshot {
	if rnd.IntN(3) == 0 {
		s.catalog = map[string]topic.Entry{}
	}
	return s
}

func (s snapshot) Topics() ([]topic.Entry, error) { return slices.Collect(maps.Values(s.catalog)), nil }

// A recovery may find a topic that was being made, and say so to the catalog.
func (s snapshot) PutTopic(e topic.Entry) error {
	s.catalog[e.Name] = e
	return nil
}

func (s snapshot) DeleteTopic(name string) error {
	delete(s.catalog, name)
	return nil
}

// cut takes a copy of the disk and of the promises in one moment.
func (w *world) cut(clone func(*crashfs.FS) *crashfs.FS) (*crashfs.FS, snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if set := w.set.Load(); set != nil {
		w.watermarks(set)
	}
	s := snapshot{maps.Clone(w.catalog), make(map[logKey]promises, len(w.logs)), w.sent, w.groups, maps.Clone(w.forms), maps.Clone(w.owed), maps.Clone(w.dead), make([]transaction, len(w.transactions))}
	for i, x := range w.transactions {
		s.transactions[i] = *x
	}
	for k, p := range w.logs {
		s.logs[k] = *p
	}
	return clone(w.fs), s
}

// watermarks notes how far readers could read by now: none of it may vanish.
func (w *world) watermarks(set *topic.Set) {
	for _, t := range set.Topics() {
		for i, p := range t.Partitions() {
			if log := w.logs[logKey{t.ID(), int32(i)}]; log != nil {
				log.seen = max(log.seen, p.HighWatermark())
			}
		}
	}
}
