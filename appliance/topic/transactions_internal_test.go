package topic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

// inTransaction appends a record of a producer's transaction and waits.
func inTransaction(t *testing.T, p *Partition, id int64, epoch int16, sequence int32) (int64, error) {
	t.Helper()
	b := sequencedBatch(t, id, epoch, sequence, 0, 1)
	b.SetTransactional(id, epoch, sequence)
	done := newOutcome()
	p.AppendTransactional(b, done)
	return done.wait(context.Background())
}

func mustInTransaction(t *testing.T, p *Partition, id int64, epoch int16, sequence int32) {
	t.Helper()
	if _, err := inTransaction(t, p, id, epoch, sequence); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, p *Partition, id int64, epoch int16, commit bool) {
	t.Helper()
	done := newOutcome()
	staged, err := p.EndTransaction(record.Marker{ProducerID: id, ProducerEpoch: epoch, Commit: commit}, done)
	if err == nil && staged {
		_, err = done.wait(context.Background())
	}
	if err != nil || !staged {
		t.Fatal("end of a transaction:", staged, err)
	}
}

// told is what the partition says of its transactions.
func told(p *Partition) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stable %d", p.LastStableOffset())
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	for _, a := range p.state.abortedIn(0, math.MaxInt64) {
		fmt.Fprintf(&b, ", %d aborted %d-%d", a.ProducerID, a.First, a.Last)
	}
	return b.String()
}

func wantTold(t *testing.T, when string, p *Partition, want string) {
	t.Helper()
	if got := told(p); got != want {
		t.Errorf("%s: %s; want %s", when, got, want)
	}
}

// What is known of transactions outlives a kill, a clean stop, a power cut after a
// checkpoint and the loss of the partition's state.
func TestTransactionsAreRemembered(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	mustInTransaction(t, p, 1, 0, 0) // 0
	mustInTransaction(t, p, 2, 0, 0) // 1
	mustInTransaction(t, p, 3, 0, 0) // 2
	end(t, p, 2, 0, false)           // 3
	end(t, p, 1, 0, true)            // 4
	mustInTransaction(t, p, 2, 0, 1) // 5
	end(t, p, 2, 0, false)           // 6
	const want = "stable 2, 2 aborted 1-3, 2 aborted 5-6"
	wantTold(t, "at once", p, want)
	_, killed := openOne(t, disk.Killed(), 2)
	wantTold(t, "after a kill", killed, want)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	_, cut := openOne(t, disk.Clone(crashfs.CloneConfig{}), 3)
	wantTold(t, "after a checkpoint and a power cut", cut, want)
	bare := disk.Clone(crashfs.CloneConfig{})
	if err := bare.Remove("topics/t-0/" + stateFile); err != nil {
		t.Fatal(err)
	}
	_, rebuilt := openOne(t, bare, 4)
	wantTold(t, "rebuilt from the log", rebuilt, want)
	end(t, rebuilt, 3, 0, true) // 7
	wantTold(t, "rebuilt, and all ended", rebuilt, "stable 8, 2 aborted 1-3, 2 aborted 5-6")
	if _, err := rebuilt.DeleteRecords(4); err != nil {
		t.Fatal(err)
	}
	if err := rebuilt.set.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	wantTold(t, "after a delete of records", rebuilt, "stable 8, 2 aborted 5-6")
}

// Nobody is shown records of a transaction before it is decided, durably: not while its
// marker is staged, and not while the batch that opens it is.
func TestStableOffsetWaitsForTheDisk(t *testing.T) {
	disk := diskOfOne(t)
	_, p := openOne(t, disk, 1)
	mustInTransaction(t, p, 1, 0, 0)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && strings.Contains(op.Name, ".wal") {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	}, nil)
	done := newOutcome()
	if staged, err := p.EndTransaction(record.Marker{ProducerID: 1, Commit: true}, done); !staged || err != nil {
		t.Fatal(staged, err)
	}
	<-syncing
	wantTold(t, "while the marker is being synced", p, "stable 0")
	disk.OnOp(nil, nil)
	close(goOn)
	if _, err := done.wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantTold(t, "once it is", p, "stable 2")
}

// A checkpoint comes while a marker with the producer's next epoch is staged. If the
// power goes then, the marker was never there, and the producer goes on with its epoch
// and its sequence.
func TestCheckpointBesideAMarker(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	mustInTransaction(t, p, 9, 0, 0)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && strings.Contains(op.Name, ".wal") {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	}, nil)
	done := newOutcome()
	if staged, err := p.EndTransaction(record.Marker{ProducerID: 9, ProducerEpoch: 1, Commit: true}, done); !staged || err != nil {
		t.Fatal(staged, err)
	}
	<-syncing
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	lost := disk.Clone(crashfs.CloneConfig{})
	disk.OnOp(nil, nil)
	close(goOn)
	if _, err := done.wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, q := openOne(t, lost, 2)
	if base, err := inTransaction(t, q, 9, 0, 0); base != 0 || err != nil {
		t.Errorf("the marker is lost, a resend got offset %d, %v; want 0", base, err)
	}
	if base, err := inTransaction(t, q, 9, 0, 1); base != 1 || err != nil {
		t.Errorf("the marker is lost, the next batch got offset %d, %v; want 1", base, err)
	}
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	_, r := openOne(t, disk.Clone(crashfs.CloneConfig{}), 3)
	if _, err := inTransaction(t, r, 9, 0, 1); !errors.Is(err, record.ErrProducerFenced) {
		t.Errorf("the marker is there, the old epoch gets %v", err)
	}
	if base, err := inTransaction(t, r, 9, 1, 0); base != 2 || err != nil {
		t.Errorf("the new epoch got offset %d, %v; want 2", base, err)
	}
}

