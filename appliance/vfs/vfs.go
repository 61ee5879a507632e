// Package vfs is the only door to the disk, so that a test can stand behind it.
//
// What is durable when (the rules the log is built on, and that testbed/crashfs
// enforces by dropping everything they do not cover):
//
//   - Bytes written and the file's size are durable once Sync has returned nil.
//   - A name (after Create, Rename, Remove, MkdirAll) is durable once SyncDir of
//     the folder that holds it has returned nil. Sync of the file does not cover it.
//   - After a failed Sync nothing is known of the bytes since the last good one:
//     kernels mark the pages clean, so a second Sync that succeeds proves nothing.
package vfs

import (
	"errors"
	"io"
)

// ErrUnsynced is wrapped by who reports that a Sync or a SyncDir has failed, where
// another error, of a read, would not mean that the disk cannot be trusted any more.
var ErrUnsynced = errors.New("a sync has failed")

// FS is a file system. Names are slash separated and relative to its root.
// Errors wrap io/fs.ErrNotExist and io/fs.ErrExist where those apply.
// All methods may be called concurrently.
type FS interface {
	// Create makes a new file for reading and writing; it must not exist.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// RemoveAll removes a folder and all in it; no error if there is none.
	RemoveAll(name string) error
	// Rename replaces newname by oldname, atomically.
	Rename(oldname, newname string) error
	// MkdirAll makes a folder and its parents. Only SyncDir of each parent makes them durable.
	MkdirAll(dir string) error
	// List returns the names in a folder, sorted.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
}

// File is an open file. Reads and writes may run concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the bytes and the size durable (fdatasync).
	Sync() error
}

// Descriptor is implemented by files of the operating system. It is what lets a
// fetch hand file bytes to a socket by sendfile. The descriptor stays the file's.
type Descriptor interface {
	Fd() uintptr
}

// Space is implemented by file systems that can run full.
type Space interface {
	// Free is how many bytes can still be written, and how many there are in all.
	Free() (free, total int64, err error)
}

// AllSyncer is implemented by file systems that can be synced as a whole.
type AllSyncer interface {
	// CanSyncAll reports whether SyncAll works here.
	CanSyncAll() bool
	// SyncAll makes durable everything that was done to the file system before the
	// call: bytes, sizes and names, of whomever. That is one commit of its journal
	// where a sync of many files would be as many.
	SyncAll() error
}
