package crashfs

import (
	"errors"
	"fmt"
	"io"
)

// Kind is what an operation does.
type Kind string

// The operations. The last four change nothing on the disk.
const (
	Create    Kind = "create"
	Write     Kind = "write"
	Truncate  Kind = "truncate"
	Sync      Kind = "sync"
	Rename    Kind = "rename"
	Remove    Kind = "remove"
	RemoveAll Kind = "removeall"
	MkdirAll  Kind = "mkdirall"
	SyncDir   Kind = "syncdir"
	Open      Kind = "open"
	Read      Kind = "read"
	Size      Kind = "size"
	List      Kind = "list"
)

// Op is one operation.
type Op struct {
	Index   int // counts all operations of one FS from 0
	Kind    Kind
	Name    string
	NewName string // of a Rename
	Offset  int64  // of a Read or Write; the size for Truncate
	Len     int    // of a Read or Write
}

// Changes reports whether the operation changes the disk or what is durable on it.
func (o Op) Changes() bool {
	switch o.Kind {
	case Open, Read, Size, List:
		return false
	}
	return true
}

// String describes the operation, as in "#12 write wal/3 @4096+512".
func (o Op) String() string {
	s := fmt.Sprintf("#%d %s %s", o.Index, o.Kind, o.Name)
	switch o.Kind {
	case Rename:
		return s + " to " + o.NewName
	case Read, Write:
		return fmt.Sprintf("%s @%d+%d", s, o.Offset, o.Len)
	case Truncate:
		return fmt.Sprintf("%s to %d", s, o.Offset)
	}
	return s
}

// OnOp has before called ahead of each operation and after once it has happened,
// both by the goroutine that does the operation and without a lock held, so that
// they may Clone. Either may be nil. After a failed operation after is called too.
//
// An error from before makes the operation fail with that error and not happen,
// with two exceptions that are how disks fail: a Sync leaves what it was to sync
// clean but not durable, so that a later one that succeeds does not cover it; and
// a Write whose error is a [ShortWrite] writes a part. A SyncDir that fails has
// another chance: names are in a journal, which is kept or stops for good.
func (f *FS) OnOp(before func(Op) error, after func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// ShortWrite is an error for a Write: the first Len bytes are written, then it fails with Err.
type ShortWrite struct {
	Len int
	Err error
}

func (e ShortWrite) Error() string { return fmt.Sprintf("short write of %d bytes: %v", e.Len, e.Err) }
func (e ShortWrite) Unwrap() error { return e.Err }

// do runs an operation that does not happen at all when an error is injected.
func (f *FS) do(op Op, run func() error) error {
	return f.doOrFail(op, func(injected error) error {
		if injected != nil {
			return injected
		}
		return run()
	})
}

// doOrFail counts the operation, asks the hooks and runs it with the lock held.
func (f *FS) doOrFail(op Op, run func(injected error) error) error {
	f.mu.Lock()
	op.Index = f.ops
	f.ops++
	before, after := f.before, f.after
	f.mu.Unlock()
	var injected error
	if before != nil {
		injected = before(op)
	}
	f.mu.Lock()
	err := run(injected)
	f.mu.Unlock()
	if after != nil {
		after(op)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("crashfs: %s: %w", op, err)
}
