package topic

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/testbed/crashfs"
)

// Somebody else has taken the last of the disk, and the reserve with it. What is
// acknowledged waits for room in the write-ahead log: the set does not fail, serves what
// is in its place, and goes on by itself. Closed meanwhile, or killed, it has everything
// at the next start.
func TestAcknowledgedWaitsForRoom(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuses func(op crashfs.Op) bool
		brings  bool // although the disk is full
	}{
		{"of the segment", func(op crashfs.Op) bool { return op.Kind == crashfs.Write && strings.HasSuffix(op.Name, ".log") }, false},
		{"of a new segment", func(op crashfs.Op) bool { return op.Kind == crashfs.Create && strings.HasSuffix(op.Name, ".log") }, false},
		{"of the watermarks", func(op crashfs.Op) bool { return strings.Contains(op.Name, watermarkFile) && op.Kind == crashfs.Write }, true},
		{"of the state", func(op crashfs.Op) bool {
			return strings.Contains(op.Name, stateFile) && (op.Kind == crashfs.Create || op.Kind == crashfs.Rename)
		}, true},
	} {
		for _, end := range []string{"goes on", "closed", "killed"} {
			t.Run(c.name+", "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { waitForRoom(t, c.refuses, c.brings, end) })
			})
		}
	}
}

func waitForRoom(t *testing.T, refuses func(op crashfs.Op) bool, brings bool, end string) {
	disk := diskOfOne(t)
	s, p := openOne(t, disk, 1)
	var full atomic.Bool
	disk.OnOp(func(op crashfs.Op) error {
		if full.Load() && refuses(op) && op.Kind != crashfs.Sync {
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	send := func(offset int64) {
		t.Helper()
		if base, err := s.Append(context.Background(), p.tp, sequencedBatch(t, record.NoProducerID, -1, -1, 0, 1)); base != offset || err != nil {
			t.Fatal(base, err)
		}
	}
	send(0)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	p.staging.Lock()
	err := p.stageRoll()
	p.staging.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for offset := range int64(3) {
		send(1 + offset)
		if err := s.Checkpoint(); !errors.Is(err, syscall.ENOSPC) {
			t.Error("a checkpoint on a full disk:", err)
		}
	}
	time.Sleep(time.Minute)
	if err := s.Err(); err != nil {
		t.Fatal("the set has failed:", err)
	}
	if got, err := p.Read(0, 1<<20); err != nil || got.Len() == 0 {
		t.Errorf("what is in its place cannot be read: %d bytes, %v", got.Len(), err)
	}
	if _, err := p.Read(3, 1<<20); brings != (err == nil) || !brings && !errors.Is(err, record.ErrDiskFull) {
		t.Errorf("read of what waits: %v", err)
	}
	switch end {
	case "closed":
		if err := s.Close(); err == nil {
			t.Error("closed without a word of what is not in its place")
		}
	case "killed":
		disk = disk.Clone(crashfs.CloneConfig{})
	}
	full.Store(false)
	if end != "goes on" {
		s, p = openOne(t, disk, 2)
	} else if err := s.Checkpoint(); err != nil {
		t.Error("a checkpoint, with room again:", err)
	}
	send(4)
	s.wal.CatchUp()
	if got := records(t, p); len(got) != 5 || s.Err() != nil || len(p.Lost()) != 0 {
		t.Errorf("offsets %v, %v, lost %v; want all five", got, s.Err(), p.Lost())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, p = openOne(t, disk, 3)
	if got := records(t, p); len(got) != 5 || len(p.Lost()) != 0 {
		t.Errorf("after another start: offsets %v, lost %v", got, p.Lost())
	}
}
