package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sort"
)

var errEntries = errors.New("wal: entries do not fill their round")

// CorruptError says that rounds which were durable, and so may have been
// acknowledged, can no longer be read. Nothing was changed on the disk.
type CorruptError struct {
	File   string
	Offset int64  // where the damage starts
	Seq    uint64 // the round that should be there
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("wal: round %d in %s at byte %d is damaged although later rounds are whole: acknowledged data may be lost; "+
		"restore the file from a copy of the disk, or move the wal folder away to start without what it holds", e.Seq, e.File, e.Offset)
}

// Open opens or makes the log and calls replay for every entry of the rounds
// after the last checkpoint, in order. replay must be idempotent: after a crash
// during recovery the same entries come again. The owner then syncs what replay
// touched and calls Checkpoint(l.Applied()).
func Open(o Options, replay func(entry []byte) error) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("wal: make %s: %w", o.Dir, err)
	}
	if err := o.FS.SyncDir(path.Dir(o.Dir)); err != nil {
		return nil, fmt.Errorf("wal: sync folder %s: %w", path.Dir(o.Dir), err)
	}
	g := &ring{opts: o, need: make(chan struct{}, 1)}
	g.freed.L = &g.mu
	if g.cp, err = openCheckpoint(o.FS, o.Dir); err != nil {
		return nil, err
	}
	if err = g.load(); err == nil {
		err = g.replay(replay)
	}
	if err == nil {
		err = g.sortSpares()
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return start(o, g), nil
}

func start(o Options, g *ring) *Log {
	l := &Log{opts: o, ring: g, open: newRound(), free: make(chan *round, 3), gathers: make(chan *round, 2), durable: make(chan *round),
		full: make(chan struct{}, 1), failed: make(chan struct{}), done: make(chan struct{})}
	l.wake.L, l.room.L, l.idle.L = &l.mu, &l.mu, &l.mu
	for range 2 {
		l.free <- newRound()
		l.gathers <- newRound()
	}
	g.durable = g.seq // settle has seen to it
	l.applied.Store(g.seq)
	go l.commitLoop()
	go l.applyLoop()
	return l
}

// load opens the ring's files and sorts those with rounds from the spares.
func (g *ring) load() error {
	names, err := g.opts.FS.List(g.opts.Dir)
	if err != nil {
		return fmt.Errorf("wal: list %s: %w", g.opts.Dir, err)
	}
	header := make([]byte, fileHeaderLen)
	for _, name := range names {
		number, ok := parseName(name)
		if !ok {
			continue
		}
		f := &file{name: name, number: number}
		if f.f, err = g.opts.FS.Open(g.path(name)); err != nil {
			return fmt.Errorf("wal: open %s: %w", name, err)
		}
		g.number = max(g.number, number)
		n, err := f.f.ReadAt(header, 0)
		if err != nil && err != io.EOF {
			return errors.Join(fmt.Errorf("wal: read %s: %w", name, err), f.f.Close())
		}
		if f.parseHeader(header[:n]) {
			g.files = append(g.files, f)
		} else {
			g.spares = append(g.spares, f)
		}
	}
	sort.Slice(g.files, func(i, j int) bool { return g.files[i].number < g.files[j].number })
	return nil
}

// replay reads the rounds after the checkpoint. Files before it stay in the list
// and become spares at the next checkpoint.
func (g *ring) replay(fn func(entry []byte) error) error {
	g.seq = g.cp.seq
	files := g.files
	for len(files) > 1 && files[1].first <= g.cp.seq+1 {
		files[0].last = files[1].first - 1
		files = files[1:]
	}
	for i, f := range files {
		if f.first > g.seq+1 {
			return &CorruptError{File: f.name, Seq: g.seq + 1}
		}
		if err := g.replayFile(f, files[i+1:], fn); err != nil {
			return err
		}
	}
	if n := g.seq - g.cp.seq; n > 0 {
		g.opts.Log.Info("write-ahead log replayed", slog.Uint64("rounds", n), slog.Uint64("last", g.seq))
	}
	return nil
}

