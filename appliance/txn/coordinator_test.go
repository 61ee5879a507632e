package txn_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// catalog is durable at once.
type catalog struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *catalog) Topics() ([]topic.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.entries)), nil
}

func (c *catalog) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *catalog) DeleteTopic(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	return nil
}

// box is a coordinator on a log in memory, with a clock that the test turns.
type box struct {
	t       *testing.T
	disk    *crashfs.FS
	catalog *catalog
	epoch   int32
	ids     int64
	limits  txn.Limits
	now     time.Time
	set     *topic.Set
	c       *txn.Coordinator
}

func newBox(t *testing.T) *box {
	b := &box{t: t, disk: crashfs.New(), catalog: &catalog{entries: map[string]topic.Entry{}}, now: time.UnixMilli(1_800_000_000_000)}
	b.open()
	t.Cleanup(func() { b.close() })
	return b
}

func (b *box) open() {
	b.t.Helper()
	b.epoch++
	var err error
	if b.set, err = topic.Open(topic.Options{FS: b.disk, Catalog: b.catalog, LeaderEpoch: b.epoch, WAL: wal.Options{FileBytes: 64 << 10},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour}); err != nil {
		b.t.Fatal(err)
	}
	state, err := txn.EnsureTopic(b.set)
	if err != nil {
		b.t.Fatal(err)
	}
	start := b.now
	if b.c, err = txn.Open(txn.Options{Topics: b.set, Partition: state, Epoch: b.epoch, Limits: b.limits, CheckInterval: time.Hour, Expiration: 24 * time.Hour,
		Clock:          func() (time.Time, time.Duration) { return b.now, b.now.Sub(start) },
		NextProducerID: func() (int64, error) { b.ids++; return b.ids, nil }}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) close() {
	if err := errors.Join(b.c.Close(), b.set.Close()); err != nil {
		b.t.Error(err)
	}
}

// kill goes on with what a kill leaves.
func (b *box) kill() {
	left := b.disk.Killed()
	b.close()
	b.disk = left
	b.open()
}

func (b *box) init(id string) txn.Producer {
	b.t.Helper()
	p, err := b.c.Init(id, txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}, time.Minute)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

type completion chan error

func (c completion) Complete(_ int64, err error) { c <- err }

func (b *box) partition(name string) *topic.Partition {
	b.t.Helper()
	if _, err := b.set.Ensure(name, topic.Spec{Partitions: 1}); err != nil {
		b.t.Fatal(err)
	}
	p, err := b.set.Partition(record.TopicPartition{Topic: name})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// send writes a record of the transaction, to which the partition is added.
func (b *box) send(id string, from txn.Producer, name string, sequence int32) {
	b.t.Helper()
	batch, err := record.NewBatch(record.None, record.Record{Value: []byte("x")})
	if err != nil {
		b.t.Fatal(err)
	}
	batch.SetTransactional(from.ID, from.Epoch, sequence)
	done := make(completion, 1)
	if err = b.c.Append(id, true, b.partition(name), batch, done); err == nil {
		err = <-done
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) wantStable(name string, want int64) {
	b.t.Helper()
	if p := b.partition(name); p.LastStableOffset() != want {
		b.t.Errorf("%s: last stable offset %d of %d, want %d", name, p.LastStableOffset(), p.HighWatermark(), want)
	}
}

// An id that is not used is forgotten, for good; one that is in a transaction is not.
func TestTransactionalIDsExpire(t *testing.T) {
	b := newBox(t)
	idle := b.init("idle")
	busy := b.init("busy")
	b.send("busy", busy, "t", 0)
	b.now = b.now.Add(25 * time.Hour)
	b.c.Expire()
	for range 2 {
		if _, err := b.c.Describe("idle"); !errors.Is(err, txn.ErrTransactionalIDNotFound) {
			t.Errorf("the idle id: %v", err)
		}
		if d, err := b.c.Describe("busy"); err != nil || d.Producer != busy {
			t.Errorf("the busy id: %+v, %v", d, err)
		}
		b.kill()
	}
	if _, err := b.c.End("idle", idle, true, false); !errors.Is(err, txn.ErrInvalidProducerIDMapping) {
		t.Errorf("end of a transaction of an id that has expired: %v", err)
	}
	if p := b.init("idle"); p.ID == idle.ID || p.Epoch != 0 {
		t.Errorf("an id that has expired gets %+v again, it was %+v", p, idle)
	}
}

func TestTransactionalIDsAreBounded(t *testing.T) {
	b := newBox(t)
	b.close()
	b.limits = txn.Limits{MaxTransactionalIDs: 2, MaxIDBytes: 10}
	b.open()
	one := b.init("one")
	b.init("two")
	none := txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}
	if _, err := b.c.Init("three", none, time.Minute); !errors.Is(err, txn.ErrLimit) {
		t.Errorf("a third id: %v", err)
	}
	for _, id := range []string{"", strings.Repeat("x", 11)} {
		if _, err := b.c.Init(id, none, time.Minute); !errors.Is(err, txn.ErrInvalidRequest) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if p := b.init("one"); p.ID != one.ID || p.Epoch != 1 {
		t.Errorf("a known id gets %+v, it was %+v", p, one)
	}
	// A refused request leaves nothing behind.
	b.close()
	b.limits.MaxTransactionalIDs = 3
	b.open()
	if _, err := b.c.Init("three", none, time.Hour); !errors.Is(err, txn.ErrInvalidTransactionTimeout) {
		t.Errorf("a timeout of an hour: %v", err)
	}
	b.init("four")
}

// A transaction ends although a topic of it was deleted, or made anew.
func TestTopicsOfATransactionAreDeleted(t *testing.T) {
	b := newBox(t)
	p := b.init("id")
	for _, name := range []string{"kept", "gone", "anew"} {
		b.send("id", p, name, 0)
	}
	for _, name := range []string{"gone", "anew"} {
		if err := b.set.Delete(name); err != nil {
			t.Fatal(err)
		}
	}
	b.partition("anew")
	if _, err := b.c.End("id", p, true, false); err != nil {
		t.Fatal(err)
	}
	if d, err := b.c.Describe("id"); err != nil || d.State != txn.CompleteCommit {
		t.Errorf("%+v, %v", d, err)
	}
	b.wantStable("kept", 2)
	b.wantStable("anew", 0)
}

// A crash between the rounds of a decision and of its markers: the start completes it,
// and nobody waits for the first tick.
func TestWhatWasDecidedIsCompletedAtTheStart(t *testing.T) {
	begin := func() (b *box, p txn.Producer, decision int64) {
		b = newBox(t)
		p = b.init("id")
		b.send("id", p, "t", 0)
		return b, p, b.partition(txn.TopicName).HighWatermark()
	}
	log := record.TopicPartition{Topic: txn.TopicName}
	whole, p, decision := begin()
	if _, err := whole.c.End("id", p, true, true); err != nil {
		t.Fatal(err)
	}
	bs, err := whole.set.Fetch(context.Background(), log, decision, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, _, _ := begin()
	if _, err := b.set.Append(context.Background(), log, record.Batch(bs)); err != nil {
		t.Fatal(err)
	}
	b.kill()
	if d, err := b.c.Describe("id"); err != nil || d.State != txn.CompleteCommit {
		t.Errorf("after the start the transaction is %v, %v", d.State, err)
	}
	if err := b.set.Checkpoint(); err != nil { // the marker is on its way
		t.Fatal(err)
	}
	b.wantStable("t", 2)
}

// Whoever waits for a transaction that the coordinator does not know of would wait for
// ever: the disk has lost the coordinator's topic, and the start says so and ends it.
func TestUnknownTransactionsAreEnded(t *testing.T) {
	b := newBox(t)
	p := b.init("id")
	b.send("id", p, "t", 0)
	b.wantStable("t", 0)
	if err := b.c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.set.Delete(txn.TopicName); err != nil {
		t.Fatal(err)
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.open()
	if err := b.set.Checkpoint(); err != nil { // the marker is on its way
		t.Fatal(err)
	}
	b.wantStable("t", 2)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	bs, err := b.set.Fetch(ctx, record.TopicPartition{Topic: "t"}, 0, 1<<20)
	if err != nil || record.Batch(bs).Count() != 0 {
		t.Errorf("read %x, %v; want nothing of what was aborted", bs, err)
	}
	if _, err := b.c.End("id", p, true, true); !errors.Is(err, txn.ErrInvalidProducerIDMapping) {
		t.Errorf("its producer is told %v", err)
	}
}

// Many producers at a time, in the same partitions, each with transactions of its own.
func TestManyProducersAtATime(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"a", "b"} {
		b.partition(name)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			id := fmt.Sprint("id ", i)
			p, err := b.c.Init(id, txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}, time.Minute)
			for n := 0; n < 20 && err == nil; n++ {
				for _, name := range []string{"a", "b"} {
					batch, _ := record.NewBatch(record.None, record.Record{Value: []byte("x")})
					batch.SetTransactional(p.ID, p.Epoch, 0)
					part, _ := b.set.Partition(record.TopicPartition{Topic: name})
					done := make(completion, 1)
					if err = b.c.Append(id, true, part, batch, done); err == nil {
						err = <-done
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
				p, err = b.c.End(id, p, n%2 == 0, true)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b"} {
		b.wantStable(name, 8*20*2)
	}
	if st := b.c.Status(); st.Commits != 80 || st.Aborts != 80 || st.Ongoing != 0 || st.Waiting != 0 || st.TransactionalIDs != 8 {
		t.Errorf("%+v", st)
	}
}
