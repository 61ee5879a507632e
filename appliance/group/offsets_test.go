package group_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

func TestCommitsSurviveCloseAndCrash(t *testing.T) {
	b := newBox(t)
	b.open()
	b.want("never", tp("t", 0), -1)
	b.commit("g", tp("t", 0), 7)
	b.commit("g", tp("t", 1), 8)
	b.commit("g", tp("t", 0), 9)
	b.commit("h", tp("t", 0), 1)
	check := func(b *box) {
		t.Helper()
		b.want("g", tp("t", 0), 9)
		b.want("g", tp("t", 1), 8)
		b.want("h", tp("t", 0), 1)
		b.want("h", tp("t", 1), -1)
		if all, err := b.c.CommittedAll("g"); err != nil || len(all) != 2 || all[0].Offset != 9 || all[1].Offset != 8 {
			t.Fatal("all of g:", all)
		}
	}
	check(b)
	dead := b.crashed()
	dead.open()
	check(dead)
	dead.close()
	b.close()
	b.open()
	check(b)
	if n := b.c.Resident(); n != 0 {
		t.Errorf("%d groups in memory, though the log knows all of them", n)
	}
	b.close()
}

func TestForeignCommitsAreSeen(t *testing.T) {
	b := newBox(t)
	b.open()
	defer b.close()
	if _, err := b.set.Ensure("out", topicSpec); err != nil {
		t.Fatal(err)
	}
	b.commit("p", tp("in", 0), 5)
	foreign := func(offset int64) {
		t.Helper()
		out, _ := record.NewBatch(record.None, record.Record{Value: []byte("result")})
		pos, err := record.NewBatch(record.None, group.EncodeOffsetCommit("p", tp("in", 0), offset, "m", 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.set.AppendAtomic(context.Background(), []record.Write{{TopicPartition: tp("out", 0), Batch: out}, {TopicPartition: group.TopicPartition, Batch: pos}}); err != nil {
			t.Fatal(err)
		}
	}
	foreign(6)
	b.want("p", tp("in", 0), 6)
	b.commit("p", tp("in", 0), 4)
	b.want("p", tp("in", 0), 4) // the last in the log, not the greatest, wins
	foreign(9)
	dead := b.crashed()
	dead.open()
	dead.want("p", tp("in", 0), 9)
	dead.close()
}

// Who asks for an offset is told of what was committed by then, also if it is not in
// its segment yet and so not in the table.
func TestAnswersWaitForWhatIsCommitted(t *testing.T) {
	b := newBox(t)
	b.open()
	defer b.close()
	b.commit("p", tp("in", 0), 5)
	writing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.fs.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Write && strings.HasSuffix(op.Name, ".log") {
			once.Do(func() {
				close(writing)
				<-goOn
			})
		}
		return nil
	}, nil)
	pos, err := record.NewBatch(record.None, group.EncodeOffsetCommit("p", tp("in", 0), 6, "m", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.set.AppendAtomic(context.Background(), []record.Write{{TopicPartition: group.TopicPartition, Batch: pos}}); err != nil {
		t.Fatal(err)
	}
	<-writing
	answer := make(chan int64, 1)
	go func() {
		o, _, err := b.c.Committed("p", tp("in", 0))
		if err != nil {
			t.Error(err)
		}
		answer <- o.Offset
	}()
	select {
	case offset := <-answer:
		close(goOn)
		if offset != 6 {
			t.Errorf("6 was committed, and who asks is told %d", offset)
		}
	case <-time.After(100 * time.Millisecond): // an answer that does not wait is there by then
		close(goOn)
		if offset := <-answer; offset != 6 {
			t.Errorf("6 was committed, and who asks is told %d", offset)
		}
	}
}

// racing appends foreign records just when a snapshot's first batch is appended:
// after the snapshot was taken, before it is in the log.
type racing struct {
	group.Log
	foreign func() []record.Record
}

func (r *racing) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	rs, _ := b.Records()
	if _, copied := rs[0].Header(group.CopiedFromHeader); copied && r.foreign != nil {
		for _, f := range r.foreign() {
			fb, _ := record.NewBatch(record.None, f)
			r.Log.AppendAsync(tp, fb, discard{})
		}
		r.foreign = nil
	}
	r.Log.AppendAsync(tp, b, done)
}

type discard struct{}

func (discard) Complete(int64, error) {}

func TestSnapshotYieldsToWhatRacedIt(t *testing.T) {
	b := newBox(t)
	b.opts.SnapshotBytes = 2000
	tombstone := group.EncodeOffsetCommit("g", tp("deleted", 0), 0, "", 1)
	tombstone.Value = nil
	b.wrap = func(l group.Log) group.Log {
		return &racing{l, func() []record.Record {
			return []record.Record{group.EncodeOffsetCommit("g", tp("newer", 0), 100, "", 1), tombstone}
		}}
	}
	b.open()
	b.commit("g", tp("deleted", 0), 50)
	b.commit("g", tp("newer", 0), 50)
	for i := int64(0); b.c.Snapshots() == 0; i++ {
		b.commit("g", tp("busy", 0), i)
	}
	b.commit("g", tp("busy", 0), 1000)
	check := func(b *box) {
		t.Helper()
		b.want("g", tp("newer", 0), 100)
		b.want("g", tp("deleted", 0), -1)
		b.want("g", tp("busy", 0), 1000)
	}
	check(b)
	p, _ := b.set.Partition(group.TopicPartition)
	if p.LogStartOffset() == 0 {
		t.Fatal("the log was not cut")
	}
	if n := b.c.Tombstones(); n != 0 {
		t.Errorf("%d tombstones are remembered after they have done their work", n)
	}
	dead := b.crashed()
	dead.open()
	check(dead)
	if n := dead.c.Tombstones(); n != 0 {
		t.Errorf("%d tombstones are remembered after the log is read", n)
	}
	dead.close()
	// A second snapshot cuts off the first, tombstone and all.
	for n := b.c.Snapshots(); b.c.Snapshots() == n; {
		b.commit("g", tp("busy", 0), 1000)
	}
	b.commit("g", tp("busy", 0), 1000)
	check(b)
	b.close()
	b.open()
	check(b)
	b.close()
}

// TestCutAnywhere clones the disk after every operation on it, while two writers
// commit and delete and snapshots come often, and reopens each clone: a key is
// as some operation on it left it, none older than the last that was answered.
func TestCutAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	b := newBox(t)
	b.opts.SnapshotBytes = 4000
	b.open()

	const keys, steps = 5, 60
	var mu sync.Mutex
	var history [2][keys][]int64 // what each operation made of a key, -1 is deleted
	var acked [2][keys]int       // operations answered
	type cut struct {
		box      *box
		from, to [2][keys]int
	}
	var cuts []cut
	pick := rand.New(rand.NewPCG(seed, 9))
	b.fs.OnOp(nil, func(op crashfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if !op.Changes() || pick.IntN(4) != 0 || len(cuts) > 250 {
			return
		}
		c := cut{box: b.crashed(), from: acked}
		for w := range history {
			for k := range keys {
				c.to[w][k] = len(history[w][k])
			}
		}
		cuts = append(cuts, c)
	})
	key := func(k int) record.TopicPartition { return tp(fmt.Sprint("topic-", k), 0) }
	name := [2]string{"own", "foreign"}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range int64(steps) {
				k, gone := r.IntN(keys), r.IntN(5) == 0
				value := i
				if gone {
					value = -1
				}
				mu.Lock()
				history[w][k] = append(history[w][k], value)
				n := len(history[w][k])
				mu.Unlock()
				var err error
				switch {
				case w == 1:
					rec := group.EncodeOffsetCommit(name[w], key(k), i, strings.Repeat("m", 50), 1)
					if gone {
						rec.Value = nil
					}
					fb, _ := record.NewBatch(record.None, rec)
					_, err = b.set.Append(context.Background(), group.TopicPartition, fb)
				case gone:
					_, err = b.c.DeleteOffsets(name[w], []record.TopicPartition{key(k)})
					if errors.Is(err, group.ErrGroupIDNotFound) {
						err = nil
					}
				default:
					_, err = b.c.Commit(name[w], group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: key(k), Offset: i, Metadata: strings.Repeat("m", 50)}}})
				}
				if err != nil {
					t.Errorf("%s %d: %v", name[w], i, err)
					return
				}
				mu.Lock()
				acked[w][k] = n
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	if b.c.Snapshots() < 2 {
		t.Errorf("%d snapshots, want some", b.c.Snapshots())
	}
	b.close()
	t.Log(len(cuts), "cuts,", b.c.Snapshots(), "snapshots")
	for i, c := range cuts {
		c.box.open()
		for w := range name {
			for k := range keys {
				got := int64(-1)
				if o, ok, err := c.box.c.Committed(name[w], key(k)); err != nil {
					t.Fatal(err)
				} else if ok {
					got = o.Offset
				}
				ok := c.from[w][k] == 0 && got == -1
				for n := max(c.from[w][k], 1); n <= c.to[w][k]; n++ {
					ok = ok || history[w][k][n-1] == got
				}
				if !ok {
					t.Fatalf("cut %d: %s %s is %d, want one of %v from the %dth", i, name[w], key(k), got, history[w][k][:c.to[w][k]], c.from[w][k])
				}
			}
		}
		c.box.close()
	}
}

