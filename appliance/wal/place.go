package wal

import "fmt"

// Place is where an entry stands in the files of the log. It holds until a
// Checkpoint covers the entry's round: then the file is used again.
type Place struct {
	f    *file
	byte int64
}

func (p Place) plus(n int) Place { return Place{p.f, p.byte + int64(n)} }

// Known reports whether there is such a place: an entry that was written without a
// sync of its own has none that can be told.
func (p Place) Known() bool { return p.f != nil }

// ReadAt reads len(b) bytes, from skip on, of the entry at p.
func (l *Log) ReadAt(b []byte, p Place, skip int) error {
	if _, err := p.f.f.ReadAt(b, p.byte+int64(skip)); err != nil {
		return fmt.Errorf("wal: read %s at %d: %w", p.f.name, p.byte+int64(skip), err)
	}
	return nil
}

// crowdedRun is how large a run of entries is, in bytes, for which a write of its
// own is worth its while.
const crowdedRun = 16 << 10

// crowded reports whether the round consists of so many small runs of one sink's
// entries. Rounds that were gathered have no place of their own.
func (r *round) crowded(runs int) bool {
	if runs <= 0 || r.gathered || len(r.entries) < runs {
		return false
	}
	n := 1
	for i := 1; i < len(r.entries); i++ {
		if r.entries[i].sink != r.entries[i-1].sink {
			n++
		}
	}
	return n >= runs && len(r.buf)/n < crowdedRun
}
