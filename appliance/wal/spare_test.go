package wal_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

const (
	spareFile = "wal/00000000000000000002.wal.new"
	afterNext = "wal/00000000000000000003.wal.new"
)

// halfFull is a log whose first file is just over half full: the time to make another.
func halfFull(t *testing.T, disk *crashfs.FS) (*wal.Log, *sink) {
	l, err := wal.Open(wal.Options{FS: disk, Dir: "wal", FileBytes: 2 << 20}, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := newSink()
	commit(t, l, s, 1<<20)
	commit(t, l, s, 1<<10)
	return l, s
}

func commit(t *testing.T, l *wal.Log, s *sink, size int) {
	t.Helper()
	if err := stage(l, s, strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ch; err != nil {
		t.Fatal(err)
	}
}

// The next file is made before it is needed: the round that needs it writes no zeros.
func TestNextFileIsMadeAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		l, s := halfFull(t, disk)
		l.Settle()
		time.Sleep(time.Minute) // the pauses between its zeros pass
		f, err := disk.Open(spareFile)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := f.Size(); size != 2<<20 || err != nil {
			t.Errorf("the next file has %d bytes, %v", size, err)
		}
		f.Close()
		var zeros atomic.Int64
		disk.OnOp(nil, func(op crashfs.Op) {
			if op.Kind == crashfs.Write && op.Len == 256<<10 && op.Name != afterNext {
				zeros.Add(1)
			}
		})
		commit(t, l, s, 1<<20)
		if n := zeros.Load(); n > 0 {
			t.Errorf("the round that needs the file waited for %d writes of zeros", n)
		}
		disk.OnOp(nil, nil)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A round that needs the file while it is being made waits for it and for no pause.
func TestRoundWaitsForTheFileThatIsBeingMade(t *testing.T) {
	disk := crashfs.New()
	goOn := make(chan struct{})
	disk.OnOp(func(op crashfs.Op) error {
		if op.Name == spareFile && op.Kind == crashfs.Sync {
			<-goOn
		}
		return nil
	}, nil)
	l, s := halfFull(t, disk)
	if err := stage(l, s, strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := <-s.ch; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A file that cannot be made ahead stops nothing: it is made when it is needed.
func TestFileThatCannotBeMadeAhead(t *testing.T) {
	disk := crashfs.New()
	failed := make(chan struct{})
	var once atomic.Bool
	disk.OnOp(func(op crashfs.Op) error {
		if op.Name == spareFile && op.Kind == crashfs.Write && once.CompareAndSwap(false, true) {
			return syscall.EIO
		}
		return nil
	}, func(op crashfs.Op) {
		if op.Name == spareFile && op.Kind == crashfs.Remove {
			close(failed)
		}
	})
	l, s := halfFull(t, disk)
	<-failed
	commit(t, l, s, 1<<20)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files open after Close", n)
	}
}

// Close ends who makes a file, which is removed, as a power cut's remains are by the next start.
func TestCloseWhileAFileIsMade(t *testing.T) {
	disk := crashfs.New()
	making, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.OnOp(func(op crashfs.Op) error {
		if op.Name == spareFile && op.Kind == crashfs.Sync {
			once.Do(func() { close(making) })
			<-goOn
		}
		return nil
	}, nil)
	l, _ := halfFull(t, disk)
	<-making
	left := disk.Clone(crashfs.CloneConfig{Keep: 100})
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	close(goOn)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, d := range []*crashfs.FS{disk, left} {
		d.OnOp(nil, nil)
		l, err := wal.Open(wal.Options{FS: d, Dir: "wal", FileBytes: 2 << 20}, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := d.Open(spareFile); err == nil {
			t.Error("a file that was never finished is left")
		}
	}
}

// A disk that has no room for another file, though it seemed so, stops nothing: the
// rounds go to a file that a checkpoint frees.
func TestNoRoomForAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		disk.OnOp(func(op crashfs.Op) error {
			if op.Name == afterNext && op.Kind == crashfs.Write {
				return syscall.ENOSPC
			}
			return nil
		}, nil)
		l, err := wal.Open(wal.Options{FS: disk, Dir: "wal", FileBytes: 64 << 10, MaxFiles: 4}, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-l.CheckpointWanted():
					if err := l.Checkpoint(l.Applied()); err != nil {
						t.Error(err)
					}
				case <-end:
					return
				}
			}
		}()
		s := newSink()
		for range 20 {
			commit(t, l, s, 30<<10)
		}
		close(end)
		<-ended
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
