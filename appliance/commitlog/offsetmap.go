package commitlog

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	// offsetMapEntry is what one key costs: a hash of it (16) and an offset (8). The
	// key itself is not kept. The hash is a cryptographic one, since two keys that
	// share it lose a record; who may choose keys must not be able to find such two.
	offsetMapEntry = 16 + 8

	// offsetMapLoad, in percent, is how full the map may get: beyond it looking for a
	// key that is not there takes long.
	offsetMapLoad = 75
)

// offsetMap holds the offset of the last record of each key, in memory that is
// fixed from the start.
type offsetMap struct {
	slots []byte // entries; offset+1, so that zeros are a free slot
	count int
	max   int
}

// reset empties the map and gives it room for keys, but takes no more than
// maxBytes. The memory is used again.
func (m *offsetMap) reset(keys int64, maxBytes int) {
	slots := max(int64(maxBytes)/offsetMapEntry, 2)
	if need := keys*100/offsetMapLoad + 2; keys < slots && need < slots {
		slots = need
	}
	n := int(slots) * offsetMapEntry
	if cap(m.slots) >= n {
		m.slots = m.slots[:n]
		clear(m.slots)
	} else {
		m.slots = make([]byte, n)
	}
	m.count, m.max = 0, max(int(slots*offsetMapLoad/100), 1)
}

// put notes that key is at offset, which must be greater than any before. It
// returns false when there is no room for another key.
func (m *offsetMap) put(key []byte, offset int64) bool {
	h := hashKey(key)
	slot, found := m.find(&h)
	if !found {
		if m.count >= m.max {
			return false
		}
		m.count++
		copy(slot, h[:])
	}
	binary.BigEndian.PutUint64(slot[16:], uint64(offset)+1)
	return true
}

// last is the greatest offset of key; -1 when it is not in the map.
func (m *offsetMap) last(key []byte) int64 {
	if m.count == 0 {
		return -1
	}
	h := hashKey(key)
	slot, found := m.find(&h)
	if !found {
		return -1
	}
	return int64(binary.BigEndian.Uint64(slot[16:])) - 1
}

// find returns the slot of a hash, or the free one where it belongs.
func (m *offsetMap) find(h *[16]byte) (slot []byte, found bool) {
	n := uint64(len(m.slots) / offsetMapEntry)
	for i := binary.BigEndian.Uint64(h[:]) % n; ; i = (i + 1) % n {
		slot = m.slots[i*offsetMapEntry : (i+1)*offsetMapEntry]
		if binary.BigEndian.Uint64(slot[16:]) == 0 {
			return slot, false
		}
		if [16]byte(slot[:16]) == *h {
			return slot, true
		}
	}
}

func hashKey(key []byte) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}
