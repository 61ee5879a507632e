package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
)

var errEntries = errors.New("wal: entries do not fill their round")

// Open opens or makes the log and calls replay for every entry of the rounds
// after the last checkpoint, in order. replay must be idempotent: after a crash
// during recovery the same entries come again. The owner then syncs what replay
// touched and calls Checkpoint(l.Applied()).
//
// Damaged rounds do not stop it: their bytes are kept, Options.Damaged is told, and
// the rounds behind them are replayed. It needs memory for the largest round.
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
	l := &Log{opts: o, fullBytes: o.LingerBytes, ring: g, open: newRound(), free: make(chan *round, 4), gathers: make(chan *round, 2), durable: make(chan *round),
		writing: make(chan struct{}, 1), syncing: make(chan struct{}, 1),
		full: make(chan struct{}, 1), failed: make(chan struct{}), done: make(chan struct{})}
	l.wake.L, l.room.L, l.idle.L = &l.mu, &l.mu, &l.mu
	for range committers + 1 { // and one that is applied
		l.free <- newRound()
	}
	for range 2 {
		l.gathers <- newRound()
	}
	l.applied.Store(g.seq)
	g.durable.Store(g.seq) // settle has seen to it
	var running sync.WaitGroup
	for range committers {
		running.Go(l.commitLoop)
	}
	go l.endCommits(&running)
	go l.applyLoop()
	return l
}

// load opens the ring's files and sorts those with rounds from the spares.
func (g *ring) load() error {
	names, err := g.opts.FS.List(g.opts.Dir)
	if err != nil {
		return fmt.Errorf("wal: list %s: %w", g.opts.Dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, newSuffix) {
			if err := g.opts.FS.Remove(g.path(name)); err != nil {
				return fmt.Errorf("wal: remove %s, which was never finished: %w", name, err)
			}
		}
		number, ok := parseName(name)
		if !ok {
			continue
		}
		f := &file{name: name, number: number}
		if f.f, err = g.opts.FS.Open(g.path(name)); err != nil {
			return fmt.Errorf("wal: open %s: %w", name, err)
		}
		g.number = max(g.number, number)
		used, err := g.identify(f)
		if err != nil {
			return errors.Join(err, f.f.Close())
		}
		if used {
			g.files = append(g.files, f)
		} else {
			g.spares = append(g.spares, f)
		}
	}
	// By sequence, not by name: a file may not be where it belongs.
	slices.SortFunc(g.files, func(a, b *file) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.number, b.number)) })
	return nil
}

// identify reads f's header and reports whether f holds rounds that may be needed.
// Where the header does not say, the rounds do.
func (g *ring) identify(f *file) (used bool, err error) {
	header := make([]byte, fileHeaderLen)
	n, err := f.f.ReadAt(header, 0)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	valid, own := f.parseHeader(header[:n])
	if valid && own {
		return true, nil
	}
	w, err := g.window(f)
	if err != nil {
		return false, err
	}
	if !valid {
		f.nonce, f.first, f.made = 0, 0, w.size
	}
	var last, synced uint64
	err = w.each(func(pos int64, r parsed) error {
		if f.nonce == 0 {
			b, err := w.at(pos, roundHeader)
			f.nonce, f.first, f.from = binary.BigEndian.Uint64(b[8:]), r.seq, pos
			if err != nil {
				return err
			}
		}
		// What lies behind a hole counts only if it was synced before a later round was
		// written: a power cut may leave any of those that were not, see errEnd.
		if last == 0 || r.seq == last+1 {
			last = r.seq
		}
		synced = max(synced, r.synced)
		return nil
	})
	last = max(last, synced)
	if err == nil && f.nonce == 0 && w.size < g.opts.FileBytes {
		return false, g.damaged(f, Damage{From: w.size, To: w.size, Cause: fmt.Sprintf("the file was cut off at byte %d, before its first round", w.size)})
	}
	if err != nil || f.nonce == 0 || last <= g.cp.seq {
		return false, err // all of it is in its final place
	}
	cause := "the file bears the name of another"
	if !valid {
		cause = "the file's header"
	}
	f.last = f.first - 1
	return true, g.damaged(f, Damage{To: fileHeaderLen, Cause: cause})
}

// each calls fn with the whole rounds of the file, in order. A file without a nonce
// takes that of the first.
func (w *window) each(fn func(pos int64, r parsed) error) error {
	for pos := int64(blockBytes); pos < w.size; {
		r, ok, err := w.round(pos, w.f.nonce)
		if err != nil {
			return err
		}
		if !ok {
			pos += blockBytes
			continue
		}
		if err := fn(pos, r); err != nil {
			return err
		}
		pos += r.size
	}
	return nil
}

// replay reads the rounds after the checkpoint. Files before it stay in the list
// and become spares at the next checkpoint.
func (g *ring) replay(fn func(entry []byte) error) error {
	g.seq = g.cp.seq
	if g.cp.lost && len(g.files) > 0 {
		// All that the ring still holds is replayed. It holds at least what is needed,
		// and what is not is brought again to where it is already.
		g.seq = g.files[0].first - 1
		g.report(Damage{File: checkpointFile, To: 2 * blockBytes, Cause: "neither copy of the checkpoint can be read"})
	}
	begin, files := g.seq, g.files
	for len(files) > 1 && files[1].first <= g.seq+1 {
		files[0].last = files[1].first - 1
		files = files[1:]
	}
	for i, f := range files {
		var next uint64 // the round that the next file begins with; 0 after the last
		if i+1 < len(files) {
			next = files[i+1].first
		}
		if err := g.gapBefore(f); err != nil {
			return err
		}
		if err := g.replayFile(f, next, fn); err != nil {
			return err
		}
	}
	g.buf = nil
	if n := g.seq - begin; n > 0 {
		g.opts.Log.Info("write-ahead log replayed", slog.Uint64("rounds", n), slog.Uint64("last", g.seq))
	}
	return nil
}

