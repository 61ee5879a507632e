package wal_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// stuck is a sink whose Apply waits and then fails.
type stuck struct {
	*sink
	fail chan struct{}
}

func (s stuck) Apply([]byte, wal.Context) error {
	<-s.fail
	return syscall.EIO
}

// The committer waits for a file that a checkpoint is to free while the applier
// fails: there will be no checkpoint any more, and the log ends nevertheless.
func TestFailureEndsTheWaitForAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := wal.Open(wal.Options{FS: crashfs.New(), Dir: "wal", FileBytes: 64 << 10, MaxFiles: 2}, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		big, good, bad := string(make([]byte, 40<<10)), newSink(), stuck{newSink(), make(chan struct{})}
		stageFor := func(s wal.Sink) {
			if err := l.Begin(1, len(big)); err != nil {
				t.Fatal(err)
			}
			copy(l.Add(len(big), s, nil), big)
			l.End()
			synctest.Wait()
		}
		stageFor(good) // the first file is full
		stageFor(bad)  // the second, and its round is with the applier
		stageFor(good) // there is no file for this one
		if n := len(good.ch); n != 1 {
			t.Fatalf("%d rounds are committed beside the one that is applied, want 1", n)
		}
		close(bad.fail)
		synctest.Wait()
		if err := errors.Join(<-good.ch, <-bad.ch); err != nil {
			t.Errorf("a committed round got %v", err)
		}
		if err := <-good.ch; !errors.Is(err, syscall.EIO) {
			t.Errorf("the round without a file got %v, want EIO", err)
		}
		if err := l.Close(); !errors.Is(err, syscall.EIO) {
			t.Errorf("Close: %v, want EIO", err)
		}
	})
}
