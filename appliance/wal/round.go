package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// A round on disk, big endian, padded with zeros to a multiple of blockBytes:
//
//	offset size
//	 0     4   magic "WRND"
//	 4     4   CRC-32C of all that follows, padding excluded
//	 8     8   nonce of the file
//	16     8   sequence, one more than the round before
//	24     4   length of the entries
//	28     4   number of entries
//	32     8   sequence of the last round that was durable when this one was written
//	40     …   entries, each: length (4), bytes
//
// A round that is missing below the durable one of a later round was acknowledged, and
// is damage. One above it was written without a sync: a power cut may take it and
// leave the later one, and neither was promised to survive it.
const (
	roundMagic  = 0x57524e44
	roundHeader = 40
	entryPrefix = 4
	blockBytes  = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// round is one commit round in memory, laid out as it is written.
type round struct {
	buf     []byte
	entries []staged
	payload int // bytes of entries without their framing

	relaxed  int   // entries that are told before the sync
	bounds   Relax // of those
	last     uint64
	place    Place // where it was written
	rounds   int   // written ones whose content this is
	gathered bool  // by absorb
}

// staged is an entry of a round: where its bytes are and who waits.
type staged struct {
	start, end int
	sink       Sink
	tag        any
	relaxed    bool // told before the sync
	told       bool
}

func newRound() *round {
	return &round{buf: make([]byte, roundHeader, 16*blockBytes)}
}

// fits reports whether n more bytes leave the round within limit. An empty round
// takes anything that Begin let through.
func (r *round) fits(n, limit int) bool {
	return len(r.entries) == 0 || len(r.buf)+n <= limit
}

func (r *round) add(n int, s Sink, tag any) []byte {
	at := len(r.buf)
	r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(n))
	if need := len(r.buf) + n; need > cap(r.buf) {
		// One block of slack: seal pads to a block without growing again.
		grown := make([]byte, len(r.buf), max(2*cap(r.buf), need+blockBytes))
		copy(grown, r.buf)
		r.buf = grown
	}
	r.buf = r.buf[:at+entryPrefix+n]
	r.entries = append(r.entries, staged{start: at + entryPrefix, end: at + entryPrefix + n, sink: s, tag: tag})
	r.payload += n
	return r.buf[at+entryPrefix:]
}

// seal fills in the header and pads to whole blocks.
func (r *round) seal(nonce, seq, durable uint64) {
	end := len(r.buf)
	b := r.buf
	binary.BigEndian.PutUint32(b[0:], roundMagic)
	binary.BigEndian.PutUint64(b[8:], nonce)
	binary.BigEndian.PutUint64(b[16:], seq)
	binary.BigEndian.PutUint32(b[24:], uint32(end-roundHeader))
	binary.BigEndian.PutUint32(b[28:], uint32(len(r.entries)))
	binary.BigEndian.PutUint64(b[32:], durable)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:end], castagnoli))
	for len(r.buf)%blockBytes != 0 {
		pad := min(blockBytes-len(r.buf)%blockBytes, len(zeros))
		r.buf = append(r.buf, zeros[:pad]...)
	}
}

var zeros [blockBytes]byte

func (r *round) finish(err error) {
	for i := range r.entries {
		if e := &r.entries[i]; !e.told {
			e.sink.Done(r.buf[e.start:e.end], e.tag, err)
		}
	}
}

func (r *round) reset() {
	clear(r.entries) // let go of sinks and tags
	*r = round{buf: r.buf[:roundHeader], entries: r.entries[:0]}
}

// parseRound checks the round at the start of b. ok is false for anything but a
// whole round, of whatever file; size is the padded length.
func parseRound(b []byte) (seq uint64, entries []byte, count uint32, size int, ok bool) {
	if len(b) < roundHeader || binary.BigEndian.Uint32(b) != roundMagic {
		return 0, nil, 0, 0, false
	}
	n := int64(binary.BigEndian.Uint32(b[24:]))
	if n > int64(len(b)-roundHeader) {
		return 0, nil, 0, 0, false
	}
	end := roundHeader + int(n)
	if crc32.Checksum(b[8:end], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return 0, nil, 0, 0, false
	}
	size = (end + blockBytes - 1) / blockBytes * blockBytes
	return binary.BigEndian.Uint64(b[16:]), b[roundHeader:end], binary.BigEndian.Uint32(b[28:]), size, true
}

// eachEntry calls fn for the entries of a round that parseRound accepted.
func eachEntry(entries []byte, count uint32, fn func(entry []byte) error) error {
	for range count {
		if len(entries) < entryPrefix {
			return errEntries
		}
		n := int64(binary.BigEndian.Uint32(entries))
		if n > int64(len(entries)-entryPrefix) {
			return errEntries
		}
		if err := fn(entries[entryPrefix : entryPrefix+n]); err != nil {
			return err
		}
		entries = entries[entryPrefix+n:]
	}
	if len(entries) != 0 {
		return errEntries
	}
	return nil
}
