package topic

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	"github.com/weirmq/weir/appliance/commitlog"
)

// The file, big endian: magic "WPS2", CRC-32C of what follows, then sections, each
// a tag (1), a length (4) and so many bytes. A section that is not known is kept.
//
//	1  whose: topic id (16), partition (4), and how often it was written (8)
//	2  log start (8)
//	3  leader epochs, each: epoch (4), start (8)
//	4  idempotent producers, each: id (8), epoch (2), batches (1), and of each batch
//	   first and last sequence (4, 4), base and end offset (8, 8)
//	5  sealed segments, each: base, end, bytes (8, 8, 8), of the first batch the base
//	   offset, leader epoch and CRC (8, 4, 4), flags (1)
//	6  lost records, each: first and next offset (8, 8), segment, bytes from and to
//	   (8, 8, 8), when, ms (8), flags (1), length of the cause (1), the cause
//	7  transactions: the offset up to which they are known (8), then each that is open:
//	   producer id (8), epoch (2), first offset (8)
//	8  aborted transactions, each: producer id, first offset, offset of the marker, last
//	   stable offset then (8, 8, 8, 8)
const (
	stateFile  = "partition.state"
	stateMagic = "WPS2"

	// maxStateBytes bounds what is read of a state file.
	maxStateBytes = 64 << 20

	sectionOwner     = 1
	sectionLogStart  = 2
	sectionEpochs    = 3
	sectionProducers = 4
	sectionSegments  = 5
	sectionLost      = 6
	sectionOpen      = 7
	sectionAborted   = 8
	sectionKnown     = sectionAborted

	sectionHeadLen = 5
	segmentIDLen   = 41
	lostLen        = 50

	flagCleaned  = 1
	flagReported = 1
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errState   = errors.New("partition state is damaged")
)

// encode writes the state of what lies below committed: a batch that is staged
// but not durable yet must not be taken for one that is in the log.
func (s *state) encode(committed int64) []byte {
	b := append(make([]byte, 8, 256), s.unknown...)
	copy(b, stateMagic)
	b = section(b, sectionOwner, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(append(b, s.owner.topic[:]...), uint32(s.owner.partition))
		return binary.BigEndian.AppendUint64(b, s.generation)
	})
	b = section(b, sectionLogStart, func(b []byte) []byte { return binary.BigEndian.AppendUint64(b, uint64(s.logStart)) })
	b = section(b, sectionEpochs, func(b []byte) []byte { return appendEpochs(b, s.epochs, committed) })
	b = section(b, sectionProducers, func(b []byte) []byte { return appendProducers(b, s.producers, committed) })
	b = section(b, sectionSegments, func(b []byte) []byte {
		for _, id := range s.segments {
			b = appendSegmentID(b, id)
		}
		return b
	})
	b = section(b, sectionLost, func(b []byte) []byte {
		for _, l := range s.lost {
			b = l.append(b)
		}
		return b
	})
	if s.transactions.next > 0 {
		b = section(b, sectionOpen, s.appendOpen)
		b = section(b, sectionAborted, s.appendAborted)
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func section(b []byte, tag byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, tag, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(b[at+1:], uint32(len(b)-at-sectionHeadLen))
	return b
}

func appendEpochs(b []byte, epochs []epochStart, committed int64) []byte {
	for _, e := range epochs {
		if e.start < committed {
			b = binary.BigEndian.AppendUint32(b, uint32(e.epoch))
			b = binary.BigEndian.AppendUint64(b, uint64(e.start))
		}
	}
	return b
}

func appendProducers(b []byte, ps producers, committed int64) []byte {
	for id, p := range ps {
		p = p.at(committed)
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
	return b
}

func appendSegmentID(b []byte, id commitlog.SegmentID) []byte {
	for _, n := range []int64{id.Base, id.End, id.Bytes, id.First} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(id.Epoch))
	b = binary.BigEndian.AppendUint32(b, id.CRC)
	return append(b, flag(id.Cleaned, flagCleaned))
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func decodeState(b []byte) (*state, error) {
	if len(b) < 8 || string(b[:4]) != stateMagic || crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, errState
	}
	s := newState(identity{})
	for b = b[8:]; len(b) > 0; {
		if len(b) < sectionHeadLen {
			return nil, errState
		}
		n := int64(binary.BigEndian.Uint32(b[1:])) + sectionHeadLen
		if n > int64(len(b)) || !s.decodeSection(b[0], b[sectionHeadLen:n]) {
			return nil, errState
		}
		if b[0] > sectionKnown {
			s.unknown = append(s.unknown, b[:n]...)
		}
		b = b[n:]
	}
	for id, o := range s.open {
		if s.producers[id] == nil {
			s.producers[id] = newProducer(o.epoch)
		}
		s.producers[id].txn = o.first
	}
	return s, nil
}

// decodeSection reports whether the section makes sense.
func (s *state) decodeSection(tag byte, b []byte) bool {
	switch tag {
	case sectionOwner:
		if len(b) != 28 {
			return false
		}
		s.owner, s.generation = identity{ID(b[:16]), int32(binary.BigEndian.Uint32(b[16:]))}, binary.BigEndian.Uint64(b[20:])
	case sectionLogStart:
		if len(b) != 8 {
			return false
		}
		s.logStart = int64(binary.BigEndian.Uint64(b))
		return s.logStart >= 0
	case sectionEpochs:
		for ; len(b) >= 12; b = b[12:] {
			s.epochs = append(s.epochs, epochStart{int32(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint64(b[4:]))})
		}
		return len(b) == 0
	case sectionProducers:
		return s.decodeProducers(b)
	case sectionSegments:
		for ; len(b) >= segmentIDLen; b = b[segmentIDLen:] {
			s.segments = append(s.segments, decodeSegmentID(b))
		}
		slices.SortStableFunc(s.segments, func(a, b commitlog.SegmentID) int { return cmp.Compare(a.Base, b.Base) })
		return len(b) == 0
	case sectionOpen:
		return s.decodeOpen(b)
	case sectionAborted:
		return s.decodeAborted(b)
	case sectionLost:
		for len(b) >= lostLen && len(b) >= lostLen+int(b[lostLen-1]) {
			var l lost
			l, b = decodeLost(b)
			s.lost = append(s.lost, l)
		}
		return len(b) == 0
	}
	return true
}

func (s *state) decodeProducers(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 11 || int(b[10]) > producerWindow || len(b) < 11+24*int(b[10]) {
			return false
		}
		p := newProducer(int16(binary.BigEndian.Uint16(b[8:])))
		p.n = int(b[10])
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
	return true
}

func decodeSegmentID(b []byte) commitlog.SegmentID {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	return commitlog.SegmentID{Base: at(0), End: at(8), Bytes: at(16), First: at(24),
		Epoch: int32(binary.BigEndian.Uint32(b[32:])), CRC: binary.BigEndian.Uint32(b[36:]), Cleaned: b[40]&flagCleaned != 0}
}
