package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"

	"github.com/weirmq/weir/appliance/vfs"
)

// Entries as Kafka writes them, big endian:
//
//	.index      relative offset (4), position (4)
//	.timeindex  timestamp, ms (8), relative offset (4)
//
// The offset is that of the last record of the batch at that position; the
// timestamp is the greatest of all records up to that one.
const (
	offsetEntryLen = 8
	timeEntryLen   = 12
)

// index is the sparse index of one segment: which batch lies where, and when.
// The two files grow together, entry by entry. Entries that are not written out
// yet lie in tail; they are few, since every Sync writes them out.
//
// The files are opened when they are first needed: most partitions of a box have
// segments too small to have an entry, or are not read.
type index struct {
	fs      vfs.FS
	dir     string
	base    int64
	fresh   bool     // what the files hold is of an earlier life
	offsets vfs.File // nil until opened
	times   vfs.File
	written int     // entries in the files
	tail    []entry // entries after those
}

// entry says: the batch whose last offset is offset starts at pos, and no record
// up to it is younger than timestamp.
type entry struct {
	offset, pos, timestamp int64
}

func newIndex(o Options, base int64) *index {
	return &index{fs: o.IndexFS, dir: o.Dir, base: base}
}

// open opens the files, or makes them.
func (x *index) open() (err error) {
	if x.times != nil {
		return nil
	}
	if x.offsets == nil {
		if x.offsets, err = openOrCreate(x.fs, x.dir+"/"+fileName(x.base, indexSuffix)); err != nil {
			return err
		}
	}
	if x.times, err = openOrCreate(x.fs, x.dir+"/"+fileName(x.base, timeSuffix)); err != nil || !x.fresh {
		return err
	}
	x.fresh = false
	return errors.Join(cut(x.offsets, 0), cut(x.times, 0))
}

func openOrCreate(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(name)
	}
	if err != nil {
		return nil, fmt.Errorf("commitlog: open %s: %w", name, err)
	}
	return f, nil
}

// load finds out how much of the files holds together: entries that grow and lie
// within size bytes of log, and a last one at which valid says a batch starts.
// The rest is cut off.
func (x *index) load(size int64, valid func(e entry) bool) error {
	if err := x.open(); err != nil {
		return err
	}
	prev, n, err := x.prefix(size)
	if err != nil {
		return err
	}
	if n > 0 && !valid(prev) {
		n = 0
	}
	return x.reset(n)
}

// loadEntries is how many entries are read at once.
const loadEntries = 1024

// prefix counts the entries that grow and lie within size bytes of log, and
// returns the last of them.
func (x *index) prefix(size int64) (prev entry, n int, err error) {
	prev = entry{offset: x.base - 1, pos: -1, timestamp: -1 << 63}
	buf := make([]byte, loadEntries*(offsetEntryLen+timeEntryLen))
	o, t := buf[:loadEntries*offsetEntryLen], buf[loadEntries*offsetEntryLen:]
	for {
		no, err := x.offsets.ReadAt(o, int64(n)*offsetEntryLen)
		if err != nil && err != io.EOF {
			return prev, n, err
		}
		nt, err := x.times.ReadAt(t, int64(n)*timeEntryLen)
		if err != nil && err != io.EOF {
			return prev, n, err
		}
		count := min(no/offsetEntryLen, nt/timeEntryLen)
		for i := range count {
			e, ok := x.decode(o[i*offsetEntryLen:], t[i*timeEntryLen:])
			if !ok || e.offset <= prev.offset || e.pos <= prev.pos || e.pos >= size || e.timestamp < prev.timestamp {
				return prev, n, nil
			}
			prev, n = e, n+1
		}
		if count < loadEntries {
			return prev, n, nil
		}
	}
}

// reset cuts the index to its first n entries.
func (x *index) reset(n int) error {
	if err := x.open(); err != nil {
		return err
	}
	x.written, x.tail = n, nil
	return errors.Join(cut(x.offsets, int64(n)*offsetEntryLen), cut(x.times, int64(n)*timeEntryLen))
}

// cut truncates a file that is longer.
func cut(f vfs.File, size int64) error {
	if n, err := f.Size(); err != nil || n == size {
		return err
	}
	return f.Truncate(size)
}

func (x *index) add(e entry) { x.tail = append(x.tail, e) }

func (x *index) len() int { return x.written + len(x.tail) }

// at returns entry i.
func (x *index) at(i int) (entry, error) {
	if i >= x.written {
		return x.tail[i-x.written], nil
	}
	return x.read(i)
}

// read reads entry i from the files; io.EOF when either does not reach that far.
func (x *index) read(i int) (entry, error) {
	if err := x.open(); err != nil {
		return entry{}, err
	}
	var o [offsetEntryLen]byte
	if n, err := x.offsets.ReadAt(o[:], int64(i)*offsetEntryLen); n < offsetEntryLen {
		return entry{}, err
	}
	var t [timeEntryLen]byte
	if n, err := x.times.ReadAt(t[:], int64(i)*timeEntryLen); n < timeEntryLen {
		return entry{}, err
	}
	e, ok := x.decode(o[:], t[:])
	if !ok {
		return entry{}, io.EOF
	}
	return e, nil
}

// decode is false where the two files do not belong together.
func (x *index) decode(o, t []byte) (e entry, ok bool) {
	e = entry{
		offset:    x.base + int64(binary.BigEndian.Uint32(o)),
		pos:       int64(binary.BigEndian.Uint32(o[4:])),
		timestamp: int64(binary.BigEndian.Uint64(t)),
	}
	return e, x.base+int64(binary.BigEndian.Uint32(t[8:])) == e.offset
}

// lastWhere returns the last entry for which before is true; before must be true
// for a prefix of the entries. ok is false when it is true for none.
func (x *index) lastWhere(before func(e entry) bool) (e entry, ok bool, err error) {
	i := sort.Search(x.len(), func(i int) bool {
		e, rerr := x.at(i)
		if rerr != nil {
			err = rerr
			return true
		}
		return !before(e)
	})
	if err != nil || i == 0 {
		return entry{}, false, err
	}
	e, err = x.at(i - 1)
	return e, err == nil, err
}

// flush writes the entries in memory out.
func (x *index) flush() error {
	if len(x.tail) == 0 {
		return nil
	}
	if err := x.open(); err != nil {
		return err
	}
	var o, t []byte
	for _, e := range x.tail {
		o = binary.BigEndian.AppendUint32(o, uint32(e.offset-x.base))
		o = binary.BigEndian.AppendUint32(o, uint32(e.pos))
		t = binary.BigEndian.AppendUint64(t, uint64(e.timestamp))
		t = binary.BigEndian.AppendUint32(t, uint32(e.offset-x.base))
	}
	if _, err := x.offsets.WriteAt(o, int64(x.written)*offsetEntryLen); err != nil {
		return err
	}
	if _, err := x.times.WriteAt(t, int64(x.written)*timeEntryLen); err != nil {
		return err
	}
	x.written += len(x.tail)
	x.tail = x.tail[:0]
	return nil
}

func (x *index) close() error {
	var errs []error
	for _, f := range []vfs.File{x.offsets, x.times} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	x.offsets, x.times = nil, nil
	return errors.Join(errs...)
}
