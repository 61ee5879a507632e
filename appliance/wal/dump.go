package wal

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weirmq/weir/appliance/vfs"
)

// Round is a whole round as it stands in a file of the log.
type Round struct {
	Seq      uint64
	Position int64  // byte of the file
	Bytes    int64  // up to the next round
	Entries  uint32 // how many it has
	// Synced is the round up to which all was synced when this one was written.
	Synced uint64
	// Checkpointed says that all of the round stands in its final place: the next
	// start does not replay it.
	Checkpointed bool

	entries []byte
}

// Each calls fn for the entries in order. They are valid until the function returns
// that was given the round.
func (r Round) Each(fn func(entry []byte) error) error { return eachEntry(r.entries, r.Entries, fn) }

// ErrNoLog is returned for a file that is none of a log, or has lost its header and all rounds.
var ErrNoLog = errors.New("wal: neither the header of a write-ahead log's file nor a whole round")

// Names is the files of the log in the folder dir, oldest name first.
func Names(fsys vfs.FS, dir string) (names []string, err error) {
	all, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, fileSuffix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Dump calls fn for each whole round of one file of the log in the folder dir, and
// changes nothing; a process may be writing to it. Rounds of an earlier life of the
// file are not among them. It needs memory for the largest round.
func Dump(fsys vfs.FS, dir, name string, fn func(Round) error) error {
	fsys = vfs.ReadOnly(fsys)
	cp, err := openCheckpoint(fsys, dir)
	if err != nil {
		return err
	}
	g := &ring{opts: Options{FS: fsys, Dir: dir}, cp: cp}
	f := &file{name: name}
	if f.f, err = fsys.Open(g.path(name)); err != nil {
		return errors.Join(fmt.Errorf("wal: open %s: %w", name, err), cp.f.Close())
	}
	return errors.Join(g.dump(f, fn), f.f.Close(), cp.f.Close())
}

func (g *ring) dump(f *file, fn func(Round) error) error {
	w, err := g.window(f)
	if err != nil {
		return err
	}
	header, err := w.at(0, fileHeaderLen)
	if err != nil {
		return err
	}
	valid, _ := f.parseHeader(header)
	if !valid {
		f.nonce = 0 // that of each round
	}
	rounds := 0
	err = w.each(func(pos int64, r parsed) error {
		rounds++
		return fn(Round{Seq: r.seq, Position: pos, Bytes: r.size, Entries: r.count, Synced: r.synced,
			Checkpointed: r.seq <= g.cp.seq, entries: r.entries})
	})
	if err == nil && !valid && rounds == 0 {
		err = ErrNoLog
	}
	return err
}
