package topic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/weirmq/weir/appliance/vfs"
)

// A watermark is what a checkpoint knows of one partition: up to which offset its
// records stand durably in its segments, and which segment is its last. With it a
// segment that was cut off at the end of a batch is not taken for a log that ends
// there, and an offset that was once given is never given again.
//
// The file is appended to at checkpoints, 72 bytes for each partition that was
// written to, big endian: CRC-32C of what follows (4), topic id (16), partition
// (4), log start (8), end offset (8), the last segment: base (8), bytes (8), CRC
// and leader epoch of its first batch (4, 4), and how often the partition's state
// had been written (8). The last of a partition counts.
const (
	watermarkFile = "watermarks"
	watermarkLen  = 72

	// watermarkSlack is how much the file may grow beyond twice what is needed
	// before it is written anew.
	watermarkSlack = 64 << 10
	// maxWatermarkBytes bounds what is read of it.
	maxWatermarkBytes = 256 << 20
)

type watermark struct {
	logStart, end  int64
	segment, bytes int64
	crc            uint32
	epoch          int32
	generation     uint64
}

func (w watermark) append(b []byte, id identity) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, id.topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(id.partition))
	for _, n := range []int64{w.logStart, w.end, w.segment, w.bytes} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = binary.BigEndian.AppendUint32(b, w.crc)
	b = binary.BigEndian.AppendUint32(b, uint32(w.epoch))
	b = binary.BigEndian.AppendUint64(b, w.generation)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// decodeWatermarks calls fn for every watermark that is whole, in order.
func decodeWatermarks(b []byte, fn func(identity, watermark)) {
	for ; len(b) >= watermarkLen; b = b[watermarkLen:] {
		if crc32.Checksum(b[4:watermarkLen], castagnoli) != binary.BigEndian.Uint32(b) {
			continue
		}
		at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
		fn(identity{ID(b[4:20]), int32(binary.BigEndian.Uint32(b[20:]))}, watermark{
			logStart: at(24), end: at(32), segment: at(40), bytes: at(48),
			crc: binary.BigEndian.Uint32(b[56:]), epoch: int32(binary.BigEndian.Uint32(b[60:])),
			generation: binary.BigEndian.Uint64(b[64:]),
		})
	}
}

// watermarks is the open file. Set.checkpointing guards it.
type watermarks struct {
	f    vfs.File // nil until the first checkpoint
	size int64
}

// loadWatermarks gives the partitions their watermarks. What is damaged of the file
// is not there: it tells of damage elsewhere and holds nothing itself.
func (s *Set) loadWatermarks() error {
	b, err := readFile(s.opts.FS, walDir+"/"+watermarkFile, maxWatermarkBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	decodeWatermarks(b, func(id identity, w watermark) {
		if t := s.ids[id.topic]; t != nil && int(id.partition) < len(t.Partitions()) && id.partition >= 0 {
			t.Partitions()[id.partition].mark = w
		}
	})
	return nil
}

// saveWatermarks makes the watermarks of ps durable. Their logs were synced up to there.
func (s *Set) saveWatermarks(ps []*Partition) error {
	if len(ps) == 0 {
		return nil
	}
	m := &s.marks
	var b []byte
	for _, p := range ps {
		b = p.mark.append(b, p.identity())
	}
	s.mu.RLock()
	live := int64(s.count) * watermarkLen
	s.mu.RUnlock()
	if m.f == nil || m.size+int64(len(b)) > 2*live+watermarkSlack {
		return s.rewriteWatermarks()
	}
	if _, err := m.f.WriteAt(b, m.size); err != nil {
		return fmt.Errorf("topic: write %s: %w", watermarkFile, err)
	}
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("%w: topic: sync %s: %w", vfs.ErrUnsynced, watermarkFile, err)
	}
	m.size += int64(len(b))
	return nil
}

// rewriteWatermarks writes the file anew, with one watermark for each partition.
func (s *Set) rewriteWatermarks() error {
	var b []byte
	for _, t := range s.Topics() {
		for _, p := range t.Partitions() {
			if p.mark != (watermark{}) {
				b = p.mark.append(b, p.identity())
			}
		}
	}
	if err := s.closeWatermarks(); err != nil {
		return err
	}
	if err := replaceFile(s.opts.FS, walDir, watermarkFile, b); err != nil {
		return err
	}
	f, err := s.opts.FS.Open(walDir + "/" + watermarkFile)
	if err != nil {
		return fmt.Errorf("topic: open %s: %w", watermarkFile, err)
	}
	s.marks = watermarks{f, int64(len(b))}
	return nil
}

func (s *Set) closeWatermarks() error {
	f := s.marks.f
	s.marks = watermarks{}
	if f == nil {
		return nil
	}
	return f.Close()
}