// gapBefore deals with a file that begins later than the one before it ended.
func (g *ring) gapBefore(f *file) error {
	if f.first <= g.seq+1 {
		return nil
	}
	lost := Damage{From: f.from, To: f.from, First: g.seq + 1, Last: f.first - 1, Cause: "a file of the write-ahead log is missing"}
	if f.from > 0 {
		lost.From, lost.Cause = blockBytes, "rounds at the file's beginning"
	}
	g.seq = f.first - 1
	if f.from == 0 && (g.cp.lost || g.cp.unsure) {
		return nil // files that were checkpointed are used again in any order
	}
	return g.damaged(f, lost)
}

// replayFile replays the rounds of f that follow g.seq. What is not a whole round
// is damage if a later round is whole, here or in the next file; if none is, the
// log ends there. Rounds before the checkpoint are not needed, whole or not.
func (g *ring) replayFile(f *file, next uint64, fn func(entry []byte) error) error {
	w, err := g.window(f)
	if err != nil {
		return err
	}
	synced := next - 1 // the round up to which all is known to have been synced
	if next == 0 {
		if synced, err = g.settle(w); err != nil {
			return err
		}
	}
	end := int64(blockBytes) // of the last round
	err = w.each(func(pos int64, r parsed) error {
		if r.seq > g.seq+1 && g.seq >= synced || next > 0 && r.seq >= next {
			return errEnd
		}
		if r.seq > g.seq+1 {
			if err := g.lost(w, Damage{From: end, To: pos, First: g.seq + 1, Last: r.seq - 1, Cause: "rounds between whole ones"}); err != nil {
				return err
			}
			if r, _, err = w.round(pos, f.nonce); err != nil {
				return err
			}
		}
		if r.seq > g.seq {
			if err := eachEntry(r.entries, r.count, fn); err != nil {
				return fmt.Errorf("wal: replay round %d in %s at %d: %w", r.seq, f.name, pos, err)
			}
			g.seq = r.seq
		}
		f.last, end = max(f.last, r.seq), pos+r.size
		return nil
	})
	if err != nil && err != errEnd {
		return err
	}
	err = nil
	switch {
	case next > g.seq+1 && !g.cp.lost && !g.cp.unsure:
		err = g.lost(w, Damage{From: end, To: w.size, First: g.seq + 1, Last: next - 1, Cause: "rounds at the file's end"})
		g.seq = next - 1
	case next == 0 && w.size < f.made:
		// How many rounds were there only the owner may find out.
		err = g.lost(w, Damage{From: end, To: w.size, First: g.seq + 1, Cause: fmt.Sprintf("the file was cut off at byte %d of %d", w.size, f.made)})
	}
	return err
}

// lost salvages what it can of rounds that are damaged, keeps their bytes and reports them.
func (g *ring) lost(w *window, d Damage) error {
	if d.To > d.From {
		if err := g.salvage(w, d.From, d.To); err != nil {
			return err
		}
	}
	return g.damaged(w.f, d)
}

// errEnd ends a replay at rounds that were written before what they follow was synced
// (see [Log.EndRelaxed]): a power cut keeps any of those, and then none counts.
var errEnd = errors.New("wal: the end of what was synced")

// settle makes sure that what is about to be replayed is on the disk and not only
// in the kernel's cache. It may be so for what the newest file has of rounds whose
// sync was to come, was cut short by a kill, or failed, after which the cache shows
// what the disk does not have and a sync proves nothing. So those rounds are written
// once more. Without this a power cut in the middle of recovery could take a round but
// leave what it did to some of the segments. It returns the last round known to have
// been synced.
func (g *ring) settle(w *window) (synced uint64, err error) {
	type place struct{ pos, end int64 }
	var from, last place
	err = w.each(func(pos int64, r parsed) error {
		// Rounds up to the one that synced names were synced before this one was written.
		if r.synced > synced || from.pos == 0 {
			synced, from = max(synced, r.synced), place{pos, pos + r.size}
		}
		last = place{pos, pos + r.size}
		return nil
	})
	if err != nil || last.pos == 0 {
		return synced, err
	}
	for pos := from.pos; pos < last.end; {
		b, err := w.at(pos, int(min(last.end-pos, windowBytes)))
		if err != nil {
			return synced, err
		}
		if len(b) == 0 {
			break
		}
		if _, err := w.f.f.WriteAt(b, pos); err != nil {
			return synced, fmt.Errorf("wal: write the last rounds of %s again: %w", w.f.name, err)
		}
		pos += int64(len(b))
	}
	if err := w.f.f.Sync(); err != nil {
		return synced, fmt.Errorf("wal: sync %s: %w", w.f.name, err)
	}
	return synced, nil
}

// sortSpares keeps the spares that are of use and removes the others. None holds a
// round that is needed: identify has looked.
func (g *ring) sortSpares() error {
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
