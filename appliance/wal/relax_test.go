package wal_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/testbed/crashfs"
)

// trace notes what a sink is told, in order.
type trace struct{ events chan string }

func (s trace) Commit(e []byte)                     { s.events <- "commit " + string(e) }
func (s trace) Apply(e []byte, _ wal.Context) error { s.events <- "apply " + string(e); return nil }
func (s trace) Done(e []byte, _ any, err error) {
	if err != nil {
		s.events <- fmt.Sprintf("failed %s", e)
		return
	}
	s.events <- "done " + string(e)
}

func (s trace) next(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-s.events; got != w {
			t.Fatalf("told %q, want %q", got, w)
		}
	}
}

func stageRelaxed(t *testing.T, l *wal.Log, s wal.Sink, e string, x wal.Relax) {
	t.Helper()
	if err := l.Begin(1, len(e)); err != nil {
		t.Fatal(err)
	}
	copy(l.Add(len(e), s, nil), e)
	l.EndRelaxed(x)
}

func stageStrict(t *testing.T, l *wal.Log, s wal.Sink, e string) {
	t.Helper()
	if err := l.Begin(1, len(e)); err != nil {
		t.Fatal(err)
	}
	copy(l.Add(len(e), s, nil), e)
	l.End()
}

var lax = wal.Relax{Records: 1, Every: 3, Within: time.Second}

// Relaxed entries are acknowledged when they are written, and readers get them
// after the sync, which comes in time.
func TestRelaxedEntriesAreToldBeforeTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, crashfs.New(), wal.Options{})
		s := &trace{make(chan string, 100)}
		start := time.Now()
		stageRelaxed(t, l, s, "a", lax)
		s.next(t, "done a")
		stageRelaxed(t, l, s, "b", lax)
		s.next(t, "done b")
		if n := l.Stats().Syncs.Load(); n != 0 || time.Since(start) > 0 {
			t.Fatalf("%d syncs after %v", n, time.Since(start))
		}
		s.next(t, "commit a", "commit b", "apply a", "apply b")
		if d := time.Since(start); d != time.Second {
			t.Fatalf("synced after %v, flush.ms is 1 s", d)
		}
		for _, e := range []string{"c", "d", "e"} { // the third of flush.messages
			stageRelaxed(t, l, s, e, lax)
			s.next(t, "done "+e)
		}
		s.next(t, "commit c", "commit d", "commit e", "apply c", "apply d", "apply e")
		if d := time.Since(start); d != time.Second {
			t.Fatalf("three records waited for %v", d-time.Second)
		}
		stageRelaxed(t, l, s, "f", lax)
		s.next(t, "done f")
		stageStrict(t, l, s, "g") // its sync covers f
		s.next(t, "commit f")
		if got := []string{<-s.events, <-s.events}; !slices.Contains(got, "commit g") {
			t.Fatal(got) // apply f may come between
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRelaxedEntriesAreSyncedByClose(t *testing.T) {
	disk := crashfs.New()
	l, _ := open(t, disk, wal.Options{})
	s := &trace{make(chan string, 100)}
	stageRelaxed(t, l, s, "a", wal.Relax{Records: 1, Every: 100, Within: time.Hour})
	s.next(t, "done a")
	l.Settle()
	s.next(t, "commit a", "apply a")
	stageRelaxed(t, l, s, "b", wal.Relax{Records: 1, Every: 100, Within: time.Hour})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.next(t, "done b", "commit b", "apply b")
	if _, got := open(t, disk.Clone(crashfs.CloneConfig{}), wal.Options{}); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("after a power cut: %q", got)
	}
}

// failingSync is a file system whose files do not sync any more.
type failingSync struct {
	vfs.FS
	fail atomic.Bool
}

type failingFile struct {
	vfs.File
	fs *failingSync
}

func (d *failingSync) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return failingFile{f, d}, err
}

func (f failingFile) Sync() error {
	if f.fs.fail.Load() {
		return io.ErrUnexpectedEOF
	}
	return f.File.Sync()
}

// Who waits for the disk is told of a sync that failed, who does not is not seen by
// readers, and nothing more is accepted.
func TestFailedSyncOfRelaxedEntries(t *testing.T) {
	disk := &failingSync{FS: crashfs.New()}
	l, _ := open(t, disk, wal.Options{})
	s := &trace{make(chan string, 100)}
	stageRelaxed(t, l, s, "a", wal.Relax{Records: 1, Every: 100, Within: time.Hour})
	s.next(t, "done a")
	disk.fail.Store(true)
	stageStrict(t, l, s, "b")
	s.next(t, "failed b")
	<-l.Failed()
	if err := l.Begin(1, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	l.Settle()
	if err := l.Close(); err == nil {
		t.Fatal("Close says nothing of it")
	}
	if len(s.events) > 0 {
		t.Fatalf("then came %q", <-s.events)
	}
}
