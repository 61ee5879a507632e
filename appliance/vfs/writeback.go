package vfs

import (
	"errors"
	"sync"
	"time"
)

// WritebackStarter is implemented by files whose written bytes can be sent on their
// way to the disk ahead of a Sync, which then has less to wait for.
type WritebackStarter interface {
	// StartWriteback begins to write n bytes from from on and does not wait for it. It
	// makes nothing durable; what fails later is for Sync to tell.
	StartWriteback(from, n int64) error
}

// beginWriteback is for files that stand before others.
func beginWriteback(f File, from, n int64) error {
	if s, ok := f.(WritebackStarter); ok {
		return s.StartWriteback(from, n)
	}
	return errors.ErrUnsupported
}

// Writeback has what is appended to files written to the disk as time goes, so that
// the next Sync of them does not keep the disk from others for as long as all of it
// takes at once. It does so no faster than a rate: a burst is left to that Sync.
// A nil Writeback leaves everything to it. It is safe for concurrent use.
type Writeback struct {
	rate int64
	now  func() time.Time

	mu     sync.Mutex
	credit int64
	last   time.Time
}

const (
	// writebackPiece is begun at once: large beside what a disk moves in one go, small
	// beside what delays a Sync of another file noticeably.
	writebackPiece = 512 << 10
	// writebackCredit is how much a time without appends saves up.
	writebackCredit = 4 * writebackPiece

	pageBytes = 4096
)

// NewWriteback returns a Writeback of rate bytes a second; nil if rate is not
// positive. now is time.Now or a test's.
func NewWriteback(rate int64, now func() time.Time) *Writeback {
	if rate <= 0 {
		return nil
	}
	return &Writeback{rate: rate, now: now, last: now()}
}

// Appended says that f holds bytes as far as end, of which those before begun are on
// their way to the disk. It returns how far they are now. Only whole pages go, so that
// none is written twice.
func (w *Writeback) Appended(f File, begun, end int64) int64 {
	if w == nil || end-begun < writebackPiece {
		return begun
	}
	s, ok := f.(WritebackStarter)
	if !ok {
		return begun
	}
	to := begun + w.take(end-begun)
	if to = to &^ (pageBytes - 1); to <= begun {
		return begun
	}
	if s.StartWriteback(begun, to-begun) != nil {
		return begun // Sync will say what is wrong
	}
	return to
}

// take is how many of n bytes may go now.
func (w *Writeback) take(n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if gained := now.Sub(w.last).Seconds() * float64(w.rate); gained >= 1 {
		w.credit = min(w.credit+int64(min(gained, writebackCredit)), writebackCredit)
		w.last = now
	}
	if n = min(n, w.credit); n < writebackPiece {
		return 0
	}
	w.credit -= n
	return n
}