// replayFile replays the rounds of f that follow g.seq. Rounds before the
// checkpoint are not needed, so damage there is stepped over.
func (g *ring) replayFile(f *file, later []*file, fn func(entry []byte) error) error {
	b, err := readAll(f)
	if err != nil {
		return err
	}
	if err := g.settle(f, b); err != nil {
		return err
	}
	for pos := int64(blockBytes); pos < int64(len(b)); {
		seq, entries, count, size, ok := parseRound(b[pos:], f.nonce)
		switch {
		case ok && seq == g.seq+1:
			if err := eachEntry(entries, count, fn); err != nil {
				return fmt.Errorf("wal: replay round %d in %s at %d: %w", seq, f.name, pos, err)
			}
			g.seq, f.last = seq, seq
			pos += int64(size)
		case ok && seq <= g.seq:
			f.last = seq
			pos += int64(size)
		case f.last < g.cp.seq:
			pos += blockBytes
		default:
			return g.checkEnd(b, pos, f, later)
		}
	}
	return g.checkEnd(b, int64(len(b)), f, later)
}

// settle makes sure that what is about to be replayed is on the disk and not only
// in the kernel's cache. It may be so for the rounds that no later one says are
// durable, which is the last of a file and those that were written without a sync
// before it: their sync was cut short by a kill, or failed, after which the cache
// shows what the disk does not have and a sync proves nothing. So they are written
// once more. Without this a power cut in the middle of recovery could take them but
// leave what they did to some of the segments.
func (g *ring) settle(f *file, b []byte) error {
	var durable uint64
	at, end := int64(0), int64(0)
	eachRound(b, f.nonce, func(pos, size int64, _ uint64) {
		durable, end = durableBefore(b[pos:]), min(pos+size, int64(len(b)))
	})
	eachRound(b, f.nonce, func(pos, _ int64, seq uint64) {
		if at == 0 && seq > durable {
			at = pos
		}
	})
	if _, err := f.f.WriteAt(b[at:end], at); err != nil {
		return fmt.Errorf("wal: write the last rounds of %s again: %w", f.name, err)
	}
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", f.name, err)
	}
	return nil
}

// eachRound calls fn with the whole rounds of a file.
func eachRound(b []byte, nonce uint64, fn func(pos, size int64, seq uint64)) {
	for pos := int64(blockBytes); pos < int64(len(b)); {
		seq, _, _, size, ok := parseRound(b[pos:], nonce)
		if !ok {
			pos += blockBytes
			continue
		}
		fn(pos, int64(size), seq)
		pos += int64(size)
	}
}

// checkEnd decides whether the rounds of f may end at pos: only if no later round of
// this file says that the next one was durable, and the next file starts with it.
func (g *ring) checkEnd(b []byte, pos int64, f *file, later []*file) error {
	for at := pos; at < int64(len(b)); at += blockBytes {
		if seq, _, _, _, ok := parseRound(b[at:], f.nonce); ok && seq > g.seq && durableBefore(b[at:]) > g.seq {
			return &CorruptError{File: f.name, Offset: pos, Seq: g.seq + 1}
		}
	}
	if len(later) > 0 && later[0].first != g.seq+1 {
		return &CorruptError{File: f.name, Offset: pos, Seq: g.seq + 1}
	}
	return nil
}

// sortSpares keeps the spares that are of use and removes the others. It makes
// sure first that no file counted as empty because of its header holds a round
// that belongs to the log: then the header is what is damaged.
func (g *ring) sortSpares() error {
	for _, f := range g.spares {
		if err := g.checkSpare(f); err != nil {
			return err
		}
	}
	all := g.spares
	g.spares = nil
	for _, f := range all {
		size, err := f.f.Size()
		if err == nil && size == g.opts.FileBytes && len(g.spares)+len(g.files) < g.opts.MaxFiles {
			g.spares = append(g.spares, f)
			continue
		}
		if err = errors.Join(err, f.f.Close(), g.opts.FS.Remove(g.path(f.name))); err != nil {
			return fmt.Errorf("wal: remove %s: %w", f.name, err)
		}
	}
	return nil
}

func (g *ring) checkSpare(f *file) error {
	head := make([]byte, roundHeader)
	if _, err := f.f.ReadAt(head, blockBytes); err != nil && err != io.EOF {
		return fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	if binary.BigEndian.Uint32(head) != roundMagic || binary.BigEndian.Uint64(head[16:]) <= g.seq {
		return nil
	}
	b, err := readAll(f)
	if err != nil {
		return err
	}
	if _, _, _, _, ok := parseRound(b[blockBytes:], binary.BigEndian.Uint64(head[8:])); ok {
		return &CorruptError{File: f.name, Seq: g.seq + 1}
	}
	return nil
}

func readAll(f *file) ([]byte, error) {
	size, err := f.f.Size()
	if err != nil {
		return nil, fmt.Errorf("wal: size of %s: %w", f.name, err)
	}
	b := make([]byte, size)
	if n, err := f.f.ReadAt(b, 0); err != nil && (err != io.EOF || int64(n) < size) {
		return nil, fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	return b, nil
}
