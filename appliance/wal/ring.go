package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/appliance/vfs"
)

// A file's header block:
//
//	offset size
//	 0     8   magic "WEIRWAL2"
//	 8     4   CRC-32C of bytes 12 to 44
//	12     8   number, as in the file's name
//	20     8   nonce, random for each life of the file
//	28     8   sequence of the first round
//	36     8   size of the file: one that is shorter was cut off
const (
	fileMagic      = "WEIRWAL2"
	fileHeaderLen  = 44
	fileSuffix     = ".wal"
	newSuffix      = ".new" // of a file that is being made
	checkpointFile = "checkpoint"
)

// file is one file of the ring.
type file struct {
	name        string
	number      uint64
	nonce       uint64
	first, last uint64 // sequences of its rounds; last < first while it has none
	made        int64  // its size, as the header says
	from        int64  // its first round, if the header cannot be read; 0 otherwise
	f           vfs.File
}

// ring is the files: those with rounds that are not checkpointed, oldest first,
// the last of them being written, and the spares.
type ring struct {
	opts Options

	mu     sync.Mutex
	freed  sync.Cond // a file was recycled, or stop was called
	files  []*file
	spares []*file
	number uint64 // the highest in use
	cur    *file  // being written; nil until the first round after Open
	seq    uint64 // of the last round written, by who writes rounds
	err    error
	making bool           // a spare, on a goroutine of its own
	made   sync.WaitGroup // it

	hurry atomic.Bool // somebody waits for it, or for its end

	need chan struct{} // a checkpoint is wanted

	pos int64 // in cur; owned by who writes rounds

	syncing  sync.Mutex
	durable  atomic.Uint64 // sequence of the last round synced
	unsynced error         // the sync that failed

	cp  checkpoint // owned by who calls Checkpoint
	buf []byte     // Open's: what its windows read into
}

func fileName(number uint64) string { return fmt.Sprintf("%020d%s", number, fileSuffix) }

func (g *ring) path(name string) string { return g.opts.Dir + "/" + name }

// write writes the round, with one write. sync makes it durable.
func (g *ring) write(r *round) error {
	size := int64(len(r.buf)+blockBytes-1) / blockBytes * blockBytes
	if g.cur == nil || g.pos+size > g.opts.FileBytes {
		if err := g.roll(); err != nil {
			return err
		}
	}
	r.seal(g.cur.nonce, g.seq+1, g.durable.Load())
	if _, err := g.cur.f.WriteAt(r.buf, g.pos); err != nil {
		return fmt.Errorf("wal: write round %d to %s at %d: %w", g.seq+1, g.cur.name, g.pos, err)
	}
	r.place = Place{g.cur, g.pos}
	g.pos += int64(len(r.buf))
	g.mu.Lock()
	g.seq++
	g.cur.last = g.seq
	g.mu.Unlock()
	if g.pos > g.opts.FileBytes/2 {
		g.prepare()
	}
	return nil
}

// sync makes what was written durable, and reports whether anything had to be done
// for it. A sync that failed is not tried again: the kernel tells of lost pages once.
func (g *ring) sync() (bool, error) {
	g.syncing.Lock()
	defer g.syncing.Unlock()
	g.mu.Lock()
	f, seq := g.cur, g.seq
	g.mu.Unlock()
	if g.unsynced != nil || g.durable.Load() == seq {
		return false, g.unsynced
	}
	if err := f.f.Sync(); err != nil {
		g.unsynced = fmt.Errorf("wal: sync %s: %w", f.name, err)
		return false, g.unsynced
	}
	g.durable.Store(seq) // the files before f were synced when they were left
	return true, nil
}

// roll takes the next file into use. Header and name are durable before the first
// round is written, so a round without a header can only be damage.
func (g *ring) roll() error {
	// What was written without a sync is in the file that is left now.
	if _, err := g.sync(); err != nil {
		return err
	}
	f, err := g.spare()
	if err != nil {
		return err
	}
	name := fileName(f.number)
	if f.name != name {
		if err := g.opts.FS.Rename(g.path(f.name), g.path(name)); err != nil {
			return fmt.Errorf("wal: recycle %s as %s: %w", f.name, name, err)
		}
		f.name = name
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	f.nonce, f.first, f.last, f.made, f.from = binary.BigEndian.Uint64(nonce[:]), g.seq+1, g.seq, g.opts.FileBytes, 0
	if err := g.resize(f); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(f.header(), 0); err != nil {
		return fmt.Errorf("wal: write the header of %s: %w", name, err)
	}
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", name, err)
	}
	if err := g.opts.FS.SyncDir(g.opts.Dir); err != nil {
		return fmt.Errorf("wal: sync folder %s: %w", g.opts.Dir, err)
	}
	g.mu.Lock()
	g.files, g.cur = append(g.files, f), f
	g.mu.Unlock()
	g.pos = blockBytes
	return nil
}

// resize gives a file that was cut off, or is of another configuration, its size.
func (g *ring) resize(f *file) error {
	size, err := f.f.Size()
	if err == nil && size != g.opts.FileBytes {
		err = f.f.Truncate(g.opts.FileBytes)
	}
	if err != nil {
		return fmt.Errorf("wal: size of %s: %w", f.name, err)
	}
	return nil
}

func (g *ring) wantCheckpoint() {
	select {
	case g.need <- struct{}{}:
	default:
	}
}

// recycle makes spares of the files whose rounds are all at or below seq.
func (g *ring) recycle(seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.files[:0]
	for _, f := range g.files {
		if f.last > seq || f == g.cur {
			kept = append(kept, f)
		} else {
			g.spares = append(g.spares, f)
		}
	}
	clear(g.files[len(kept):])
	g.files = kept
	g.freed.Broadcast()
}

// stop fails whoever waits for a file.
func (g *ring) stop(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.hurry.Store(true)
	g.freed.Broadcast()
}

func (g *ring) close() error {
	g.stop(ErrClosed)
	g.made.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, f := range append(g.files, g.spares...) {
		errs = append(errs, f.f.Close())
	}
	g.files, g.spares = nil, nil
	if g.cp.f != nil {
		errs = append(errs, g.cp.f.Close())
		g.cp.f = nil
	}
	return errors.Join(errs...)
}

func (f *file) header() []byte {
	b := make([]byte, fileHeaderLen)
	copy(b, fileMagic)
	binary.BigEndian.PutUint64(b[12:], f.number)
	binary.BigEndian.PutUint64(b[20:], f.nonce)
	binary.BigEndian.PutUint64(b[28:], f.first)
	binary.BigEndian.PutUint64(b[36:], uint64(f.made))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

// parseHeader fills in f from its header block. valid is false for a file that was
// never used, and for one whose header is damaged; own is false where the header
// names another file: f was renamed for its next life, which never began, or it is
// not where it belongs.
func (f *file) parseHeader(b []byte) (valid, own bool) {
	if len(b) < fileHeaderLen || string(b[:8]) != fileMagic ||
		crc32.Checksum(b[12:fileHeaderLen], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return false, false
	}
	f.nonce = binary.BigEndian.Uint64(b[20:])
	f.first = binary.BigEndian.Uint64(b[28:])
	f.last = f.first - 1
	f.made = int64(binary.BigEndian.Uint64(b[36:]))
	return f.first > 0, binary.BigEndian.Uint64(b[12:]) == f.number
}

// parseName returns the number in a file's name.
func parseName(name string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		number = number*10 + uint64(c-'0')
	}
	return number, true
}
