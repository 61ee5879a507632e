//go:build linux

// Package faultfs shows a folder through FUSE and lets calls on its files fail, as
// a failing disk does, under a process that knows nothing of it.
//
// A failed fsync behaves as on Linux: what was written since the last good fsync is
// gone from the disk, the page cache still shows it, and the next fsync succeeds.
package faultfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Op is a call that can fail.
type Op string

// The calls, and how they fail.
const (
	Fsync Op = "fsync EIO"   // of a file or a folder
	Write Op = "write EIO"   // nothing is written
	Torn  Op = "torn write"  // half is written, the call for the rest gets EIO
	Short Op = "short write" // half is written, the call for the rest succeeds
)

// Fault is one failure to come.
type Fault struct {
	Op   Op
	Name string // pattern of path.Match for the base name
	Skip int    // calls that match and still succeed
}

// FS is the file system. Its methods are safe for concurrent use.
type FS struct {
	folder string

	mu    sync.Mutex
	armed *armed
	rest  rest
}

// rest is a call that fails too. The kernel makes several calls of one write that does
// not begin with a page, and of a failure of any but the first a short write, the rest
// of which the caller writes again: it must not succeed.
type rest struct {
	file *handle // whoever opens it again is not the one
	off  int64
}

type armed struct {
	Fault
	torn   *node // the rest of whose write is to fail
	struck chan struct{}
}

// Mount shows folder at dir; both are made.
func Mount(folder, dir string) (f *FS, unmount func() error, err error) {
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, nil, fmt.Errorf("faultfs: %w", err)
	}
	root, err := fs.NewLoopbackRoot(folder)
	if err != nil {
		return nil, nil, fmt.Errorf("faultfs: %w", err)
	}
	f = &FS{folder: folder}
	server, err := fs.Mount(dir, &node{LoopbackNode: root.(*fs.LoopbackNode), fs: f}, &fs.Options{
		MountOptions: fuse.MountOptions{FsName: "weir-faultfs", Name: "faultfs", DirectMountStrict: true, DisableXAttrs: true, MaxWrite: 256 << 10},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("faultfs: mount %s: %w", dir, err)
	}
	return f, server.Unmount, nil
}

// Arm lets one call fail, instead of what was armed before. The channel is closed
// when it has.
func (f *FS) Arm(fault Fault) (struck <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.rest = &armed{Fault: fault, struck: make(chan struct{})}, rest{}
	return f.armed.struck
}

// strike tells whether the call fails, and how. The caller holds mu.
func (f *FS) strike(n *node, ops ...Op) (Op, bool) {
	a := f.armed
	if a == nil || a.torn != nil {
		return "", false
	}
	for _, op := range ops {
		if ok, _ := path.Match(a.Name, path.Base(n.Path(nil))); !ok || op != a.Op {
			continue
		}
		if a.Skip--; a.Skip >= 0 {
			return "", false
		}
		if op == Torn {
			a.torn = n
		} else {
			f.spent()
		}
		return op, true
	}
	return "", false
}

func (f *FS) spent() {
	close(f.armed.struck)
	f.armed = nil
}

// node is a file or folder.
type node struct {
	*fs.LoopbackNode
	fs   *FS
	undo []former // of the writes since the last good fsync; under fs.mu
}

// former is what a write replaced.
type former struct {
	off, size int64 // of the write, of the file before it
	old       []byte
}

func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), fs: n.fs}
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return n.handle(h), fuseFlags, 0
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, h, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return inode, inode.Operations().(*node).handle(h), fuseFlags, 0
}

// Setattr takes a truncation for stable at once, and with it what was written before.
func (n *node) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, ok := in.GetSize(); ok {
		n.fs.mu.Lock()
		defer n.fs.mu.Unlock()
		n.undo = nil
	}
	return n.LoopbackNode.Setattr(ctx, h, in, out)
}

func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	stream, errno := fs.NewLoopbackDirStream(filepath.Join(n.fs.folder, n.Path(nil)))
	if errno != 0 {
		return nil, 0, errno
	}
	return &folderHandle{folderStream: stream.(folderStream), node: n}, 0, 0
}

// folderStream is what a handle of a folder can do.
type folderStream interface {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
	fs.FileFsyncdirer
}

type folderHandle struct {
	folderStream
	node *node
}

func (h *folderHandle) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	h.node.fs.mu.Lock()
	_, fails := h.node.fs.strike(h.node, Fsync)
	h.node.fs.mu.Unlock()
	if fails {
		return syscall.EIO
	}
	return h.folderStream.Fsyncdir(ctx, flags)
}

// handle is an open file.
type handle struct {
	*fs.LoopbackFile
	node *node
	disk *os.File // for reading what a write replaces, and putting it back
}

func (n *node) handle(h fs.FileHandle) *handle {
	// Without it, for a file that is gone already or not ours to write, nothing is put back.
	disk, _ := os.OpenFile(filepath.Join(n.fs.folder, n.Path(nil)), os.O_RDWR, 0)
	return &handle{LoopbackFile: h.(*fs.LoopbackFile), node: n, disk: disk}
}

// PassthroughFd keeps the kernel from going past us to the file.
func (h *handle) PassthroughFd() (int, bool) { return 0, false }

func (h *handle) Release(ctx context.Context) syscall.Errno {
	if h.disk != nil {
		h.disk.Close()
	}
	return h.LoopbackFile.Release(ctx)
}

func (h *handle) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	var all []byte
	for _, d := range data {
		all = append(all, d...)
	}
	return h.Write(ctx, all, off)
}

func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	f := h.node.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed != nil && f.armed.torn == h.node {
		f.spent()
		return 0, syscall.EIO
	}
	if f.rest == (rest{h, off}) {
		f.rest = rest{}
		return 0, syscall.EIO
	}
	op, fails := f.strike(h.node, Write, Torn, Short)
	if fails && op == Write {
		f.rest = rest{h, off}
		return 0, syscall.EIO
	}
	if fails {
		data = data[:len(data)/2]
	}
	if h.disk != nil {
		if st, err := h.disk.Stat(); err == nil {
			old := make([]byte, len(data))
			n, _ := h.disk.ReadAt(old, off)
			h.node.undo = append(h.node.undo, former{off: off, size: st.Size(), old: old[:n]})
		}
	}
	return h.LoopbackFile.Write(ctx, data, off)
}

func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	f := h.node.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	undo := h.node.undo
	h.node.undo = nil
	if _, fails := f.strike(h.node, Fsync); !fails {
		return h.LoopbackFile.Fsync(ctx, flags)
	}
	for i := len(undo) - 1; i >= 0 && h.disk != nil; i-- {
		if _, err := h.disk.WriteAt(undo[i].old, undo[i].off); err != nil {
			return syscall.EIO
		}
		if err := h.disk.Truncate(undo[i].size); err != nil {
			return syscall.EIO
		}
	}
	return syscall.EIO
}