const segment = "topics/__consumer_offsets-0/00000000000000000000.log"

// damage flips bytes of the offsets topic's only segment.
func (b *box) damage(at func(raw []byte) int) {
	b.t.Helper()
	f, err := b.fs.Open(segment)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	size, _ := f.Size()
	raw := make([]byte, size)
	f.ReadAt(raw, 0)
	i := at(raw)
	f.WriteAt([]byte{^raw[i], ^raw[i+1]}, int64(i))
}

func TestCorruptBatchIsPassedOver(t *testing.T) {
	b := newBox(t)
	b.open()
	for i := range int64(10) {
		b.commit("g", tp(fmt.Sprint("topic", i), 0), i)
	}
	b.close()
	b.damage(func(raw []byte) int { return bytes.Index(raw, []byte("topic4")) })
	b.open()
	defer b.close()
	for i := range int64(10) {
		want := i
		if i == 4 {
			want = -1
		}
		b.want("g", tp(fmt.Sprint("topic", i), 0), want)
	}
	b.commit("g", tp("topic4", 0), 11)
	b.want("g", tp("topic4", 0), 11)
}

// A commit that the disk has not kept is gone, the one before it counts; with nothing
// behind it up to the end of the log that must not be waited for.
func TestLostCommitIsTold(t *testing.T) {
	b := newBox(t)
	b.open()
	b.commit("g", tp("t", 0), 5)
	b.commit("g", tp("t", 0), 6)
	b.close()
	b.damage(func(raw []byte) int { return int(binary.BigEndian.Uint32(raw[8:])) + record.PrefixLen }) // the second batch's offset
	b.open()
	b.want("g", tp("t", 0), 5)
	if st := b.c.Status(); st.LostRecords != 1 || st.Error != "" {
		t.Errorf("%d records lost, error %q; want 1 and none", st.LostRecords, st.Error)
	}
	b.commit("g", tp("t", 0), 7)
	b.close()
	b.open()
	defer b.close()
	b.want("g", tp("t", 0), 7)
}

