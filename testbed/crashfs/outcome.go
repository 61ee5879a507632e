package crashfs

import (
	"fmt"
	"math/rand/v2"
)

// Outcome is one way in which a power cut after an operation may leave the disk.
type Outcome struct {
	// Keep is what is left of all that is not durable, in percent, as in
	// [CloneConfig]. Less than 0 is the death of the process alone: see [FS.Killed].
	Keep int
	// Prefix is how many bytes are left of the write that the power went in; less
	// than 0 if it came after the operation.
	Prefix int
}

const (
	tornPercent = 30 // of the blocks that are kept
	maxPrefixes = 24 // that Outcomes lists of one write; of larger ones sectors are skipped
)

// Outcomes lists what a power cut after op may leave: six shares of what was not
// synced, and after a write each number of its sectors and a number of bytes.
func Outcomes(op Op, rnd *rand.Rand) []Outcome {
	all := []Outcome{{0, -1}, {25, -1}, {50, -1}, {75, -1}, {100, -1}, {-1, -1}}
	if op.Kind != Write || op.Len == 0 {
		return all
	}
	step := max(sectorSize, (op.Len/maxPrefixes+sectorSize-1)/sectorSize*sectorSize)
	for n := 0; n < op.Len; n += step {
		all = append(all, Outcome{rnd.IntN(101), n})
	}
	return append(all, Outcome{rnd.IntN(101), rnd.IntN(op.Len)})
}

// Of is the disk that the outcome of a power cut in or after op leaves.
func (o Outcome) Of(disk *FS, op Op, rnd *rand.Rand) *FS {
	if o.Keep < 0 {
		return disk.Killed()
	}
	cfg := CloneConfig{Keep: o.Keep, Torn: tornPercent, Rand: rnd}
	if o.Prefix >= 0 {
		cfg.Write, cfg.Prefix = op.Name, o.Prefix
	}
	return disk.Clone(cfg)
}

// String describes the outcome, as in "keep 50, after 512 bytes".
func (o Outcome) String() string {
	switch {
	case o.Prefix >= 0:
		return fmt.Sprintf("keep %d, after %d bytes", o.Keep, o.Prefix)
	case o.Keep < 0:
		return "killed"
	}
	return fmt.Sprintf("keep %d", o.Keep)
}
