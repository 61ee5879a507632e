package appliance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// topicList is a catalog that is durable at once.
type topicList struct {
	mu      sync.Mutex
	entries map[string]topic.Entry
}

func (c *topicList) Topics() ([]topic.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.entries)), nil
}

func (c *topicList) PutTopic(e topic.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Name] = e
	return nil
}

func (c *topicList) DeleteTopic(string) error { return errors.New("nothing is deleted here") }

func (c *topicList) clone() *topicList {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &topicList{entries: maps.Clone(c.entries)}
}

// coordinated is the log with its coordinators, on one disk.
type coordinated struct {
	set    *topic.Set
	txns   *txn.Coordinator
	groups *group.Coordinator
}

func openCoordinated(disk *crashfs.FS, c topic.Catalog, epoch int32) (_ *coordinated, err error) {
	b := &coordinated{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.set, err = topic.Open(topic.Options{FS: disk, Catalog: c, LeaderEpoch: epoch, WAL: wal.Options{FileBytes: 64 << 10, MaxFiles: 3},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour}); err != nil {
		return b, err
	}
	state, err := txn.EnsureTopic(b.set)
	if err != nil {
		return b, err
	}
	ids := int64(epoch) * 1000
	if b.txns, err = txn.Open(txn.Options{Topics: b.set, Partition: state, Epoch: epoch, CheckInterval: time.Hour,
		NextProducerID: func() (int64, error) { ids++; return ids, nil }}); err != nil {
		return b, err
	}
	offsets, err := group.EnsureTopic(b.set)
	if err != nil {
		return b, err
	}
	b.groups, err = group.Open(group.Options{Log: topic.ReadUncommitted{Set: b.set}, Partition: offsets, SnapshotBytes: 2000})
	return b, err
}

func (b *coordinated) close() error {
	var err error
	if b.groups != nil {
		err = b.groups.Close()
	}
	if b.txns != nil {
		err = errors.Join(err, b.txns.Close())
	}
	if b.set != nil {
		err = errors.Join(err, b.set.Close())
	}
	return err
}

// promise is one transaction as its producer knows it. Its number is the value of its
// records and the offset that it commits.
type promise struct {
	wrote         map[string]int // records acknowledged, by topic
	offset        bool           // it has committed one
	asked, commit bool
	acked         bool
}

// producing is a producer's session and what it was promised.
type producing struct {
	t    *testing.T
	rnd  *rand.Rand
	b    *coordinated
	at   txn.Producer
	next map[string]int32 // sequences

	mu       sync.Mutex
	promises []promise
}

var copyTopics = []string{"a", "b", "c"}

const consumers = "consumers"

func (p *producing) init() {
	at, err := p.b.txns.Init("id", txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}, time.Minute)
	if err != nil {
		p.t.Fatal(err)
	}
	p.at, p.next = at, map[string]int32{}
}

type outcome struct {
	done chan struct{}
	err  error
}

func (o *outcome) Complete(_ int64, err error) {
	o.err = err
	close(o.done)
}