// Of producers those that are idle are forgotten, never one with an open transaction.
func TestProducersAreForgotten(t *testing.T) {
	const maxProducers = 64
	ps := producers{}
	open := record.Batch(sequencedBatch(t, 1, 0, 0, 0, 1))
	open.SetTransactional(1, 0, 0)
	ps.note(open, maxProducers)
	for id := int64(2); id < maxProducers+100; id++ {
		ps.note(sequencedBatch(t, id, 0, 0, id, 1), maxProducers)
	}
	if len(ps) != maxProducers || ps[1] == nil || ps[2] != nil || ps[maxProducers+99] == nil {
		t.Errorf("%d producers; the one with a transaction is there: %v, the oldest idle one: %v", len(ps), ps[1] != nil, ps[2] != nil)
	}
	ps[maxProducers+50].seen = 2 * time.Hour
	if !ps.expire(2*time.Hour+time.Minute, 0, time.Hour) || len(ps) != 2 || ps[maxProducers+50] == nil || ps[1] == nil {
		t.Errorf("%d producers are left; want the one with a transaction and the one that was seen", len(ps))
	}
}

// Aborted transactions overlap in all ways; those asked for are found, sorted.
func TestAbortedTransactionsAreFound(t *testing.T) {
	_, p := openOne(t, diskOfOne(t), 1)
	var all []AbortedTransaction
	type openOne struct{ first, next int64 }
	open := map[int64]openOne{}
	for i := range int64(400) {
		id := i * 7 % 11
		if o, ok := open[id]; ok && i%3 == 0 {
			end(t, p, id, 0, i%2 == 0)
			if i%2 != 0 {
				all = append(all, AbortedTransaction{ProducerID: id, First: o.first, Last: p.HighWatermark() - 1})
			}
			open[id] = openOne{-1, o.next}
			continue
		} else if !ok || o.first < 0 {
			open[id] = openOne{p.HighWatermark(), o.next}
		}
		o := open[id]
		mustInTransaction(t, p, id, 0, int32(o.next))
		open[id] = openOne{o.first, o.next + 1}
	}
	if len(all) < 20 {
		t.Fatal("only", len(all), "transactions were aborted")
	}
	for from := int64(0); from < p.HighWatermark(); from += 3 {
		for to := from; to < p.HighWatermark()+5; to += 7 {
			want := slices.DeleteFunc(slices.Clone(all), func(a AbortedTransaction) bool { return a.Last < from || a.First >= to })
			slices.SortFunc(want, func(a, b AbortedTransaction) int { return int(a.First - b.First) })
			got := p.state.abortedIn(from, to)
			for i := range got {
				got[i].stable = 0
			}
			if !slices.Equal(got, want) {
				t.Fatalf("aborted from %d to %d: %+v, want %+v", from, to, got, want)
			}
		}
	}
}

// compactedTopic is a catalog that has one compacted topic, t, with one partition.
type compactedTopic struct{ noTopics }

func (compactedTopic) Topics() ([]Entry, error) {
	return []Entry{{Name: "t", ID: ID{1}, Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "0"}}}, nil
}

// What is not decided is not compacted: were it taken for committed, it would supersede
// what stays when it is aborted. And what was aborted is forgotten, with its marker.
func TestUndecidedTransactionsAreNotCompacted(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	s, err := Open(Options{FS: diskOfOne(t), Catalog: compactedTopic{}, LeaderEpoch: 1, CheckpointInterval: time.Hour, RetentionInterval: time.Hour,
		Now: func() time.Time { return now }, Cleaner: CleanerOptions{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := s.Topics()[0].Partitions()[0]
	put := func(key, value string, transactional bool) {
		t.Helper()
		b, err := record.NewBatch(record.None, record.Record{Timestamp: now.UnixMilli(), Key: []byte(key), Value: []byte(value)})
		if err != nil {
			t.Fatal(err)
		}
		done := newOutcome()
		if transactional {
			b.SetTransactional(1, 0, 0)
			p.AppendTransactional(b, done)
		} else {
			p.Append(b, done)
		}
		if _, err := done.wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() { // so that what came before is in a sealed segment
		for range 8 {
			put("filler", strings.Repeat("x", 4000), false)
		}
	}
	committed := func() (out []string, markers int) {
		for next := p.LogStartOffset(); next < p.LastStableOffset(); {
			bs, err := s.Fetch(context.Background(), p.tp, next, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for b := range bs.All() {
				rs, err := b.Records()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rs {
					if string(r.Key) != "filler" {
						out = append(out, string(r.Value))
					}
				}
				next = b.NextOffset()
			}
		}
		err := p.log.Headers(func(h record.Batch) error {
			if h.Control() && h.Count() > 0 {
				markers++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out, markers
	}
	put("a", "stays", false) // 0
	put("a", "aborted", true)
	fill()
	s.Compact()
	wantTold(t, "while it is open", p, "stable 1")
	end(t, p, 1, 0, false) // 10
	fill()
	wantTold(t, "aborted", p, "stable 19, 1 aborted 1-10")
	s.Compact()
	wantTold(t, "compacted", p, "stable 19")
	if got, markers := committed(); !slices.Equal(got, []string{"stays"}) || markers != 1 {
		t.Errorf("%q and %d markers are left, want the first and one", got, markers)
	}
	now = now.Add(2 * minMarkerRetentionOfTests)
	fill()
	s.Compact()
	if got, markers := committed(); !slices.Equal(got, []string{"stays"}) || markers != 0 {
		t.Errorf("in the end %q and %d markers are left, want the first and none", got, markers)
	}
	if st := s.Cleaner(); st.LastError != "" {
		t.Error(st.LastError)
	}
}

// minMarkerRetentionOfTests is commitlog's: how long a marker stays at least.
const minMarkerRetentionOfTests = time.Minute
