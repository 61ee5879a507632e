package vfs

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// Pool is a file system that keeps a bounded number of another's files open. Files
// it gives out are opened when they are used and closed, behind their user's back,
// when others need the descriptors. So ten thousand partitions do not need ten
// thousand descriptors each for as long as the box runs.
//
// A file with writes that no Sync covers is closed last, and synced first: the
// kernel reports what goes wrong with a write to those who hold the file open, and
// nobody would. The error of such a sync is kept for the next Sync.
type Pool struct {
	FS
	max     int
	derived bool // views of the pool: its files may be closed unsynced

	shared *poolState
}

type poolState struct {
	// failed is the first error of a sync that nobody asked for. Its file may be closed
	// by now, so that SyncAll would not find it there.
	failed atomic.Pointer[error]

	opened atomic.Int64 // times that a file had to be opened again

	mu   sync.Mutex
	open []*pooled // the files that are open; a clock's face
	hand int
}

// Pinner is implemented by files that may be closed while nobody uses them.
type Pinner interface {
	// Pin keeps the file open until Unpin, also when its name is removed meanwhile,
	// and returns it. It stays the pool's to close.
	Pin() (File, error)
	Unpin()
}

// defaultOpenFileLimit is what a process may have open on most systems that do not say.
const defaultOpenFileLimit = 1024

// NewPool returns a pool over fs that keeps about limit files open, but every file
// that is in use.
func NewPool(fs FS, limit int) *Pool {
	return &Pool{FS: fs, max: max(limit, 1), shared: &poolState{}}
}

// Derived is the same pool for files that can be made anew from others: losing
// what was written to them does no harm, so they are closed without a sync.
func (p *Pool) Derived() *Pool {
	return &Pool{FS: p.FS, max: p.max, derived: true, shared: p.shared}
}

// CanSyncAll implements AllSyncer.
func (p *Pool) CanSyncAll() bool {
	fs, ok := p.FS.(AllSyncer)
	return ok && fs.CanSyncAll()
}

// SyncAll implements AllSyncer.
func (p *Pool) SyncAll() error {
	fs, ok := p.FS.(AllSyncer)
	if !ok {
		return errors.ErrUnsupported
	}
	p.shared.mu.Lock()
	open := slices.Clone(p.shared.open)
	p.shared.mu.Unlock()
	var errs []error
	dirty := open[:0]
	for _, h := range open {
		h.mu.Lock()
		if h.dirty && h.f != nil {
			h.dirty = false // until it is written again
			h.users++       // not to be closed before it is synced
			dirty = append(dirty, h)
		}
		h.mu.Unlock()
	}
	if err := p.shared.failed.Load(); err != nil {
		errs = append(errs, *err)
	}
	err := errors.Join(append(errs, fs.SyncAll())...)
	for _, h := range dirty {
		h.Unpin()
	}
	return err
}

// Open files of the pool, and how often one that had been closed was opened again.
func (p *Pool) Stats() (open int, reopened int64) {
	p.shared.mu.Lock()
	defer p.shared.mu.Unlock()
	return len(p.shared.open), p.shared.opened.Load()
}

func (p *Pool) Create(name string) (File, error) { return p.take(name, p.FS.Create) }
func (p *Pool) Open(name string) (File, error)   { return p.take(name, p.FS.Open) }

func (p *Pool) take(name string, open func(string) (File, error)) (File, error) {
	f, err := p.open(name, open)
	if err != nil {
		return nil, err
	}
	h := &pooled{pool: p, name: name, f: f}
	h.used.Store(true)
	h.mu.Lock() // enter closes others, not this one
	defer h.mu.Unlock()
	p.enter(h)
	return h, nil
}

// open opens a file. Where the process or the machine has no descriptor left, for
// connections and other programs have them, the pool does with fewer.
func (p *Pool) open(name string, open func(string) (File, error)) (File, error) {
	f, err := open(name)
	for range scarceTries {
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || !p.giveUp() {
			break
		}
		f, err = open(name)
	}
	return f, err
}

// giveUp closes an eighth of the files that are open, and reports whether it closed any.
func (p *Pool) giveUp() bool {
	s := p.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.open)
	for len(s.open) > before-max(1, before/8) && s.evict() {
	}
	return len(s.open) < before
}

const scarceTries = 8

// enter counts a file that was opened, and closes others if there are too many. The
// caller holds h.mu.
func (p *Pool) enter(h *pooled) {
	s := p.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) >= p.max && s.evict() {
	}
	h.slot = len(s.open)
	s.open = append(s.open, h)
}

