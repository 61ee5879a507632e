package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"time"

	"github.com/weirmq/weir/appliance/vfs"
)

// saved is what the file holds.
type saved struct {
	wall    time.Time     // the best known
	known   time.Time     // the same on good authority; zero if there was none yet
	elapsed time.Duration // at that time
	steps   []step
}

// The file, big endian: magic "WCK1", CRC-32C of what follows, wall time (8, ms),
// known (8, ms; -1 if zero), elapsed (8, ns), number of steps (1), the steps:
// elapsed (8, ns), size (8, ns).
const (
	magic   = "WCK1"
	headLen = 33
	stepLen = 16
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("clock: the file is damaged")
)

func (s *saved) encode() []byte {
	b := append(make([]byte, 0, headLen+maxSteps*stepLen), magic...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(s.wall.UnixMilli()))
	known := int64(-1)
	if !s.known.IsZero() {
		known = s.known.UnixMilli()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(known))
	b = binary.BigEndian.AppendUint64(b, uint64(s.elapsed))
	b = append(b, byte(len(s.steps)))
	for _, p := range s.steps {
		b = binary.BigEndian.AppendUint64(b, uint64(p.at))
		b = binary.BigEndian.AppendUint64(b, uint64(p.size))
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func decode(b []byte) (*saved, error) {
	if len(b) < headLen || string(b[:4]) != magic || binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(b[8:], castagnoli) ||
		b[headLen-1] > maxSteps || len(b) != headLen+int(b[headLen-1])*stepLen {
		return nil, errDamaged
	}
	s := &saved{wall: time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))), elapsed: time.Duration(binary.BigEndian.Uint64(b[24:]))}
	known := int64(binary.BigEndian.Uint64(b[16:]))
	if known >= 0 {
		s.known = time.UnixMilli(known)
	}
	if s.elapsed < 0 || known < -1 {
		return nil, errDamaged
	}
	for at := headLen; at < len(b); at += stepLen {
		s.steps = append(s.steps, step{time.Duration(binary.BigEndian.Uint64(b[at:])), time.Duration(binary.BigEndian.Uint64(b[at+8:]))})
	}
	return s, nil
}

// load reads the file; nil if there is none.
func load(fsys vfs.FS, name string) (*saved, error) {
	if fsys == nil {
		return nil, nil
	}
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("clock: open %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > headLen+maxSteps*stepLen {
		return nil, errors.Join(err, fmt.Errorf("%w: %d bytes", errDamaged, size))
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("clock: read %s: %w", name, err)
	}
	return decode(b)
}

// save writes the time down, durably: after a crash the file is the old one or the
// new one. The caller holds mu, or is Open.
func (c *Clock) save() error {
	_, mono := c.opts.Source.Read()
	c.last = mono
	if c.opts.FS == nil {
		return nil
	}
	s := saved{steps: c.steps}
	s.wall, s.elapsed = c.ref.Load().at(mono)
	if !c.known.IsZero() {
		s.known = c.known.Add(s.elapsed - c.knownAt)
	}
	tmp := c.opts.File + ".tmp"
	if err := c.opts.FS.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clock: remove %s: %w", tmp, err)
	}
	f, err := c.opts.FS.Create(tmp)
	if err != nil {
		return fmt.Errorf("clock: create %s: %w", tmp, err)
	}
	if _, err = f.WriteAt(s.encode(), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("clock: write %s: %w", tmp, err)
	}
	if err := c.opts.FS.Rename(tmp, c.opts.File); err != nil {
		return fmt.Errorf("clock: rename %s: %w", tmp, err)
	}
	return c.opts.FS.SyncDir(".")
}
