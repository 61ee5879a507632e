package wal

import (
	"errors"

	"github.com/weirmq/weir/appliance/vfs"
)

// Verify reads the log in the folder dir as Open would and changes nothing. It calls
// entry for what Open would replay; nil: for nothing.
func Verify(fsys vfs.FS, dir string, entry func(entry []byte) error) (rounds uint64, damage []Damage, err error) {
	o, err := Options{FS: vfs.ReadOnly(fsys), Dir: dir, Damaged: func(d Damage) { damage = append(damage, d) }}.withDefaults()
	if err != nil {
		return 0, nil, err
	}
	if entry == nil {
		entry = func([]byte) error { return nil }
	}
	g := &ring{opts: o, need: make(chan struct{}, 1)}
	g.freed.L = &g.mu
	if g.cp, err = openCheckpoint(o.FS, dir); err != nil {
		return 0, nil, err
	}
	before := g.cp.seq
	// Files of another size than this program makes are not cut off: their headers say.
	g.opts.FileBytes = minFileBytes
	if err = g.load(); err == nil {
		err = g.replay(entry)
	}
	return g.seq - min(before, g.seq), damage, errors.Join(err, g.close())
}
