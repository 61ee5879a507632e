package topic_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

var (
	crashSeeds = flag.Uint64("crash.seeds", 1, "how many seeded workloads the crash tests run")
	crashFull  = flag.Bool("crash.full", false, "crash tests: every operation with every outcome, not a sample")
)

// world is a Set on a crashing disk, a scripted workload, and what was promised
// to whom.
type world struct {
	t     *testing.T
	fs    *crashfs.FS
	rnd   *rand.Rand
	set   *topic.Set
	epoch int32
	now   time.Time

	// tolerant is set once an error was injected: operations may fail from then on.
	tolerant bool

	mu       sync.Mutex // guards what follows; an ack and a clone exclude one another
	catalog  map[string]topic.Entry
	logs     map[logKey]*promises
	groups   [][]placed // atomic appends
	forms    map[topic.ID][]form
	sequence int32
	unsure   []string // what the idempotent producer sent and had no answer to
	values   int
}

type logKey struct {
	id        topic.ID
	partition int32
}

// promises is what one partition owes.
type promises struct {
	acked           []acked
	attempted       map[string]bool
	start, startMax int64 // the log start: acknowledged, and asked for
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

// snapshot is what was promised when the power went.
type snapshot struct {
	catalog map[string]topic.Entry
	logs    map[logKey]promises
	forms   map[topic.ID][]form
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, fs: crashfs.New(), rnd: rand.New(rand.NewPCG(seed, 0)), now: time.UnixMilli(1_700_000_000_000),
		catalog: map[string]topic.Entry{}, logs: map[logKey]*promises{}, forms: map[topic.ID][]form{}}
}

func (w *world) Topics() ([]topic.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.catalog)), nil
}

func (w *world) PutTopic(e topic.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog[e.Name] = e
	return nil
}

func (w *world) DeleteTopic(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.catalog, name)
	return nil
}

// cut takes a copy of the disk and of the promises in one moment. A negative keep
// is a mere kill, in whose recovery the power may go.
func (w *world) cut(keep int, rnd *rand.Rand) (*crashfs.FS, snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := snapshot{maps.Clone(w.catalog), map[logKey]promises{}, maps.Clone(w.forms)}
	for k, p := range w.logs {
		s.logs[k] = *p
	}
	if keep < 0 {
		return w.fs.Killed(), s
	}
	return w.fs.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd}), s
}

func openOn(disk *crashfs.FS, c topic.Catalog, epoch int32, now func() time.Time) (*topic.Set, error) {
	return topic.Open(topic.Options{FS: disk, Catalog: c, LeaderEpoch: epoch, OpenFiles: 3, Now: now,
		WAL:                wal.Options{FileBytes: 64 << 10, MaxFiles: 3},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour})
}

func (w *world) open() bool {
	w.epoch++
	s, err := openOn(w.fs, w, w.epoch, func() time.Time { return w.now })
	if !w.ok("open", err) {
		return false
	}
	w.set = s
	return true
}

// ok reports success; a failure that was not injected ends the test.
func (w *world) ok(what string, err error) bool {
	if err != nil && !w.tolerant {
		w.t.Errorf("%s: %v", what, err)
		panic(stopped{})
	}
	return err == nil
}

type stopped struct{}

// run does the scripted workload: every kind of change that a Set can make.
func (w *world) run() {
	defer w.stop()
	if !w.open() {
		return
	}
	small := map[string]string{"segment.ms": "60000", "segment.bytes": "16384", "retention.ms": "1800000"}
	w.create("a", topic.Spec{Partitions: 2, Configs: small})
	w.append("a", 0, 1)
	w.create("b", topic.Spec{Partitions: 1, Configs: small})
	for round := range 3 {
		for range 3 {
			w.append("a", 0, 3)
			w.append("a", 1, 1)
			w.idempotent("a", 0)
			w.atomic("a", "b")
		}
		w.checkpoint()
		w.now = w.now.Add(2 * time.Minute) // so that segments roll
		w.append("a", 0, 2)
		w.append("b", 0, 2)
		switch round {
		case 0:
			w.remove("b")
			w.create("b", topic.Spec{Partitions: 1, Configs: small})
			w.append("b", 0, 2)
			w.grow("b", 2)
			w.append("b", 1, 1)
		case 1:
			w.alter("a", "32768")
			w.deleteRecords("a", 0)
			if w.ok("close", w.set.Close()); !w.open() {
				return
			}
		case 2:
			w.large("a", 1) // fills files of the write-ahead log, so that they are recycled
			w.deleteRecords("a", 1)
			w.append("a", 1, 1)
			w.grow("a", 4)
			w.append("a", 3, 1)
			w.alter("b", "65536")
		}
	}
	w.now = w.now.Add(time.Hour)
	w.retain()
	w.append("a", 0, 1)
	w.append("b", 0, 1)
	w.retain() // now it can remove the segments that were active then
	w.ok("close", w.set.Close())
}