// append writes one record of the transaction.
func (p *producing) append(n int, name string, bump bool) {
	part, err := p.b.set.Partition(record.TopicPartition{Topic: name})
	if err == nil && !bump {
		err = p.b.txns.Add("id", p.at, []record.TopicPartition{part.TopicPartition()})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := record.NewBatch(record.None, record.Record{Value: fmt.Append(nil, n)})
	if err != nil {
		p.t.Fatal(err)
	}
	b.SetTransactional(p.at.ID, p.at.Epoch, p.next[name])
	p.next[name]++
	o := &outcome{done: make(chan struct{})}
	if err = p.b.txns.Append("id", bump, part, b, o); err == nil {
		<-o.done
		err = o.err
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.promises[n].wrote[name]++
	p.mu.Unlock()
}

// commitOffset commits the transaction's number for the group.
func (p *producing) commitOffset(n int, bump bool) {
	offsets, err := p.b.set.Partition(group.TopicPartition)
	if err == nil && !bump {
		err = p.b.txns.Add("id", p.at, []record.TopicPartition{group.TopicPartition})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	c := group.TransactionalCommit{ProducerID: p.at.ID, ProducerEpoch: p.at.Epoch, Append: func(b record.Batch, done record.Completion) {
		if err := p.b.txns.Append("id", bump, offsets, b, done); err != nil {
			done.Complete(-1, err)
		}
	}}
	c.Generation, c.Offsets = -1, []group.CommitOffset{{TopicPartition: record.TopicPartition{Topic: "a"}, Offset: int64(n)}}
	if each, err := p.b.groups.CommitInTransaction(consumers, c); err != nil || each != nil {
		p.t.Fatal(each, err)
	}
	p.mu.Lock()
	p.promises[n].offset = true
	p.mu.Unlock()
}

// transaction is one of the workload.
func (p *producing) transaction(n int) {
	bump := p.rnd.IntN(2) == 0
	for range 1 + p.rnd.IntN(4) {
		p.append(n, copyTopics[p.rnd.IntN(len(copyTopics))], bump)
	}
	if p.rnd.IntN(2) == 0 {
		p.commitOffset(n, bump)
	}
	end := p.rnd.IntN(8)
	p.mu.Lock()
	x := &p.promises[n]
	x.asked, x.commit = true, end > 2
	p.mu.Unlock()
	if end == 0 {
		p.init() // a new instance, which aborts what the old one had open
	} else if at, err := p.b.txns.End("id", p.at, x.commit, bump); err != nil {
		p.t.Fatal(err)
	} else if at != p.at {
		p.at, p.next = at, map[string]int32{}
	}
	p.mu.Lock()
	x.acked = true
	p.mu.Unlock()
}

func (p *producing) snapshot() []promise {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.promises)
	for i := range out {
		out[i].wrote = maps.Clone(out[i].wrote)
	}
	return out
}

// promised is what holds of a disk that was copied between two looks: what was promised
// before, and what had been asked for by then, for the producer goes on meanwhile.
func promised(before, after []promise) []promise {
	for i := range after {
		after[i].acked = i < len(before) && before[i].acked
	}
	return after
}

// A power cut after every operation of the disk: what was committed is there, in every
// topic and with its offset; what was not is in none; and nothing is left half way.
func TestPowerCutInTransactions(t *testing.T) {
	disk, list := crashfs.New(), &topicList{entries: map[string]topic.Entry{}}
	b, err := openCoordinated(disk, list, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range copyTopics {
		if _, err := b.set.Create(name, topic.Spec{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	p := &producing{t: t, rnd: rand.New(rand.NewPCG(7, 7)), b: b}
	p.init()
	var one sync.Mutex
	cuts := 0
	disk.OnOp(nil, func(op crashfs.Op) {
		one.Lock()
		defer one.Unlock()
		if !op.Changes() || t.Failed() {
			return
		}
		cuts++
		rnd := rand.New(rand.NewPCG(1, uint64(cuts)))
		all := crashfs.Outcomes(op, rnd)
		o := all[rnd.IntN(len(all))]
		before := p.snapshot()
		left := o.Of(disk, op, rnd)
		if err := checkTransactions(left, list.clone(), promised(before, p.snapshot())); err != nil {
			t.Errorf("cut %d after %s, %s: %v", cuts, op, o, err)
		}
	})
	for n := range 60 {
		p.mu.Lock()
		p.promises = append(p.promises, promise{wrote: map[string]int{}})
		p.mu.Unlock()
		p.transaction(n)
		if n%20 == 19 {
			if err := b.set.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk.OnOp(nil, nil)
	if err := checkTransactions(disk.Killed(), list.clone(), p.snapshot()); err != nil {
		t.Errorf("in the end: %v", err)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d cuts", cuts)
	if cuts < 100 {
		t.Error("that are too few")
	}
}

// checkTransactions opens what a power cut has left.
func checkTransactions(disk *crashfs.FS, c topic.Catalog, promises []promise) (err error) {
	b, err := openCoordinated(disk, c, 9)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	d, err := b.txns.Describe("id")
	if err != nil || d.State == txn.PrepareCommit || d.State == txn.PrepareAbort {
		return fmt.Errorf("after the start the transaction is %v, %w", d.State, err)
	}
	// Whoever comes next ends what was open; then nothing is.
	if _, err := b.txns.Init("id", txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}, time.Minute); err != nil {
		return err
	}
	there := map[int]map[string]int{}
	for _, name := range copyTopics {
		if err := countCommitted(b.set, name, there); err != nil {
			return err
		}
	}
	o, ok, err := b.groups.Committed(consumers, record.TopicPartition{Topic: "a"})
	if err != nil {
		return err
	}
	at := int64(-1)
	if ok {
		at = o.Offset
	}
	if unstable, err := b.groups.Unstable(consumers, record.TopicPartition{Topic: "a"}); unstable || err != nil {
		return fmt.Errorf("the group's offset is unstable: %v, %w", unstable, err)
	}
	return judge(promises, there, at)
}

// judge compares what is there with what was promised.
func judge(promises []promise, there map[int]map[string]int, at int64) error {
	lastOffset := int64(-1) // of transactions that are there
	for n, x := range promises {
		is := len(there[n]) > 0
		switch {
		case is && !(x.asked && x.commit):
			return fmt.Errorf("transaction %d is there and was not to be committed: %+v", n, x)
		case !is && x.acked && x.commit:
			return fmt.Errorf("transaction %d was committed and is not there", n)
		case is && !maps.Equal(there[n], x.wrote):
			return fmt.Errorf("of transaction %d there is %v, it was %v", n, there[n], x.wrote)
		}
		if is && x.offset {
			lastOffset = int64(n)
		}
	}
	if at != lastOffset {
		return fmt.Errorf("the group is at %d, the last transaction that is there has committed %d", at, lastOffset)
	}
	return nil
}

func countCommitted(set *topic.Set, name string, there map[int]map[string]int) error {
	p, err := set.Partition(record.TopicPartition{Topic: name})
	if err != nil {
		return err
	}
	if lso, hw := p.LastStableOffset(), p.HighWatermark(); lso != hw {
		return fmt.Errorf("%s: the last stable offset is %d of %d", name, lso, hw)
	}
	for next := int64(0); next < p.HighWatermark(); {
		bs, err := set.Fetch(context.Background(), p.TopicPartition(), next, 1<<20)
		if err != nil {
			return err
		}
		for b := range bs.All() {
			rs, err := b.Records()
			if err != nil {
				return err
			}
			for _, r := range rs {
				var n int
				if _, err := fmt.Sscan(string(r.Value), &n); err != nil {
					return err
				}
				if there[n] == nil {
					there[n] = map[string]int{}
				}
				there[n][name]++
			}
			next = b.NextOffset()
		}
	}
	return nil
}
