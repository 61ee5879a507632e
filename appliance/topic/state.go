package topic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// state is what a partition knows besides its batches. It is derived from the
// batches and from the log starts in the write-ahead log; the file saves reading
// all of them at every boot. Partition.stateMu guards it.
type state struct {
	logStart  int64
	epochs    []epochStart
	producers producers
	dirty     bool // differs from the file
	rebuild   bool // the file was damaged: the batches must be read
}

// epochStart says which offset was the first of a leader epoch.
type epochStart struct {
	epoch int32
	start int64
}

// note takes in a batch that has its offset and epoch.
func (s *state) note(b record.Batch) {
	if n := len(s.epochs); n == 0 || s.epochs[n-1].epoch < b.LeaderEpoch() {
		s.epochs = append(s.epochs, epochStart{b.LeaderEpoch(), b.BaseOffset()})
		s.dirty = true
	}
	if b.ProducerID() != record.NoProducerID {
		s.producers.note(b)
		s.dirty = true
	}
}

// The file, big endian: magic "WPS1", CRC-32C of what follows, log start (8),
// number of epochs (4) and of producers (4), the epochs: epoch (4), start (8),
// the producers: id (8), epoch (2), batches (1), each first and last sequence
// (4, 4), base and end offset (8, 8).
const (
	stateFile  = "partition.state"
	stateMagic = "WPS1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes the state of what lies below committed: a batch that is staged
// but not durable yet must not be taken for one that is in the log.
func (s *state) encode(committed int64) []byte {
	b := append(make([]byte, 0, 64), stateMagic...)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(s.logStart))
	epochs := s.epochs
	for len(epochs) > 0 && epochs[len(epochs)-1].start >= committed {
		epochs = epochs[:len(epochs)-1]
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(epochs)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.producers)))
	for _, e := range epochs {
		b = binary.BigEndian.AppendUint32(b, uint32(e.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.start))
	}
	for id, p := range s.producers {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(p.epoch))
		n := 0
		for n < p.n && p.last[n].end <= committed {
			n++
		}
		b = append(b, byte(n))
		for _, q := range p.last[:n] {
			b = binary.BigEndian.AppendUint32(b, uint32(q.first))
			b = binary.BigEndian.AppendUint32(b, uint32(q.last))
			b = binary.BigEndian.AppendUint64(b, uint64(q.base))
			b = binary.BigEndian.AppendUint64(b, uint64(q.end))
		}
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

var errState = errors.New("partition state is damaged")

func decodeState(b []byte) (*state, error) {
	if len(b) < 24 || string(b[:4]) != stateMagic || crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, errState
	}
	s := &state{logStart: int64(binary.BigEndian.Uint64(b[8:])), producers: producers{}}
	epochs, count := int64(binary.BigEndian.Uint32(b[16:])), int64(binary.BigEndian.Uint32(b[20:]))
	b = b[24:]
	if int64(len(b)) < epochs*12+count*11 {
		return nil, errState
	}
	for range epochs {
		s.epochs = append(s.epochs, epochStart{int32(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint64(b[4:]))})
		b = b[12:]
	}
	for range count {
		if len(b) < 11 || int(b[10]) > producerWindow || len(b) < 11+24*int(b[10]) {
			return nil, errState
		}
		p := &producer{epoch: int16(binary.BigEndian.Uint16(b[8:])), n: int(b[10])}
		s.producers[int64(binary.BigEndian.Uint64(b))] = p
		b = b[11:]
		for i := range p.n {
			p.last[i] = sequenced{
				int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:])),
				int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:])),
			}
			b = b[24:]
		}
	}
	if len(b) != 0 {
		return nil, errState
	}
	return s, nil
}

// loadState reads a partition's state. A missing file is an empty state: nothing
// that it would hold was checkpointed yet. A damaged one is errState.
func loadState(fsys vfs.FS, dir string) (*state, error) {
	f, err := fsys.Open(dir + "/" + stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{producers: producers{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("topic: open %s/%s: %w", dir, stateFile, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("topic: size of %s/%s: %w", dir, stateFile, err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); int64(n) < size && err != io.EOF {
		return nil, fmt.Errorf("topic: read %s/%s: %w", dir, stateFile, err)
	}
	return decodeState(b)
}

// ahead reports whether the state knows of batches at or above committed.
func (s *state) ahead(committed int64) bool {
	if n := len(s.epochs); n > 0 && s.epochs[n-1].start >= committed {
		return true
	}
	for _, p := range s.producers {
		if p.n > 0 && p.last[p.n-1].end > committed {
			return true
		}
	}
	return false
}
