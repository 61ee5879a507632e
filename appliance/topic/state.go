package topic

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/vfs"
)

// state is what a partition knows besides its batches. It is derived from the
// batches and from the log starts in the write-ahead log; the file saves reading
// all of them at every boot. Partition.stateMu guards it.
type state struct {
	owner      identity
	generation uint64 // how often it was written: an old copy of the file is told by it
	logStart   int64
	epochs     []epochStart
	producers  producers
	transactions
	segments []commitlog.SegmentID // what each sealed segment is, by base, sorted; more than one of a base while it is being replaced
	lost     []lost
	unknown  []byte // sections of a newer version, kept as they are

	dirty   bool // differs from the file
	rebuild bool // the file was damaged: the batches must be read
	guessed bool // it was rebuilt: of its segments it is not known whether they were cleaned
}

// identity is whose state it is: a file may be where it does not belong.
type identity struct {
	topic     ID
	partition int32
}

func newState(owner identity) *state {
	return &state{owner: owner, producers: producers{}, transactions: transactions{open: map[int64]openTransaction{}}}
}

// epochStart says which offset was the first of a leader epoch.
type epochStart struct {
	epoch int32
	start int64
}

// note takes in a batch that has its offset and epoch, whether it is committed or not.
func (s *state) note(b record.Batch, maxProducers int) {
	if n := len(s.epochs); n == 0 || s.epochs[n-1].epoch < b.LeaderEpoch() {
		s.epochs = append(s.epochs, epochStart{b.LeaderEpoch(), b.BaseOffset()})
		s.dirty = true
	}
	if b.ProducerID() != record.NoProducerID {
		s.producers.note(b, maxProducers)
		s.dirty = true
	}
}

// loadState reads a partition's state. A missing file is an empty state: nothing
// that it would hold was checkpointed yet. A damaged one is errState.
func loadState(fsys vfs.FS, dir string, owner identity) (*state, error) {
	b, err := readFile(fsys, dir+"/"+stateFile, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(owner), nil
	}
	if err != nil {
		return nil, err
	}
	return decodeState(b)
}

// readFile reads a whole small file; one that is larger than limit is cut there.
func readFile(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("topic: open %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("topic: size of %s: %w", name, err)
	}
	b := make([]byte, min(size, limit))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("topic: read %s: %w", name, err)
	}
	return b[:n], nil
}

// ahead reports whether the state knows of batches at or above committed.
func (s *state) ahead(committed int64) bool {
	if n := len(s.epochs); n > 0 && s.epochs[n-1].start >= committed {
		return true
	}
	for _, p := range s.producers {
		if p.n > 0 && p.last[p.n-1].end > committed || p.before != nil {
			return true
		}
	}
	return false
}
