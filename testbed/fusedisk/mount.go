//go:build linux

package fusedisk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// fileName is the disk's file in the folder that it is mounted at.
const fileName = "disk"

// Missing says why no FUSE file system can be mounted here; "" if one can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "mounting needs root"
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("no FUSE: %v", err)
	}
	f.Close()
	return ""
}

// Mount shows the disk as a file, whose path it returns. unmount ends that; a loop
// device must not be on it any more.
func (d *Disk) Mount(dir string) (path string, unmount func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("fusedisk: %w", err)
	}
	forever := time.Hour
	server, err := fs.Mount(dir, &folder{disk: d}, &fs.Options{
		AttrTimeout: &forever, EntryTimeout: &forever,
		MountOptions: fuse.MountOptions{FsName: "weir-fusedisk", Name: "fusedisk", DirectMountStrict: true, DisableXAttrs: true, MaxWrite: 256 << 10},
	})
	if err != nil {
		return "", nil, fmt.Errorf("fusedisk: mount %s: %w", dir, err)
	}
	return filepath.Join(dir, fileName), server.Unmount, nil
}

// folder is the root of the file system: it holds the disk.
type folder struct {
	fs.Inode
	disk *Disk
}

var _ fs.NodeOnAdder = (*folder)(nil)

func (r *folder) OnAdd(ctx context.Context) {
	r.AddChild(fileName, r.NewPersistentInode(ctx, &file{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// file is the disk as a file. Nothing of it is cached: a read gets what the disk
// holds at that moment.
type file struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
	_ fs.NodeWriter    = (*file)(nil)
	_ fs.NodeFsyncer   = (*file)(nil)
)

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blksize = 0o600, uint64(f.disk.size), 4096
	return 0
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := f.disk.read(dest, off)
	return fuse.ReadResultData(dest[:n]), errno
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n, errno := f.disk.write(data, off)
	return uint32(n), errno
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return f.disk.flush() }
