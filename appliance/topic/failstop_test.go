package topic_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/testbed/crashfs"
)

// changes are what a client may ask of the topics of a box that has "t".
var changes = []struct {
	name string
	do   func(s *topic.Set) error
}{
	{"create", func(s *topic.Set) error { _, err := s.Create("new", topic.Spec{Partitions: 3}); return err }},
	{"add partitions", func(s *topic.Set) error { return s.AddPartitions("t", 4) }},
	{"alter", func(s *topic.Set) error { return s.AlterConfigs("t", set("retention.ms", "777000")) }},
	{"delete", func(s *topic.Set) error { return s.Delete("t") }},
}

// During a change of the topics one operation of the disk fails. EIO fails the set;
// a disk without room refuses, with nothing half done, or fails it.
func TestDiskFailsInAChangeOfTopics(t *testing.T) {
	for _, c := range changes {
		for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
			struck, refused := 0, 0
			for at := 0; ; at++ {
				b, disk := newBox(t), crashfs.New()
				b.fs = disk
				s := b.open()
				create(t, s, "t", topic.Spec{})
				appendTo(t, s, "t", "kept")
				before := b.list("topics")
				var mu sync.Mutex // folders are made at the same time
				left, failed := at, ""
				disk.OnOp(func(op crashfs.Op) error {
					mu.Lock()
					defer mu.Unlock()
					if failure == syscall.ENOSPC && (op.Kind == crashfs.Sync || op.Kind == crashfs.SyncDir || op.Kind == crashfs.Remove) {
						return nil
					}
					if left--; left != -1 {
						return nil
					}
					failed = op.String()
					return failure
				}, nil)
				err := c.do(s)
				disk.OnOp(nil, nil)
				if failed == "" {
					break
				}
				struck++
				what := fmt.Sprintf("%s, %v of %s", c.name, failure, failed)
				switch {
				case failure == syscall.EIO && err != nil:
					if s.Err() == nil || !errors.Is(err, record.ErrStorage) {
						t.Errorf("%s: the set goes on (%v) after %v", what, s.Err(), err)
					}
				case err != nil && s.Err() != nil:
					if !errors.Is(err, record.ErrStorage) {
						t.Errorf("%s: the set failed and the answer is %v", what, err)
					}
				case err != nil:
					refused++
					if !errors.Is(err, record.ErrDiskFull) {
						t.Errorf("%s: refused with %v, want ErrDiskFull", what, err)
					}
					wantRefused(t, b, s, what, before, c.do)
				}
				s.Close()
			}
			t.Logf("%s: %d operations failed with %v, %d times it was refused", c.name, struck, failure, refused)
			if struck == 0 {
				t.Errorf("%s: no operation failed", c.name)
			}
		}
	}
}

// wantRefused wants nothing to be left of a refused change, and the next try to succeed.
func wantRefused(t *testing.T, b *box, s *topic.Set, what string, before []string, again func(*topic.Set) error) {
	t.Helper()
	if after := b.list("topics"); !slices.Equal(slices.Sorted(slices.Values(after)), slices.Sorted(slices.Values(before))) {
		t.Errorf("%s: the folder holds %v, before %v", what, after, before)
	}
	if s.Topic("new") != nil || s.Topic("t") == nil || len(s.Topic("t").Partitions()) != 1 {
		t.Errorf("%s: it was refused and is in force", what)
	}
	if err := again(s); err != nil {
		t.Errorf("%s: the next try: %v", what, err)
	}
}

// Who waits for records when the set fails is told, and no checkpoint touches the disk.
func TestFailedSetEndsReadsAndCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b, disk := newBox(t), crashfs.New()
		b.fs = disk
		s := b.open()
		defer s.Close()
		create(t, s, "t", topic.Spec{})
		if _, err := s.Append(context.Background(), tp, batch(t, record.None, "v")); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := s.Fetch(ctx, tp, 1, 1<<20)
			got <- err
		}()
		synctest.Wait()
		s.Fail(syscall.EIO)
		if err := <-got; !errors.Is(err, record.ErrStorage) || !errors.Is(err, syscall.EIO) {
			t.Errorf("a waiting fetch got %v", err)
		}
		synctest.Wait()
		disk.OnOp(func(op crashfs.Op) error {
			t.Errorf("a checkpoint after the failure did %s", op)
			return nil
		}, nil)
		if err := s.Checkpoint(); !errors.Is(err, syscall.EIO) {
			t.Errorf("checkpoint: %v, want EIO", err)
		}
		disk.OnOp(nil, nil)
	})
}

// The sync of a folder that fails while segments are removed may have taken the name of
// a new one with it.
func TestFailedSyncOfAFolderStopsTheSet(t *testing.T) {
	b, disk := newBox(t), crashfs.New()
	b.fs = disk
	s := b.open()
	create(t, s, "t", topic.Spec{Configs: map[string]string{"segment.bytes": "16384"}})
	for range 40 {
		appendTo(t, s, "t", strings.Repeat("x", 1000))
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.SyncDir && op.Name == "topics/t-0" {
			return syscall.EIO
		}
		return nil
	}, nil)
	p := s.Topic("t").Partitions()[0]
	if _, err := p.DeleteRecords(-1); err != nil {
		t.Fatal(err) // the log start is durable
	}
	if s.Err() == nil {
		t.Fatal("the set goes on after the sync of a partition's folder failed")
	}
}
