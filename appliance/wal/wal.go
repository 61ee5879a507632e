// Package wal is the box's one write-ahead log. Everything that must be durable
// before somebody is told so goes through it, whatever partition it belongs to.
//
// # Rounds
//
// Appenders stage entries into the open round, a buffer in memory. A goroutine, the
// committer, takes the round, writes it with a single write, makes it durable with a
// single fdatasync, tells everybody who waits and hands its entries to the applier.
// While it does so the next round fills: the busier the box, the more acks share
// one fsync. A round is all or nothing: one CRC covers it. There are two committers,
// so that a large round is written while the one before it is synced.
//
// # Files
//
// The log is a ring of files of equal size, written with zeros once and recycled
// for ever: overwriting blocks that are allocated already costs a flash device
// 4 KiB for a small round, where an append that grows a file costs four times that.
//
//	NNNNNNNNNNNNNNNNNNNN.wal   header block (4 KiB), then rounds
//	checkpoint                 up to which round everything stands in its final place
//
// Every round starts at a multiple of 4 KiB, so writing a round never rewrites a
// block that holds an acknowledged one. A file gets a random nonce each time it is
// taken into use, and the nonce is under every round's CRC, so what an earlier
// life of the file left behind never looks valid.
//
// # After a crash
//
// Open replays the rounds after the last checkpoint, in order. The first round
// that is not whole ends the log if nothing valid follows it: it was being written
// and nobody was told of it. If something valid does follow, acknowledged data is
// damaged: its bytes are kept in the quarantine, the owner is told, and replay goes
// on behind them.
package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Begin, beside the storage failure that stopped the log.
var (
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("wal: closed")
	// ErrTooLarge is returned for a group that fits no file.
	ErrTooLarge = errors.New("wal: entries do not fit a file of the write-ahead log")
)

// Sink receives the entries it staged, in this order: Commit, Done, Apply. They
// must not block on anything that waits for the log. A Sink is told from another
// by ==: let it be a pointer. The bytes are the log's: they are overwritten later.
type Sink interface {
	// Commit is told that the entry is on stable storage, and so is all that was
	// staged before it. It comes for all entries of a round before anyone's Done.
	Commit(entry []byte)
	// Done is told that the entry is on stable storage (or written, see EndRelaxed:
	// then it comes before Commit), or why not.
	Done(entry []byte, tag any, err error)
	// Apply brings the committed entry to its final place, on another goroutine than
	// the other two and soon after them. An error stops the log for good.
	Apply(entry []byte, in Context) error
}

// Context is what Apply may make use of beside the entry.
type Context struct {
	// More says that the round's next entry is this sink's too: it may hold back a copy,
	// and bring all there in one go by the time that an Apply without More returns.
	More bool
	// Crowded says that the round has many entries, small ones, of many sinks: each would
	// cost its place a write of its own.
	Crowded bool
	// Place, if it is Known, may be noted instead, and the entry brought to its final place
	// later, with others; before a Checkpoint that covers the round.
	Place Place
}

// Log is an open write-ahead log. All methods are safe for concurrent use.
type Log struct {
	opts Options

	mu     sync.Mutex
	wake   sync.Cond // the committer: the open round is no longer empty, closing, or a sync is due
	room   sync.Cond // appenders: the open round was taken
	idle   sync.Cond // Settle, CatchUp: a round was applied
	open   *round
	group  int   // first entry of the group that is being added
	err    error // why nothing is accepted any more
	closed bool
	ended  bool // the applier has

	fullBytes int // at which a linger ends

	inSync     int // bytes of the round that is being made durable; 0: there is none
	lastCommit time.Time

	taken, committed, settled uint64 // rounds taken from open, made durable, and applied
	unsynced                  *round // what was written and acknowledged without a sync; nil: nothing
	syncDue                   bool
	syncAt                    time.Time // of the timer
	syncTimer                 *time.Timer

	full   chan struct{} // the open round is worth ending its linger for
	failed chan struct{} // closed when err is a storage failure
	done   chan struct{} // closed when committer and applier have ended

	applied atomic.Uint64 // sequence of the last round applied
	stats   Stats

	free    chan *round // to be filled next
	gathers chan *round // to be filled by absorb next
	durable chan *round // to be applied

	// Taken by sending. Not mutexes, for time in a synctest bubble to go on.
	writing chan struct{} // held by the committer that takes and writes a round
	syncing chan struct{} // by the one that syncs and settles one
	ring    *ring
}

// Begin opens a group of entries that will commit together, n bytes in all, and
// holds the open round until End. It waits while the round is too full to take them.
// Begin and End bracket a few memory copies: nothing may block between them.
func (l *Log) Begin(entries, n int) error {
	n += entries * entryPrefix
	if int64(n)+blockBytes > l.opts.FileBytes-2*blockBytes {
		return fmt.Errorf("%w: %d bytes, files are %d", ErrTooLarge, n, l.opts.FileBytes)
	}
	l.mu.Lock()
	for l.err == nil && !l.open.fits(n, l.opts.RoundBytes) {
		l.room.Wait()
	}
	if err := l.err; err != nil {
		l.mu.Unlock()
		return err
	}
	l.group = len(l.open.entries)
	return nil
}

// Add adds one entry of n bytes to the group and returns the space to write it to.
// s and tag are remembered for Apply and Done.
func (l *Log) Add(n int, s Sink, tag any) []byte { return l.open.add(n, s, tag) }

// End closes the group: its entries are part of the round now.
func (l *Log) End() {
	o := l.open
	if len(o.entries) >= l.opts.LingerWaiters || len(o.buf) >= l.fullBytes {
		l.endLinger()
	}
	l.wake.Signal()
	l.mu.Unlock()
}

// endLinger has the committer not wait for more company.
func (l *Log) endLinger() {
	select {
	case l.full <- struct{}{}:
	default:
	}
}

// Applied is the sequence of the last round whose entries were all applied.
func (l *Log) Applied() uint64 { return l.applied.Load() }

// Failed is closed when the storage has failed; Err says how.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is why the log accepts nothing any more; nil while it does.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Drain refuses new entries, commits what is staged and returns when the
// committer has ended; the error is a storage failure. Checkpoints still work,
// and the committer may need one to end.
func (l *Log) Drain() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		if l.err == nil {
			l.err = ErrClosed
		}
		l.wake.Signal()
		l.room.Broadcast()
	}
	l.mu.Unlock()
	<-l.done
	if err := l.Err(); err != ErrClosed {
		return err
	}
	return nil
}

// Close drains the log and closes its files. It does not checkpoint: that is the
// owner's, who knows what must be synced first.
func (l *Log) Close() error { return errors.Join(l.Drain(), l.ring.close()) }
