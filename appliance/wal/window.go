package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// windowBytes is what a window reads at once. It grows beyond that only for a
// round that is larger and known to be whole.
const windowBytes = 256 << 10

// window reads one file of the ring in chunks, so that recovery needs memory for
// the largest round and not for a file.
type window struct {
	f          *file
	size       int64
	buf        []byte
	start, end int64 // of the file's bytes that buf holds
}

func (g *ring) window(f *file) (*window, error) {
	size, err := f.f.Size()
	if err != nil {
		return nil, fmt.Errorf("wal: size of %s: %w", f.name, err)
	}
	if g.buf == nil {
		g.buf = make([]byte, windowBytes)
	}
	return &window{f: f, size: size, buf: g.buf}, nil
}

// at returns n bytes from pos on, fewer where the file ends. They are valid until
// the next call.
func (w *window) at(pos int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(0, w.size-pos)))
	if pos >= w.start && pos+int64(n) <= w.end {
		return w.buf[pos-w.start:][:n], nil
	}
	if n > len(w.buf) {
		w.buf = make([]byte, n)
	}
	k, err := w.f.f.ReadAt(w.buf, pos)
	if err != nil && err != io.EOF {
		w.start, w.end = 0, 0
		return nil, fmt.Errorf("wal: read %s at %d: %w", w.f.name, pos, err)
	}
	w.start, w.end = pos, pos+int64(k)
	return w.buf[:min(n, k)], nil
}

// parsed is a whole round.
type parsed struct {
	seq     uint64
	entries []byte // valid until the window is used again
	count   uint32
	size    int64 // padded
	synced  uint64
}

// round parses the round at pos; ok is false for anything but a whole round of
// this file. A nonce of 0 takes the round's own.
func (w *window) round(pos int64, nonce uint64) (r parsed, ok bool, err error) {
	b, err := w.at(pos, roundHeader)
	if err != nil || len(b) < roundHeader || binary.BigEndian.Uint32(b) != roundMagic {
		return r, false, err
	}
	if nonce == 0 {
		nonce = binary.BigEndian.Uint64(b[8:])
	}
	_, n, _ := roundFrame(b)
	if binary.BigEndian.Uint64(b[8:]) != nonce || n > w.size-pos-roundHeader {
		return r, false, nil
	}
	if roundHeader+n > int64(len(w.buf)) {
		// Memory for a round this large only if it is one.
		if ok, err := w.whole(pos, n, binary.BigEndian.Uint32(b[4:])); !ok {
			return r, false, err
		}
	}
	if b, err = w.at(pos, roundHeader+int(n)); err != nil {
		return r, false, err
	}
	seq, entries, count, size, ok := parseRound(b)
	return parsed{seq, entries, count, int64(size), binary.BigEndian.Uint64(b[32:])}, ok, nil
}

// whole checks the checksum of the round at pos piece by piece.
func (w *window) whole(pos, n int64, want uint32) (bool, error) {
	var sum uint32
	for at, end := pos+8, pos+roundHeader+n; at < end; {
		b, err := w.at(at, int(min(end-at, windowBytes)))
		if err != nil || len(b) == 0 {
			return false, err
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += int64(len(b))
	}
	return sum == want, nil
}

// roundFrame is what a round's header says of it, unchecked: its sequence, the
// length of its entries and their number.
func roundFrame(b []byte) (seq uint64, n int64, count uint32) {
	return binary.BigEndian.Uint64(b[16:]), int64(binary.BigEndian.Uint32(b[24:])), binary.BigEndian.Uint32(b[28:])
}
