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
type index struct {
	base    int64
	offsets vfs.File
	times   vfs.File
	written int     // entries in the files
	tail    []entry // entries after those
}

// entry says: the batch whose last offset is offset starts at pos, and no record
// up to it is younger than timestamp.
type entry struct {
	offset, pos, timestamp int64
}

func openIndex(fsys vfs.FS, dir string, base int64) (*index, error) {
	o, err := openOrCreate(fsys, dir+"/"+fileName(base, indexSuffix))
	if err != nil {
		return nil, err
	}
	t, err := openOrCreate(fsys, dir+"/"+fileName(base, timeSuffix))
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return &index{base: base, offsets: o, times: t}, nil
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
	prev, n := entry{offset: x.base - 1, pos: -1, timestamp: -1 << 63}, 0
	for {
		e, err := x.read(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if e.offset <= prev.offset || e.pos <= prev.pos || e.pos >= size || e.timestamp < prev.timestamp {
			break
		}
		prev, n = e, n+1
	}
	if n > 0 && !valid(prev) {
		n = 0
	}
	return x.reset(n)
}

// reset cuts the index to its first n entries.
func (x *index) reset(n int) error {
	x.written, x.tail = n, nil
	return errors.Join(x.offsets.Truncate(int64(n)*offsetEntryLen), x.times.Truncate(int64(n)*timeEntryLen))
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
	var b [timeEntryLen]byte
	if n, err := x.offsets.ReadAt(b[:offsetEntryLen], int64(i)*offsetEntryLen); n < offsetEntryLen {
		return entry{}, err
	}
	e := entry{
		offset: x.base + int64(binary.BigEndian.Uint32(b[0:])),
		pos:    int64(binary.BigEndian.Uint32(b[4:])),
	}
	if n, err := x.times.ReadAt(b[:], int64(i)*timeEntryLen); n < timeEntryLen {
		return entry{}, err
	}
	e.timestamp = int64(binary.BigEndian.Uint64(b[0:]))
	if x.base+int64(binary.BigEndian.Uint32(b[8:])) != e.offset {
		return entry{}, io.EOF // the files do not belong together from here on
	}
	return e, nil
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

func (x *index) close() error { return errors.Join(x.offsets.Close(), x.times.Close()) }
