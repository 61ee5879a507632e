package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// Checked is what Check has found of a log.
type Checked struct {
	Segments int
	Batches  int64
	Bytes    int64
	End      int64 // offset after the last record
	Damage   []Damage
	Indexes  []IndexProblem
}

// IndexProblem is an index file that does not agree with its segment. It costs
// nothing but the time to rebuild it.
type IndexProblem struct {
	File  string
	Entry int
	Err   error
}

// Check reads all of a log and changes nothing.
func Check(o Options) (Checked, error) {
	var c Checked
	o.FS, o.IndexFS = vfs.ReadOnly(o.FS), nil
	o.Damaged = func(d Damage) { c.Damage = append(c.Damage, d) }
	l, err := Open(o)
	if err != nil {
		return c, err
	}
	defer l.Close()
	if err := l.Audit(0); err != nil {
		return c, err
	}
	if err := l.Headers(func(record.Batch) error { c.Batches++; return nil }); err != nil {
		return c, err
	}
	c.Bytes = l.Size()
	c.End, _ = l.End()
	if a := l.active(); a != nil && l.Torn() {
		bad := *a.bad.Load()
		if st := bad[len(bad)-1]; st.first == st.next {
			c.Damage = append(c.Damage, Damage{Segment: a.base, From: st.from, To: st.to, First: st.first, Next: st.first,
				Cause: "the log ends with bytes that are no batch"})
		}
	}
	err = l.each(func(s *segment) (bool, error) {
		c.Segments++
		x := newIndex(o.withDefaults(), s.base)
		defer x.close()
		if problem, err := x.agrees(s); err != nil || problem.Err != nil {
			if err == nil {
				c.Indexes = append(c.Indexes, problem)
			}
			return err == nil, err
		}
		return true, nil
	})
	return c, err
}

// agrees compares the index files with the batches of s. Entries that are missing at
// the end are no problem: they are added when the segment is looked into.
func (x *index) agrees(s *segment) (p IndexProblem, err error) {
	p.File = s.path(indexSuffix)
	if x.offsets, err = x.fs.Open(s.path(indexSuffix)); err == nil {
		x.times, err = x.fs.Open(s.path(timeSuffix))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrNotExist) {
		return p, nil // made when it is needed
	}
	if err != nil {
		return p, err
	}
	size, err := x.offsets.Size()
	if err != nil {
		return p, err
	}
	prev := entry{offset: x.base - 1, pos: -1, timestamp: -1 << 63}
	for i := range int(size / offsetEntryLen) {
		e, err := x.read(i)
		if err != nil || e.offset <= prev.offset || e.pos <= prev.pos || e.timestamp < prev.timestamp || !s.startsBatch(e) {
			p.Entry, p.Err = i, fmt.Errorf("entry %d does not agree with the segment", i)
			return p, nil
		}
		prev = e
	}
	return p, nil
}
