package topic

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// oneTopic is a catalog that has one topic, t, with one partition.
type oneTopic struct{ noTopics }

func (oneTopic) Topics() ([]Entry, error) { return []Entry{{Name: "t", ID: ID{1}, Partitions: 1}}, nil }

func openOne(t *testing.T, disk *crashfs.FS, epoch int32) (*Set, *Partition) {
	t.Helper()
	s, err := Open(Options{FS: disk, Catalog: oneTopic{}, LeaderEpoch: epoch, WAL: wal.Options{FileBytes: 64 << 10},
		CheckpointInterval: time.Hour, RetentionInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, s.Topics()[0].Partitions()[0]
}

func diskOfOne(t *testing.T) *crashfs.FS {
	t.Helper()
	disk := crashfs.New()
	for _, dir := range []string{"topics", "topics/t-0"} {
		if err := disk.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"", "topics"} {
		if err := disk.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// A checkpoint comes while a batch of an idempotent producer is staged and not
// durable. If the power goes then, the batch was never there, and its resend is new;
// if it does not, the next checkpoint knows of it, and its resend is recognised.
func TestCheckpointBesideAnIdempotentBatch(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	send := func(s *Set, sequence int32) (int64, error) {
		return s.Append(context.Background(), p.tp, slices.Clone(sequencedBatch(t, 9, 0, sequence, 0, 1)))
	}
	if _, err := send(s, 0); err != nil {
		t.Fatal(err)
	}
	s.wal.Settle() // else the checkpoint may have nothing to do
	syncing, goOn := make(chan struct{}), make(chan struct{})
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && strings.Contains(op.Name, ".wal") {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	}, nil)
	done := newOutcome()
	s.AppendAsync(p.tp, sequencedBatch(t, 9, 0, 1, 0, 1), done)
	<-syncing
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	lost := disk.Clone(crashfs.CloneConfig{})
	disk.OnOp(nil, nil)
	close(goOn)
	if base, err := done.wait(context.Background()); base != 1 || err != nil {
		t.Fatal(base, err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	kept := disk.Clone(crashfs.CloneConfig{})
	for _, c := range []struct {
		name string
		disk *crashfs.FS
	}{{"lost", lost}, {"kept", kept}} {
		again, p := openOne(t, c.disk, 2)
		if base, err := send(again, 1); base != 1 || err != nil || p.HighWatermark() != 2 {
			t.Errorf("the batch was %s: its resend got offset %d, %v; the log ends at %d", c.name, base, err, p.HighWatermark())
		}
	}
}

// No byte of the state file can change unnoticed.
func TestDamagedStateIsNoticed(t *testing.T) {
	s := &state{logStart: 3, producers: producers{}}
	for i := range int32(3) {
		s.note(sequencedBatch(t, 9, 1, i, int64(10+i), 1), 10)
	}
	b := s.encode(100)
	for i := range b {
		damaged := slices.Clone(b)
		damaged[i] ^= 0x10
		if _, err := decodeState(damaged); err == nil {
			t.Errorf("byte %d may change", i)
		}
		if _, err := decodeState(b[:i]); err == nil {
			t.Errorf("the first %d bytes pass for a state", i)
		}
	}
}

// Damage in a segment is never served to those who do not check for themselves,
// and never stored.
func TestDamagedBatches(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	b, err := record.NewBatch(record.None, record.Record{Value: []byte("intact")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(context.Background(), p.tp, slices.Clone(b)); err != nil {
		t.Fatal(err)
	}
	damaged := slices.Clone(b)
	damaged[len(damaged)-3] ^= 1
	if _, err := s.Append(context.Background(), p.tp, damaged); err == nil {
		t.Error("a damaged batch was stored")
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Open("topics/t-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{'X'}, int64(len(b)-3)); err != nil {
		t.Fatal(err)
	}
	if bs, err := s.Fetch(context.Background(), p.tp, 0, 1000); err == nil {
		t.Errorf("a damaged batch was served: %q", bs)
	}
}

// A resend is not acknowledged before the batch that it repeats is durable.
func TestIdempotentResendWaitsForItsFirstCopy(t *testing.T) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && strings.Contains(op.Name, ".wal") {
			once.Do(func() {
				close(syncing)
				<-goOn
			})
		}
		return nil
	}, nil)
	first, again := newOutcome(), newOutcome()
	s.AppendAsync(p.tp, sequencedBatch(t, 9, 0, 0, 0, 1), first)
	<-syncing
	s.AppendAsync(p.tp, sequencedBatch(t, 9, 0, 0, 0, 1), again)
	select {
	case <-again.done:
		t.Error("the resend was acknowledged, its first copy is not on the disk")
	default:
	}
	close(goOn)
	for _, o := range []*outcome{first, again} {
		if base, err := o.wait(context.Background()); base != 0 || err != nil {
			t.Error(base, err)
		}
	}
}

// Offsets that do not exist yet are refused, not waited for.
func TestReadsAboveTheHighWatermarkAreRefused(t *testing.T) {
	s, p := openOne(t, diskOfOne(t), 1)
	if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, 0, 0, 0, 3)); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]error{-1: record.ErrOffsetOutOfRange, 0: nil, 3: nil, 4: record.ErrOffsetOutOfRange} {
		c, err := p.Read(offset, 100)
		if !errors.Is(err, want) {
			t.Errorf("offset %d: %v, want %v", offset, err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}

// A checkpoint that fails stops the set, and it says why: who failed to sync a
// segment may find nothing to sync the next time.
func TestFailedCheckpointStopsTheSet(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Sync, crashfs.Rename, crashfs.SyncDir} {
		disk := diskOfOne(t)
		s, p := openOne(t, disk, 1)
		if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, 9, 0, 0, 0, 1)); err != nil {
			t.Fatal(err)
		}
		disk.OnOp(func(op crashfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		}, nil)
		if err := s.Checkpoint(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: checkpoint: %v", kind, err)
		}
		disk.OnOp(nil, nil)
		if _, err := s.Append(context.Background(), p.tp, sequencedBatch(t, 9, 0, 1, 0, 1)); !errors.Is(err, syscall.EIO) || !errors.Is(err, record.ErrStorage) {
			t.Errorf("%s failed in a checkpoint: append: %v", kind, err)
		}
		if err := s.Checkpoint(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed in a checkpoint: the next checkpoint: %v", kind, err)
		}
	}
}
