package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"slices"
)

const (
	blockSize  = 4096 // what a kernel writes back at once
	sectorSize = 512  // what a disk writes at once
)

// block is never modified once it is in a file, so live bytes, durable bytes and
// clones share it. A nil *block is zeros.
type block [blockSize]byte

// content is the bytes of one file. Blocks past the end of a slice are zeros.
type content struct {
	live, durable         []*block
	liveSize, durableSize int64
	// dirty is what the next Sync makes durable: by block, and the size.
	dirty     map[int]bool
	sizeDirty bool
	// versions and sizes are what was written since it was last durable, oldest
	// first: the kernel may have written back any of it. A failed Sync leaves them.
	versions map[int][]*block
	sizes    []int64
	// last is the newest write, until it is durable or something else happens to
	// the file: what a power cut may come into.
	last lastWrite
}

type lastWrite struct {
	at   int64
	n    int
	grew bool // the file
}

func (c *content) set(i int, b *block) {
	for len(c.live) <= i {
		c.live = append(c.live, nil)
	}
	if c.dirty == nil {
		c.dirty, c.versions = map[int]bool{}, map[int][]*block{}
	}
	c.live[i] = b
	c.dirty[i] = true
	c.versions[i] = append(c.versions[i], b)
}

func (c *content) resize(size int64) {
	if size == c.liveSize {
		return
	}
	c.liveSize, c.sizeDirty = size, true
	c.sizes = append(c.sizes, size)
}

func (c *content) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.last = lastWrite{off, len(p), off+int64(len(p)) > c.liveSize}
	for len(p) > 0 {
		i, at := int(off/blockSize), int(off%blockSize)
		b := new(block)
		if i < len(c.live) && c.live[i] != nil {
			*b = *c.live[i]
		}
		n := copy(b[at:], p)
		c.set(i, b)
		p, off = p[n:], off+int64(n)
	}
	c.resize(max(c.liveSize, off))
}

// truncate zeroes what it cuts off, so that growing again shows zeros.
func (c *content) truncate(size int64) {
	c.last = lastWrite{}
	for i := range c.live {
		end := size - int64(i)*blockSize
		if end >= blockSize || c.live[i] == nil {
			continue
		}
		if end <= 0 {
			c.set(i, nil)
			continue
		}
		b := *c.live[i]
		clear(b[end:])
		c.set(i, &b)
	}
	c.resize(size)
}

func (c *content) read(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(0, c.liveSize-off)))
	for done := 0; done < n; {
		i, at := int((off+int64(done))/blockSize), int((off+int64(done))%blockSize)
		if i < len(c.live) && c.live[i] != nil {
			done += copy(p[done:n], c.live[i][at:])
			continue
		}
		m := min(n-done, blockSize-at)
		clear(p[done : done+m])
		done += m
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// sync makes durable what is dirty, and only that: a block that a failed sync
// left clean stays out.
func (c *content) sync() {
	c.last = lastWrite{}
	for i := range c.dirty {
		for len(c.durable) <= i {
			c.durable = append(c.durable, nil)
		}
		c.durable[i] = c.live[i]
		delete(c.versions, i)
		// Writing a block back makes the size that reaches it durable too, also one
		// that a failed sync left behind.
		c.durableSize = max(c.durableSize, min(c.liveSize, int64(i+1)*blockSize))
	}
	clear(c.dirty)
	if c.sizeDirty {
		c.durableSize, c.sizes, c.sizeDirty = c.liveSize, nil, false
	}
	c.sizes = slices.DeleteFunc(c.sizes, func(size int64) bool { return size <= c.durableSize })
}

// syncFailed is what Linux does: all is clean, nothing more is durable.
func (c *content) syncFailed() {
	c.last = lastWrite{}
	clear(c.dirty)
	c.sizeDirty = false
}

// file is one handle of a file.
type file struct {
	fs     *FS
	name   string // as opened
	node   *node
	closed bool // fs.mu
}

func (h *file) do(op Op, run func(c *content) error) error {
	return h.doOrFail(op, func(c *content, injected error) error {
		if injected != nil {
			return injected
		}
		return run(c)
	})
}

func (h *file) doOrFail(op Op, run func(c *content, injected error) error) error {
	op.Name = h.name
	return h.fs.doOrFail(op, func(injected error) error {
		if h.closed {
			return fs.ErrClosed
		}
		return run(&h.node.data, injected)
	})
}

func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.do(Op{Kind: Read, Offset: off, Len: len(p)}, func(c *content) error {
		if off < 0 {
			return fs.ErrInvalid
		}
		n, err = c.read(p, off)
		return err
	})
	return n, err
}

func (h *file) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.doOrFail(Op{Kind: Write, Offset: off, Len: len(p)}, func(c *content, injected error) error {
		if off < 0 {
			return fs.ErrInvalid
		}
		var short ShortWrite
		switch {
		case injected == nil:
			n = len(p)
		case errors.As(injected, &short):
			n = min(short.Len, len(p))
		}
		c.write(p[:n], off)
		return injected
	})
	return n, err
}

func (h *file) Size() (size int64, err error) {
	err = h.do(Op{Kind: Size}, func(c *content) error {
		size = c.liveSize
		return nil
	})
	return size, err
}

func (h *file) Truncate(size int64) error {
	return h.do(Op{Kind: Truncate, Offset: size}, func(c *content) error {
		if size < 0 {
			return fs.ErrInvalid
		}
		c.truncate(size)
		return nil
	})
}

func (h *file) Sync() error {
	return h.doOrFail(Op{Kind: Sync}, func(c *content, injected error) error {
		if injected != nil {
			c.syncFailed()
			return injected
		}
		c.sync()
		return nil
	})
}

// Close is no operation: it makes nothing durable and cannot be made to fail.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return fs.ErrClosed
	}
	h.closed = true
	h.fs.open--
	return nil
}