// evict closes one file: one that was not used since the hand last passed, and
// only if there is none such whose writes are synced, one that must be synced.
func (s *poolState) evict() bool {
	if len(s.open) == 0 {
		return false
	}
	for _, syncing := range []bool{false, true} {
		for range 2 * len(s.open) {
			s.hand = (s.hand + 1) % len(s.open)
			h := s.open[s.hand]
			if h.used.Swap(false) || !h.mu.TryLock() {
				continue
			}
			gone := h.park(syncing)
			h.mu.Unlock()
			if gone {
				s.remove(s.hand)
				return true
			}
		}
	}
	return false // all are in use
}

func (s *poolState) remove(i int) {
	last := len(s.open) - 1
	s.open[i] = s.open[last]
	s.open[i].slot = i
	s.open[last] = nil
	s.open = s.open[:last]
}

// pooled is a file of a pool.
type pooled struct {
	pool *Pool
	name string
	used atomic.Bool // since the clock's hand passed
	slot int         // in poolState.open, whose lock guards it

	mu     sync.Mutex // guards what follows
	f      File       // nil while it is closed
	users  int
	dirty  bool  // written since the last sync
	err    error // of a sync that nobody asked for
	closed bool
}

var errFileClosed = errors.New("vfs: file already closed")

// Pin implements Pinner.
func (h *pooled) Pin() (File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errFileClosed
	}
	if h.f == nil {
		f, err := h.pool.open(h.name, h.pool.FS.Open)
		if err != nil {
			return nil, err
		}
		h.f = f
		h.pool.shared.opened.Add(1)
		h.pool.enter(h)
	}
	h.users++
	if !h.used.Load() {
		h.used.Store(true)
	}
	return h.f, nil
}

// Unpin implements Pinner.
func (h *pooled) Unpin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users == 0 && h.closed {
		_ = h.leave() // Close has been answered already
	}
}

// park closes the file until it is used again, if nobody uses it now. The caller
// holds h.mu.
func (h *pooled) park(syncing bool) bool {
	if h.users > 0 || h.f == nil {
		return false
	}
	if h.dirty && !h.pool.derived {
		if !syncing {
			return false
		}
		if err := h.f.Sync(); err != nil {
			h.err = err
			h.pool.shared.failed.CompareAndSwap(nil, &err)
		}
	}
	h.dirty = false
	_ = h.f.Close() // all that had to be durable was synced
	h.f = nil
	return true
}

func (h *pooled) ReadAt(b []byte, at int64) (int, error) {
	f, err := h.Pin()
	if err != nil {
		return 0, err
	}
	defer h.Unpin()
	return f.ReadAt(b, at)
}

func (h *pooled) WriteAt(b []byte, at int64) (int, error) {
	f, err := h.Pin()
	if err != nil {
		return 0, err
	}
	n, err := f.WriteAt(b, at)
	h.written()
	return n, err
}

// StartWriteback implements WritebackStarter.
func (h *pooled) StartWriteback(from, n int64) error {
	f, err := h.Pin()
	if err != nil {
		return err
	}
	defer h.Unpin()
	return beginWriteback(f, from, n)
}

func (h *pooled) Truncate(size int64) error {
	f, err := h.Pin()
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	h.written()
	return err
}

// written ends a use that left something to sync. It is noted after the write: a
// Sync that runs at the same time may have missed it.
func (h *pooled) written() {
	h.mu.Lock()
	h.dirty = true
	h.mu.Unlock()
	h.Unpin()
}

func (h *pooled) Size() (int64, error) {
	f, err := h.Pin()
	if err != nil {
		return 0, err
	}
	defer h.Unpin()
	return f.Size()
}

func (h *pooled) Sync() error {
	h.mu.Lock()
	if h.f == nil && !h.closed { // it was synced before it was closed
		defer h.mu.Unlock()
		return h.err
	}
	if h.closed {
		h.mu.Unlock()
		return errFileClosed
	}
	f, err := h.f, h.err
	h.users++
	h.dirty = false
	h.mu.Unlock()
	defer h.Unpin()
	if err != nil {
		return err
	}
	return f.Sync()
}

// Close closes the file, once nobody has it pinned.
func (h *pooled) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errFileClosed
	}
	h.closed = true
	if h.users > 0 {
		return nil
	}
	return h.leave()
}

// leave closes for good. The caller holds h.mu.
func (h *pooled) leave() error {
	if h.f == nil {
		return nil
	}
	s := h.pool.shared
	s.mu.Lock()
	s.remove(h.slot)
	s.mu.Unlock()
	f := h.f
	h.f = nil
	return f.Close()
}