func (w *world) create(name string, spec topic.Spec) {
	_, err := w.set.Create(name, spec)
	w.ok("create "+name, err)
}

func (w *world) remove(name string) { w.ok("delete "+name, w.set.Delete(name)) }

// checkpoint runs while appends commit: what it does not cover must stay in the
// write-ahead log.
func (w *world) checkpoint() {
	var during sync.WaitGroup
	during.Go(func() {
		defer w.stop()
		for range 4 {
			w.append("a", 1, 1)
			w.idempotent("a", 0)
		}
	})
	w.ok("checkpoint", w.set.Checkpoint())
	during.Wait()
}

// stop ends a goroutine of the workload that ok has given up.
func (w *world) stop() {
	if p := recover(); p != nil && p != (stopped{}) {
		panic(p)
	}
}

// log is the promises of a partition; nil if its topic was never made.
func (w *world) log(name string, partition int32) (logKey, *promises) {
	t := w.set.Topic(name)
	if t == nil {
		return logKey{}, nil
	}
	k := logKey{t.ID(), partition}
	if w.logs[k] == nil {
		w.logs[k] = &promises{attempted: map[string]bool{}, lastBase: -1}
	}
	return k, w.logs[k]
}

// values makes n values that no other record has.
func (w *world) unique(log *promises, n, size int) []string {
	var out []string
	for range n {
		w.values++
		v := fmt.Sprintf("%d %s", w.values, strings.Repeat("x", w.rnd.IntN(size)))
		log.attempted[v] = true
		out = append(out, v)
	}
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

// append appends n batches that share a round.
func (w *world) append(name string, partition int32, n int) { w.appendSized(name, partition, n, 700) }

func (w *world) large(name string, partition int32) {
	for range 14 {
		w.appendSized(name, partition, 1, 12_000)
	}
}

func (w *world) appendSized(name string, partition int32, n, size int) {
	tp := record.TopicPartition{Topic: name, Partition: partition}
	done := make(chan error, n)
	for range n {
		w.mu.Lock()
		_, log := w.log(name, partition)
		if log == nil {
			w.mu.Unlock()
			done <- errors.New("no such topic")
			continue
		}
		values := w.unique(log, 1+w.rnd.IntN(3), size)
		w.mu.Unlock()
		w.set.AppendAsync(tp, batch(w.t, record.None, values...), &ack{w: w, log: log, values: values, done: done})
	}
	for range n {
		w.ok("append to "+tp.String(), <-done)
	}
}

const producerID = 7

// idempotent appends the idempotent producer's next batch, or sends again the one
// whose outcome it does not know, as clients do.
func (w *world) idempotent(name string, partition int32) {
	w.mu.Lock()
	_, log := w.log(name, partition)
	if log == nil {
		w.mu.Unlock()
		return
	}
	if w.unsure == nil {
		w.unsure = w.unique(log, 2, 300)
	}
	values := w.unsure
	b := batch(w.t, record.None, values...)
	b.SetProducer(producerID, 0, w.sequence)
	sent := slices.Clone(b)
	log.unsure, log.unsureValues = sent, values
	w.mu.Unlock()
	done := make(chan error, 1)
	w.set.AppendAsync(record.TopicPartition{Topic: name, Partition: partition}, b,
		&ack{w: w, log: log, values: values, batch: sent, done: done})
	if w.ok("idempotent append", <-done) {
		w.sequence += 2
		w.unsure = nil
	}
}

func (w *world) atomic(first, second string) {
	w.mu.Lock()
	k1, log1 := w.log(first, 0)
	k2, log2 := w.log(second, 0)
	if log1 == nil || log2 == nil {
		w.mu.Unlock()
		return
	}
	v1, v2 := w.unique(log1, 1, 300), w.unique(log2, 1, 300)
	w.groups = append(w.groups, []placed{{k1, v1[0]}, {k2, v2[0]}})
	w.mu.Unlock()
	w.ok("atomic append", w.set.AppendAtomic(context.Background(), []record.Write{
		{TopicPartition: record.TopicPartition{Topic: first}, Batch: batch(w.t, record.Zstd, v1...)},
		{TopicPartition: record.TopicPartition{Topic: second}, Batch: batch(w.t, record.None, v2...)},
	}))
}

func (w *world) deleteRecords(name string, partition int32) {
	p, err := w.set.Partition(record.TopicPartition{Topic: name, Partition: partition})
	if !w.ok("delete records", err) {
		return
	}
	before := p.HighWatermark() * 2 / 3
	w.mu.Lock()
	_, log := w.log(name, partition)
	log.startMax = max(log.startMax, before)
	w.mu.Unlock()
	start, err := p.DeleteRecords(before)
	if w.ok("delete records", err) {
		w.mu.Lock()
		log.start = max(log.start, start)
		w.mu.Unlock()
	}
}

func (s snapshot) Topics() ([]topic.Entry, error) { return slices.Collect(maps.Values(s.catalog)), nil }
func (s snapshot) PutTopic(topic.Entry) error     { return errors.New("not in a check") }
func (s snapshot) DeleteTopic(string) error       { return errors.New("not in a check") }

// retain runs retention when it may remove everything.
func (w *world) retain() {
	w.each(func(log *promises, p *topic.Partition) { log.startMax = max(log.startMax, p.HighWatermark()) })
	w.set.Retain()
	w.each(func(log *promises, p *topic.Partition) { log.start = max(log.start, p.LogStartOffset()) })
}

func (w *world) each(do func(log *promises, p *topic.Partition)) {
	for _, t := range w.set.Topics() {
		for _, p := range t.Partitions() {
			w.mu.Lock()
			_, log := w.log(t.Name(), p.TopicPartition().Partition)
			do(log, p)
			w.mu.Unlock()
		}
	}
}

// reopen opens what is left and checks that it owes nobody anything.
func (w *world) reopen(disk *crashfs.FS, s snapshot) (*topic.Set, error) {
	set, err := openOn(disk, s, 100, time.Now)
	if err != nil {
		return nil, err
	}
	if err := w.check(set, s); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

func (w *world) check(set *topic.Set, s snapshot) error {
	found := map[placed]bool{}
	starts := map[logKey]int64{}
	for _, t := range set.Topics() {
		if forms := s.forms[t.ID()]; forms != nil && !slices.Contains(forms, formOf(t)) {
			return fmt.Errorf("topic %s is %v, not one of %v", t.Name(), formOf(t), forms)
		}
		for _, p := range t.Partitions() {
			k := logKey{t.ID(), p.TopicPartition().Partition}
			if err := w.checkPartition(set, p, k, s.logs[k], found); err != nil {
				return fmt.Errorf("%s: %w", p.TopicPartition(), err)
			}
			starts[k] = p.LogStartOffset()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.groups {
		_, ok1 := starts[g[0].log]
		_, ok2 := starts[g[1].log]
		if ok1 && ok2 && starts[g[0].log] == 0 && starts[g[1].log] == 0 && found[g[0]] != found[g[1]] {
			return fmt.Errorf("half of an atomic append: %q is there: %v, %q is there: %v", g[0].value, found[g[0]], g[1].value, found[g[1]])
		}
	}
	return nil
}

func (w *world) checkPartition(set *topic.Set, p *topic.Partition, k logKey, owed promises, found map[placed]bool) error {
	if err := p.Err(); err != nil {
		return fmt.Errorf("is offline: %w", err)
	}
	w.mu.Lock()
	startMax, attempted := int64(0), map[string]bool{}
	if now := w.logs[k]; now != nil {
		startMax, attempted = now.startMax, maps.Clone(now.attempted)
	}
	w.mu.Unlock()
	start := p.LogStartOffset()
	if start < owed.start || start > startMax {
		return fmt.Errorf("starts at %d; %d was acknowledged, %d asked for", start, owed.start, startMax)
	}
	there, err := readAll(set, p)
	if err != nil {
		return err
	}
	for offset, value := range there {
		if !attempted[value] {
			return fmt.Errorf("offset %d holds %.20q, which nobody appended or which is there twice", offset, value)
		}
		delete(attempted, value)
		found[placed{k, value}] = true
	}
	for _, a := range owed.acked {
		if a.offset >= start && there[a.offset] != a.value {
			return fmt.Errorf("offset %d was acknowledged with %.20q, it holds %.20q", a.offset, a.value, there[a.offset])
		}
	}
	return nil
}

// readAll reads what a consumer would see, CRCs checked, and checks that offsets
// follow one another up to the high watermark.
func readAll(set *topic.Set, p *topic.Partition) (map[int64]string, error) {
	there := map[int64]string{}
	next := p.LogStartOffset()
	for next < p.HighWatermark() {
		bs, err := set.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return nil, err
		}
		for b := range bs.All() {
			records, err := b.Records()
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				if r.Offset < next {
					continue // before the log start, in the batch that holds it
				}
				if r.Offset != next {
					return nil, fmt.Errorf("offset %d follows %d", r.Offset, next-1)
				}
				there[r.Offset], next = string(r.Value), next+1
			}
		}
	}
	return there, nil
}

// goOn checks that what is left can be used: a resend is recognised, and new
// records follow the old and survive the next power cut.
func (w *world) goOn(disk *crashfs.FS, set *topic.Set, s snapshot) error {
	after := snapshot{s.catalog, maps.Clone(s.logs), s.forms}
	for _, t := range set.Topics() {
		for _, p := range t.Partitions() {
			k := logKey{t.ID(), p.TopicPartition().Partition}
			owed := s.logs[k]
			if owed.lastBase >= owed.start && owed.last != nil {
				base, err := set.Append(context.Background(), p.TopicPartition(), slices.Clone(owed.last))
				// An idempotent append in flight may be in the log; then this one is old.
				if err == nil && base != owed.lastBase {
					return fmt.Errorf("%s: a resend of offset %d got offset %d", p.TopicPartition(), owed.lastBase, base)
				}
				if err != nil && !errors.Is(err, record.ErrOutOfOrderSequence) {
					return fmt.Errorf("%s: resend: %w", p.TopicPartition(), err)
				}
			}
			if owed.unsure != nil {
				// In the log or not, after this it is there, once, where the answer says.
				base, err := set.Append(context.Background(), p.TopicPartition(), slices.Clone(owed.unsure))
				if err != nil {
					return fmt.Errorf("%s: resend of a batch in flight: %w", p.TopicPartition(), err)
				}
				for i, v := range owed.unsureValues {
					owed.acked = append(slices.Clone(owed.acked), acked{base + int64(i), v})
				}
			}
			w.mu.Lock()
			w.values++
			v := fmt.Sprint("after ", w.values)
			if w.logs[k] == nil {
				w.logs[k] = &promises{attempted: map[string]bool{}, lastBase: -1}
			}
			w.logs[k].attempted[v] = true
			w.mu.Unlock()
			hw := p.HighWatermark()
			base, err := set.Append(context.Background(), p.TopicPartition(), batch(w.t, record.None, v))
			if err != nil || base != hw {
				return fmt.Errorf("%s: append after the crash at %d: offset %d, %w", p.TopicPartition(), hw, base, err)
			}
			owed.acked = append(slices.Clone(owed.acked), acked{base, v})
			after.logs[k] = owed
		}
	}
	set2, err := w.reopen(disk.Clone(crashfs.CloneConfig{}), after)
	if err != nil {
		return fmt.Errorf("second power cut: %w", err)
	}
	return set2.Close()
}

// crash checks one power cut, with deep set also cuts in the recovery from it and
// the life after it.
func (w *world) crash(disk *crashfs.FS, s snapshot, deep bool, rnd *rand.Rand) error {
	if deep {
		var failed error
		disk.OnOp(nil, func(op crashfs.Op) {
			if failed != nil || !op.Changes() {
				return
			}
			keep := []int{0, 50, 100}[rnd.IntN(3)]
			set, err := w.reopen(disk.Clone(crashfs.CloneConfig{Keep: keep, Torn: 30, Rand: rnd}), s)
			if err == nil {
				err = set.Close()
			}
			if err != nil {
				failed = fmt.Errorf("power cut in the recovery, after %s, keep %d: %w", op, keep, err)
			}
		})
		defer disk.OnOp(nil, nil)
		set, err := w.reopen(disk, s)
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		disk.OnOp(nil, nil)
		return errors.Join(w.goOn(disk, set, s), set.Close())
	}
	set, err := w.reopen(disk, s)
	if err != nil {
		return err
	}
	return set.Close()
}

// A power cut after every operation of the workload, whatever it leaves of what
// was not synced: all that was acknowledged is there, at its offset, once.
func TestPowerCutAfterEveryOperation(t *testing.T) {
	for seed := range *crashSeeds {
		w := newWorld(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		cuts, failures := 0, 0
		var hookMu sync.Mutex
		w.fs.OnOp(nil, func(op crashfs.Op) {
			if !op.Changes() {
				return
			}
			hookMu.Lock()
			defer hookMu.Unlock()
			if failures > 3 {
				return
			}
			keeps, deep := []int{0, 25, 50, 75, 100, -1}, 4
			if !*crashFull {
				one := max(0, rnd.IntN(10)-4) // nothing kept every other time
				keeps, deep = keeps[one:one+1], 20
			}
			for _, keep := range keeps {
				disk, s := w.cut(keep, rnd)
				cuts++
				if err := w.crash(disk, s, rnd.IntN(deep) == 0, rnd); err != nil {
					failures++
					t.Errorf("seed %d, cut after %s, keep %d: %v", seed, op, keep, err)
				}
			}
		})
		w.run()
		w.fs.OnOp(nil, nil)
		if n := w.fs.OpenFiles(); n != 0 {
			t.Errorf("seed %d: %d files open after Close", seed, n)
		}
		t.Logf("seed %d: %d power cuts", seed, cuts)
	}
}

// Whatever operation fails, nothing is acknowledged that a power cut then takes,
// and after a failed sync nothing is acknowledged at all.
func TestErrorAtEveryOperation(t *testing.T) {
	for seed := range *crashSeeds {
		rnd, stride := rand.New(rand.NewPCG(seed, 2)), 30
		if *crashFull {
			stride = 1
		}
		for at := 0; ; at += 1 + rnd.IntN(stride) {
			w := newWorld(t, seed)
			var failedOp *crashfs.Op
			acksThen, epochThen := 0, int32(0)
			w.fs.OnOp(func(op crashfs.Op) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if op.Index < at || failedOp != nil || op.Kind == crashfs.Size {
					return nil
				}
				failedOp, acksThen, epochThen, w.tolerant = &op, w.acks(), w.epoch, true
				if op.Kind == crashfs.Write && rnd.IntN(2) == 0 {
					return crashfs.ShortWrite{Len: rnd.IntN(op.Len + 1), Err: syscall.ENOSPC}
				}
				return syscall.EIO
			}, nil)
			w.run()
			w.fs.OnOp(nil, nil)
			if failedOp == nil {
				break // the workload has fewer operations
			}
			if failedOp.Kind == crashfs.Sync && epochThen == w.epoch {
				w.checkStopped(failedOp, acksThen)
			}
			for _, keep := range []int{0, 50, 100, -1} {
				disk, s := w.cut(keep, rnd)
				if err := w.crash(disk, s, rnd.IntN(8) == 0, rnd); err != nil {
					t.Errorf("seed %d, %s failed, keep %d: %v", seed, failedOp, keep, err)
				}
			}
			if w.set != nil {
				w.set.Close()
			}
			if t.Failed() {
				return
			}
		}
	}
}

// checkStopped makes sure that a failed sync stopped the set. One of the
// write-ahead log must not be followed by an ack. One of a segment belongs to a
// checkpoint, beside which a round may commit: its entries are durable where they
// are, but nothing new may be accepted.
func (w *world) checkStopped(op *crashfs.Op, acksThen int) {
	w.t.Helper()
	switch acks := w.acks(); {
	case strings.HasSuffix(op.Name, ".wal") && acks != acksThen:
		w.t.Errorf("%d acks after %s failed", acks-acksThen, op)
	case (strings.HasSuffix(op.Name, ".log") || op.Name == "wal/checkpoint") && w.set != nil && w.set.Err() == nil:
		w.t.Errorf("the set accepts appends after %s failed", op)
	}
}

func (w *world) acks() (n int) {
	for _, p := range w.logs {
		n += len(p.acked)
	}
	return n
}
