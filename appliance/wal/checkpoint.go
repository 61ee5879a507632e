package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/weirmq/weir/appliance/vfs"
)

// The checkpoint file is two blocks written in turn, so that a torn write leaves
// the one before: magic (4), CRC-32C of what follows (4), generation (8), sequence (8).
const (
	checkpointMagic = 0x57434b50
	checkpointLen   = 24
)

// checkpoint is the open checkpoint file.
type checkpoint struct {
	f          vfs.File
	generation uint64
	seq        uint64

	// lost says that neither slot can be read, unsure that one cannot: seq may be
	// behind the true checkpoint, whose rounds may have been overwritten since.
	lost, unsure bool
}

// openCheckpoint opens the file, or makes it with no checkpoint in it.
func openCheckpoint(fsys vfs.FS, dir string) (checkpoint, error) {
	name := dir + "/" + checkpointFile
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = createCheckpoint(fsys, name)
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("wal: open %s: %w", name, err)
	}
	c := checkpoint{f: f}
	if err := c.load(); err != nil {
		return c, errors.Join(fmt.Errorf("wal: read %s: %w", name, err), f.Close())
	}
	if c.lost || c.unsure {
		// Not to be made to look sound: the owner's next checkpoint will be.
		if err := fsys.SyncDir(dir); err != nil {
			return c, errors.Join(err, f.Close())
		}
		return c, nil
	}
	// What was read may be in the kernel's cache alone, if the process was killed
	// before the sync or the sync failed. Files are about to be used again on the
	// strength of it, so it is written once more: in its own place, for the other
	// block may hold the only checkpoint that is on the disk.
	if err := errors.Join(c.write(c.generation, c.seq), fsys.SyncDir(dir)); err != nil {
		return c, errors.Join(err, f.Close())
	}
	return c, nil
}

// load reads both slots.
func (c *checkpoint) load() error {
	valid, blank := 0, 0
	for slot := range int64(2) {
		b := make([]byte, checkpointLen)
		if _, err := c.f.ReadAt(b, slot*blockBytes); err != nil && err != io.EOF {
			return err
		}
		switch {
		case binary.BigEndian.Uint32(b) == checkpointMagic && binary.BigEndian.Uint32(b[4:]) == crc32.Checksum(b[8:], castagnoli):
			valid++
			if g := binary.BigEndian.Uint64(b[8:]); g >= c.generation {
				c.generation, c.seq = g, binary.BigEndian.Uint64(b[16:])
			}
		case [checkpointLen]byte(b) == [checkpointLen]byte{}:
			blank++
		}
	}
	// The first generation leaves one slot blank; any other that cannot be read was
	// torn by a power cut, and then the one before it counts, or it has rotted.
	c.lost = valid == 0
	c.unsure = valid == 1 && !(blank == 1 && c.generation == 1)
	return nil
}

// createCheckpoint makes the file with no checkpoint in it. openCheckpoint makes it durable.
func createCheckpoint(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(make([]byte, 2*blockBytes), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// save makes seq the checkpoint, durably, beside the one before.
func (c *checkpoint) save(seq uint64) error { return c.write(c.generation+1, seq) }

func (c *checkpoint) write(generation, seq uint64) error {
	b := make([]byte, checkpointLen)
	binary.BigEndian.PutUint32(b, checkpointMagic)
	binary.BigEndian.PutUint64(b[8:], generation)
	binary.BigEndian.PutUint64(b[16:], seq)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	if _, err := c.f.WriteAt(b, int64(generation%2)*blockBytes); err != nil {
		return fmt.Errorf("wal: write checkpoint: %w", err)
	}
	if err := c.f.Sync(); err != nil {
		return fmt.Errorf("wal: sync checkpoint: %w", err)
	}
	c.generation, c.seq = generation, seq
	return nil
}

// Checkpoint says that all that rounds up to seq did stands durably in its final
// place, so that they need not be replayed; files that hold only such rounds are
// used again. The caller must have synced everything those rounds touched. Calls
// must not overlap.
//
// After a failure there is no checkpoint: who failed to sync something may find
// nothing left to sync the next time, and it would still not be on the disk.
func (l *Log) Checkpoint(seq uint64) error {
	if isFailed(l.failed) {
		return l.Err()
	}
	if seq < l.ring.cp.seq {
		return fmt.Errorf("wal: checkpoint %d is behind the last, %d", seq, l.ring.cp.seq)
	}
	if cp := &l.ring.cp; seq > cp.seq || cp.lost || cp.unsure {
		if err := cp.save(seq); err != nil {
			l.Fail(err)
			return err
		}
		if cp.lost || cp.unsure {
			// The other slot too, which is the one that cannot be read.
			if err := cp.save(seq); err != nil {
				l.Fail(err)
				return err
			}
			cp.lost, cp.unsure = false, false
		}
	}
	l.ring.recycle(seq)
	return nil
}

// CheckpointWanted is signalled when the ring runs short of files.
func (l *Log) CheckpointWanted() <-chan struct{} { return l.ring.need }

// Fail stops the log for good because its owner could not bring data to its place.
func (l *Log) Fail(err error) { l.fail(err) }
