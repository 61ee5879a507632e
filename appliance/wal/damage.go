package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"syscall"

	"github.com/weirmq/weir/appliance/vfs"
)

// Damage is a stretch of the log that was durable, and so may hold what was
// acknowledged, and that can no longer be read. Its bytes are kept in the folder
// Options.Quarantine; the rounds before and after it are replayed.
type Damage struct {
	File string `json:"file"` // in the log's folder
	From int64  `json:"from_byte"`
	To   int64  `json:"to_byte"`
	// First and Last are the rounds that are lost; both 0 when none is, Last 0 when
	// it is not known how many.
	First uint64 `json:"first_round"`
	Last  uint64 `json:"last_round"`
	Kept  string `json:"kept,omitempty"` // the file in the quarantine; empty when there are no bytes to keep
	Cause string `json:"cause"`
}

// quarantine is the folder that keeps damaged bytes.
func (o Options) quarantine() string {
	if o.Quarantine != "" {
		return o.Quarantine
	}
	return path.Join(path.Dir(o.Dir), "quarantine")
}

// damaged keeps the bytes of d, salvages what it can of a round and tells the owner.
// It is done before anything uses the file again, and again after a crash in between.
func (g *ring) damaged(f *file, d Damage) error {
	d.File = f.name
	if d.To > d.From {
		kept := fmt.Sprintf("wal-%020d-%d-%d", f.number, d.From, d.To)
		err := vfs.Keep(g.opts.FS, g.opts.quarantine(), kept, f.f, d.From, d.To-d.From)
		switch {
		case err == nil:
			d.Kept = kept
		case errors.Is(err, syscall.ENOSPC):
			// To serve what is whole matters more than a copy of what is not.
			g.opts.Log.Error("no room to keep damaged bytes of the write-ahead log", "file", f.name, "err", err)
		default:
			return fmt.Errorf("wal: keep the damaged bytes %d to %d of %s in %s: %w", d.From, d.To, f.name, g.opts.quarantine(), err)
		}
	}
	g.report(d)
	return nil
}

func (g *ring) report(d Damage) {
	g.opts.Log.Error("the write-ahead log is damaged: acknowledged data may be lost", slog.String("file", d.File),
		slog.Int64("from", d.From), slog.Int64("to", d.To), slog.Uint64("first_round", d.First), slog.Uint64("last_round", d.Last),
		slog.String("kept", d.Kept), slog.String("cause", d.Cause))
	if g.opts.Damaged != nil {
		g.opts.Damaged(d)
	}
}

// salvage offers the entries of a round whose checksum is wrong to the owner, if
// the round's frame still holds: one flipped bit spoils one entry at most. Each may
// be damaged: the owner must be able to tell, and skip it without an error.
func (g *ring) salvage(w *window, from, to int64) error {
	if g.opts.Salvage == nil {
		return nil
	}
	b, err := w.at(from, roundHeader)
	if err != nil || len(b) < roundHeader {
		return err
	}
	seq, n, count := roundFrame(b)
	if seq != g.seq+1 || n > to-from-roundHeader {
		return nil
	}
	if b, err = w.at(from, roundHeader+int(n)); err != nil || int64(len(b)) < roundHeader+n {
		return err
	}
	err = eachEntry(b[roundHeader:], count, g.opts.Salvage)
	if errors.Is(err, errEntries) {
		return nil // the frame broke on the way; what came before it was offered
	}
	return err
}