// unreadable is a log whose disk fails.
type unreadable struct{ group.Log }

func (unreadable) Fetch(context.Context, record.TopicPartition, int64, int) (record.Batches, error) {
	return nil, record.ErrStorage
}

// A log that cannot be read must not look like one without offsets: consumers
// would begin at the start.
func TestUnreadableLogRefusesAll(t *testing.T) {
	b := newBox(t)
	b.open()
	b.commit("g", tp("t", 0), 5)
	b.commit("g", tp("t", 0), 6)
	b.close()
	b.wrap = func(l group.Log) group.Log { return unreadable{l} }
	b.open()
	defer b.close()
	_, _, err := b.c.Committed("g", tp("t", 0))
	_, err2 := b.c.Commit("g", group.Commit{Generation: -1})
	_, err3 := b.c.Join(context.Background(), "g", join("c"))
	for _, err := range []error{err, err2, err3, b.c.Delete("g"), b.c.ForgetTopic("t")} {
		if !errors.Is(err, group.ErrCoordinatorNotAvailable) {
			t.Errorf("%v, want %v", err, group.ErrCoordinatorNotAvailable)
		}
	}
	if b.c.Status().Error == "" {
		t.Error("the status says nothing")
	}
}

func TestCommitLimits(t *testing.T) {
	b := newBox(t)
	b.opts.Limits = group.Limits{MaxOffsets: 3, MaxOffsetMetadataBytes: 4, MaxIDBytes: 3}
	b.open()
	defer b.close()
	try := func(id string, tp record.TopicPartition, metadata string) error {
		each, err := b.c.Commit(id, group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: tp, Metadata: metadata}}})
		if err == nil && each != nil {
			err = each[0]
		}
		return err
	}
	for i, step := range []struct {
		id       string
		tp       record.TopicPartition
		metadata string
		want     error
	}{
		{"", tp("t", 0), "", group.ErrInvalidGroupID},
		{"long", tp("t", 0), "", group.ErrInvalidGroupID},
		{"a", tp("t", 0), "12345", group.ErrOffsetMetadataTooLarge},
		{"a", tp("t", 0), "1234", nil},
		{"b", tp("t", 0), "", nil},
		{"a", tp("t", 1), "", nil},
		{"a", tp("t", 2), "", group.ErrGroupMaxSizeReached},
		{"c", tp("t", 0), "", group.ErrGroupMaxSizeReached},
		{"a", tp("t", 1), "", nil},
	} {
		if err := try(step.id, step.tp, step.metadata); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v, want %v", i, err, step.want)
		}
	}
	if err := b.c.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if err := try("c", tp("t", 0), ""); err != nil {
		t.Error("after a deletion there is room, but:", err)
	}
}

