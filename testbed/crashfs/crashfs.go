// Package crashfs is a file system in memory that knows what a power cut would
// leave of it. It enforces the rules of package vfs by dropping what they do not
// cover, so code that forgets a Sync or a SyncDir fails its tests.
//
// Every file has live bytes and durable bytes, every folder live names and
// durable names. [FS.Clone] is the disk after a power cut at this moment: what is
// durable, and of the rest a random part, block by block and name by name, in no
// order. It is stricter than any one kernel: what ext4's journal happens to keep
// in order is not kept in order here.
//
// [FS.OnOp] sees every operation before and after it happens, which is where a
// test clones the disk or makes the operation fail.
package crashfs

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/weirmq/weir/appliance/vfs"
)

// FS implements [vfs.FS]. All methods may be called concurrently.
type FS struct {
	mu      sync.Mutex
	root    *node
	pending []change // of names, oldest first
	ops     int
	open    int
	before  func(Op) error
	after   func(Op)
}

var _ vfs.FS = (*FS)(nil)

// node is a file or, if names is set, a folder.
type node struct {
	names   map[string]*node
	durable map[string]*node
	data    content // of a file
}

// change is one operation on names. A rename edits two names, and a power cut
// keeps both edits or neither, unless one of the folders has been synced.
type change struct{ edits []edit }

type edit struct {
	dir  *node
	name string
	to   *node // nil: removed
}

// New returns an empty file system.
func New() *FS { return &FS{root: newDir()} }

func newDir() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}}
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	var h *file
	err := f.do(Op{Kind: Create, Name: name}, func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		if dir.names[base] != nil {
			return fs.ErrExist
		}
		n := &node{}
		f.edit(edit{dir: dir, name: base, to: n})
		h = f.handle(name, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) {
	var h *file
	err := f.do(Op{Kind: Open, Name: name}, func() error {
		n, err := f.find(name)
		if err != nil {
			return err
		}
		if n.names != nil {
			return syscall.EISDIR
		}
		h = f.handle(name, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (f *FS) handle(name string, n *node) *file {
	f.open++
	return &file{fs: f, name: name, node: n}
}

// OpenFiles is the number of files opened and not closed.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	return f.do(Op{Kind: Remove, Name: name}, func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		switch n := dir.names[base]; {
		case n == nil:
			return fs.ErrNotExist
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		f.edit(edit{dir: dir, name: base})
		return nil
	})
}

// RemoveAll implements vfs.FS. Each name below is a change of its own, so a power
// cut may leave the folder half empty.
func (f *FS) RemoveAll(name string) error {
	return f.do(Op{Kind: RemoveAll, Name: name}, func() error {
		dir, base, err := f.parent(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && dir.names[base] == nil {
			return nil
		}
		if err != nil {
			return err
		}
		f.clear(dir.names[base])
		f.edit(edit{dir: dir, name: base})
		return nil
	})
}

func (f *FS) clear(n *node) {
	for _, name := range sortedNames(n.names) {
		f.clear(n.names[name])
		f.edit(edit{dir: n, name: name})
	}
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	return f.do(Op{Kind: Rename, Name: oldname, NewName: newname}, func() error {
		from, oldbase, err := f.parent(oldname)
		if err != nil {
			return err
		}
		to, newbase, err := f.parent(newname)
		if err != nil {
			return err
		}
		n, over := from.names[oldbase], to.names[newbase]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case over != nil && over.names != nil: // as os.Rename
			return fs.ErrExist
		case over != nil && n.names != nil:
			return syscall.ENOTDIR
		case n.names != nil && strings.HasPrefix(path.Clean(newname), path.Clean(oldname)+"/"):
			return fs.ErrInvalid // into itself
		case n == over:
			return nil
		}
		f.edit(edit{dir: from, name: oldbase}, edit{dir: to, name: newbase, to: n})
		return nil
	})
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(dir string) error {
	return f.do(Op{Kind: MkdirAll, Name: dir}, func() error {
		parts, err := split(dir)
		if err != nil {
			return err
		}
		n := f.root
		for _, base := range parts {
			next := n.names[base]
			if next == nil {
				next = newDir()
				f.edit(edit{dir: n, name: base, to: next})
			} else if next.names == nil {
				return syscall.ENOTDIR
			}
			n = next
		}
		return nil
	})
}

// List implements vfs.FS.
func (f *FS) List(dir string) (names []string, err error) {
	err = f.do(Op{Kind: List, Name: dir}, func() error {
		n, err := f.folder(dir)
		if err == nil {
			names = sortedNames(n.names)
		}
		return err
	})
	return names, err
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(dir string) error {
	return f.do(Op{Kind: SyncDir, Name: dir}, func() error {
		n, err := f.folder(dir)
		if err == nil {
			f.settle(n)
		}
		return err
	})
}

// edit changes live names at once and durable names some day.
func (f *FS) edit(edits ...edit) {
	for _, e := range edits {
		e.apply(e.dir.names)
	}
	f.pending = append(f.pending, change{edits})
}

func (e edit) apply(names map[string]*node) {
	if e.to == nil {
		delete(names, e.name)
	} else {
		names[e.name] = e.to
	}
}

// settle makes the names of dir durable.
func (f *FS) settle(dir *node) {
	for i := range f.pending {
		c := &f.pending[i]
		c.edits = slices.DeleteFunc(c.edits, func(e edit) bool {
			if e.dir == dir {
				e.apply(dir.durable)
			}
			return e.dir == dir
		})
	}
	f.pending = slices.DeleteFunc(f.pending, func(c change) bool { return len(c.edits) == 0 })
}

func (f *FS) find(name string) (*node, error) {
	parts, err := split(name)
	if err != nil {
		return nil, err
	}
	n := f.root
	for _, base := range parts {
		if n.names == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[base]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

func (f *FS) folder(name string) (*node, error) {
	n, err := f.find(name)
	if err == nil && n.names == nil {
		return nil, syscall.ENOTDIR
	}
	return n, err
}

func (f *FS) parent(name string) (*node, string, error) {
	parts, err := split(name)
	if err != nil {
		return nil, "", err
	}
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	dir, base := path.Split(path.Join(parts...))
	n, err := f.folder(strings.TrimSuffix(dir, "/"))
	return n, base, err
}

// split is the parts of a name; none for the root.
func split(name string) ([]string, error) {
	clean := path.Clean(name)
	if clean == "." {
		return nil, nil
	}
	if !fs.ValidPath(clean) {
		return nil, fs.ErrInvalid
	}
	return strings.Split(clean, "/"), nil
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
