package fleet

import (
	"math/bits"
	"sync"
)

// maxSeq bounds what a forged sequence number can make a Ledger allocate: 8 MB.
const maxSeq = 1 << 26

// Ledger is a set of readings: one bit for each. It is safe for concurrent use.
type Ledger struct {
	mu    sync.Mutex
	lanes []lane
}

type lane struct {
	set []uint64 // bit seq-1
	bad bool
}

func newLedger(devices int) *Ledger { return &Ledger{lanes: make([]lane, devices)} }

// NewLedger makes an empty set of readings of devices 0 to devices-1.
func NewLedger(devices int) *Ledger { return newLedger(devices) }

func (l *Ledger) add(device int, seq int64, bad bool) (added bool) {
	if device < 0 || device >= len(l.lanes) || seq < 1 || seq > maxSeq {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := &l.lanes[device]
	n.bad = bad
	word, bit := int((seq-1)/64), uint64(1)<<uint((seq-1)%64)
	for word >= len(n.set) {
		n.set = append(n.set, 0)
	}
	added = n.set[word]&bit == 0
	n.set[word] |= bit
	return added
}

// Add puts a reading in and reports whether it was new. A device or seq that
// cannot be is ignored and is never new.
func (l *Ledger) Add(device int, seq int64) bool { return l.add(device, seq, false) }

// Has reports whether the reading is in the set.
func (l *Ledger) Has(device int, seq int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if device < 0 || device >= len(l.lanes) || seq < 1 {
		return false
	}
	set := l.lanes[device].set
	return int((seq-1)/64) < len(set) && set[(seq-1)/64]&(1<<uint((seq-1)%64)) != 0
}

// Len is the number of valid readings in the set: those that were not made
// invalid on purpose.
func (l *Ledger) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int
	for i := range l.lanes {
		if l.lanes[i].bad {
			continue
		}
		for _, w := range l.lanes[i].set {
			n += bits.OnesCount64(w)
		}
	}
	return int64(n)
}

// Missing returns how many valid readings of l are not in other, and up to limit of them.
func (l *Ledger) Missing(other *Ledger, limit int) (count int64, some []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for device := range l.lanes {
		if l.lanes[device].bad {
			continue
		}
		for word, w := range l.lanes[device].set {
			for ; w != 0; w &= w - 1 {
				seq := int64(word*64+bits.TrailingZeros64(w)) + 1
				if other.Has(device, seq) {
					continue
				}
				if count++; len(some) < limit {
					some = append(some, Event{Device: device, Seq: seq})
				}
			}
		}
	}
	return count, some
}