// slow keeps the first append back until it is released.
type slow struct {
	group.Log
	held func()
}

func (s *slow) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if s.held == nil {
		b = bytes.Clone(b)
		s.held = func() { s.Log.AppendAsync(tp, b, done) }
		return
	}
	s.Log.AppendAsync(tp, b, done)
}

// A commit that was accepted before a deletion is deleted too, however late its
// record comes to the log.
func TestDeleteWaitsForCommits(t *testing.T) {
	for _, what := range []string{"group", "offset"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			var log *slow
			b.wrap = func(l group.Log) group.Log { log = &slow{Log: l}; return log }
			c := b.open()
			go c.Commit("g", group.Commit{Generation: -1, Offsets: []group.CommitOffset{{TopicPartition: tp("t", 0), Offset: 5}}})
			synctest.Wait()
			done := make(chan error)
			go func() {
				if what == "group" {
					// The group is known to the coordinator alone as yet.
					done <- c.Delete("g")
					return
				}
				_, err := c.DeleteOffsets("g", []record.TopicPartition{tp("t", 0)})
				done <- err
			}()
			synctest.Wait()
			log.held()
			if err := <-done; err != nil {
				t.Error(what, err)
			}
			synctest.Wait()
			b.want("g", tp("t", 0), -1)
			b.close()
		})
	}
}

func TestDeletes(t *testing.T) {
	b := newBox(t)
	b.open()
	b.commit("g", tp("t", 0), 1)
	b.commit("g", tp("t", 1), 2)
	b.commit("h", tp("t", 0), 3)
	b.commit("h", tp("u", 0), 4)
	if err := b.c.Delete("nobody"); !errors.Is(err, group.ErrGroupIDNotFound) {
		t.Error(err)
	}
	if _, err := b.c.DeleteOffsets("nobody", nil); !errors.Is(err, group.ErrGroupIDNotFound) {
		t.Error(err)
	}
	if each, err := b.c.DeleteOffsets("g", []record.TopicPartition{tp("t", 1), tp("never", 0)}); each != nil || err != nil {
		t.Error(each, err)
	}
	b.want("g", tp("t", 0), 1)
	b.want("g", tp("t", 1), -1)
	if err := b.c.Delete("g"); err != nil {
		t.Error(err)
	}
	if err := b.c.ForgetTopic("t"); err != nil {
		t.Error(err)
	}
	check := func() {
		t.Helper()
		b.want("g", tp("t", 0), -1)
		b.want("h", tp("t", 0), -1)
		b.want("h", tp("u", 0), 4)
		if l, err := b.c.List(); err != nil || len(l) != 1 || l[0].Group != "h" {
			t.Error(l)
		}
	}
	check()
	b.close()
	b.open()
	check()
	b.commit("g", tp("t", 0), 9) // a new group of that name
	b.want("g", tp("t", 0), 9)
	b.close()
}
