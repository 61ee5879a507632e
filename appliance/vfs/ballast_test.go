package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
	"github.com/weirmq/weir/testbed/crashfs"
)

// fullDisk is a disk on which room bytes can still be written: what files grow by is
// taken from them, and given back by Truncate.
func fullDisk(room *atomic.Int64) *crashfs.FS {
	disk := crashfs.New()
	sizes := map[string]int64{}
	disk.OnOp(func(op crashfs.Op) error {
		end := sizes[op.Name]
		switch op.Kind {
		case crashfs.Write:
			end = max(end, op.Offset+int64(op.Len))
		case crashfs.Truncate:
			end = op.Offset
		case crashfs.Create, crashfs.Rename, crashfs.MkdirAll:
			if room.Load() <= 0 {
				return syscall.ENOSPC
			}
			return nil
		default:
			return nil
		}
		grown := end - sizes[op.Name]
		if grown > room.Load() {
			return crashfs.ShortWrite{Len: int(room.Load()), Err: syscall.ENOSPC}
		}
		room.Add(-grown)
		sizes[op.Name] = end
		return nil
	}, nil)
	return disk
}

func TestBallastIsLetGoOf(t *testing.T) {
	var room atomic.Int64
	room.Store(8 << 20)
	disk := fullDisk(&room)
	const size = 2 << 20
	b, err := vfs.NewBallast(disk, "ballast", size)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Grow(1 << 20); err != nil || b.Held() != 1<<20 {
		t.Fatalf("holds %d, %v", b.Held(), err)
	}
	if err := b.Grow(size); err != nil || b.Held() != size || room.Load() != 8<<20-size {
		t.Fatalf("holds %d of %d, %v", b.Held(), size, err)
	}
	f, err := b.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	room.Store(0) // somebody else took it
	data := bytes.Repeat([]byte("weir"), 100_000/4)
	for n := range 4 {
		if k, err := f.WriteAt(data, int64(n*len(data))); err != nil || k != len(data) {
			t.Fatalf("write %d on a full disk: %d, %v", n, k, err)
		}
	}
	if b.Held() >= size || b.Held() < size/2 || b.Released() != size-b.Held() {
		t.Fatalf("holds %d of %d after four writes of %d, released %d", b.Held(), size, len(data), b.Released())
	}
	got := make([]byte, 4*len(data))
	if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, bytes.Repeat(data, 4)) {
		t.Fatalf("read back: %v", err)
	}
	room.Store(0)
	if _, err := b.Create("g"); err != nil {
		t.Fatalf("create on a full disk: %v", err)
	}
	room.Store(0)
	if err := b.Rename("g", "h"); err != nil {
		t.Fatalf("rename on a full disk: %v", err)
	}
	room.Store(0)
	if err := b.MkdirAll("dir"); err != nil {
		t.Fatalf("make a folder on a full disk: %v", err)
	}
	// What another process finds is what this one left.
	held := b.Held()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = vfs.NewBallast(disk, "ballast", size); err != nil || b.Held() != held {
		t.Fatalf("reopened with %d of %d: %v", b.Held(), held, err)
	}
	if f, err = b.Open("f"); err != nil {
		t.Fatal(err)
	}
	// And when nothing is left of it, the error comes through.
	for at := int64(4 * len(data)); ; at += int64(len(data)) {
		room.Store(0)
		_, err := f.WriteAt(data, at)
		if err == nil && at < 1<<30 {
			continue
		}
		if !vfs.Full(err) || b.Held() != 0 {
			t.Fatalf("%v with %d bytes held", err, b.Held())
		}
		break
	}
	room.Store(8 << 20)
	if err := b.Grow(size); err != nil || b.Held() != size {
		t.Fatalf("grown again to %d, %v", b.Held(), err)
	}
	if b, err = vfs.NewBallast(disk, "ballast", size/2); err != nil || b.Held() != size/2 {
		t.Fatalf("configured smaller: holds %d, %v", b.Held(), err)
	}
}

// A sync that fails is never repeated, whatever it fails with.
func TestBallastNeverSyncsTwice(t *testing.T) {
	disk := crashfs.New()
	b, err := vfs.NewBallast(disk, "ballast", 1<<20)
	if err == nil {
		err = b.Grow(1 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := b.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	syncs := 0
	disk.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync && op.Name == "f" {
			syncs++
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) || syncs != 1 || b.Held() != 1<<20 {
		t.Errorf("%v after %d syncs, %d bytes held", err, syncs, b.Held())
	}
}

// Whoever fills the disk takes all that is let go of, for a while. The ballast outlasts
// him, and there is some of it left.
func TestBallastOutlastsAThief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		const size = 8 << 20
		b, err := vfs.NewBallast(disk, "ballast", size)
		if err == nil {
			err = b.Grow(size)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.Create("f")
		if err != nil {
			t.Fatal(err)
		}
		gone := time.Now().Add(300 * time.Millisecond)
		disk.OnOp(func(op crashfs.Op) error {
			if op.Kind == crashfs.Write && op.Name == "f" && time.Now().Before(gone) {
				return syscall.ENOSPC
			}
			return nil
		}, nil)
		if _, err := f.WriteAt([]byte("weir"), 0); err != nil {
			t.Errorf("%v, with %d of %d bytes held", err, b.Held(), size)
		}
		if b.Held() < size/2 {
			t.Errorf("%d of %d bytes held afterwards", b.Held(), size)
		}
	})
}
