package record

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed, by Kafka's numbers.
type Codec int8

const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String returns Kafka's name for the codec.
func (c Codec) String() string {
	if c < 0 || int(c) >= len(codecNames) {
		return fmt.Sprintf("codec(%d)", int8(c))
	}
	return codecNames[c]
}

// CodecByName is the inverse of String.
func CodecByName(name string) (Codec, error) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return 0, fmt.Errorf("%w: %q is none of none, gzip, snappy, lz4, zstd", ErrUnsupportedCodec, name)
}

// DefaultMaxDecompressed bounds what one batch may decompress to, in bytes, unless
// LimitDecompressed said otherwise. A 1 MB zstd batch can hold 32 GB of zeros; nobody's
// records do.
const DefaultMaxDecompressed = 32 << 20

var maxDecompressed atomic.Int64

// LimitDecompressed sets what one batch may decompress to, in bytes, in the whole process
// and wherever a Decoder does not say. It is to be called before anything is decompressed.
func LimitDecompressed(n int64) { maxDecompressed.Store(n) }

func decompressLimit() int { return int(cmp.Or(maxDecompressed.Load(), DefaultMaxDecompressed)) }

// xerialMagic opens the framing that Java clients put around snappy blocks; other
// clients send one bare block. Both are read, the framed form is written.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeaderLen = 16
	xerialBlockSize = 32 << 10
)

// decompress appends the plain form of src to dst and refuses to make more than
// limit bytes of it.
func (c Codec) decompress(dst, src []byte, limit int) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return unsnappy(dst, src, limit)
	case Gzip:
		zr, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return dst, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
		}
		defer zr.Close()
		return readBounded(dst, zr, limit, c)
	case LZ4:
		zr := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(zr)
		zr.Reset(bytes.NewReader(src))
		return readBounded(dst, zr, limit, c)
	case Zstd:
		zr := zstdReaders.Get().(*zstd.Decoder)
		defer zstdReaders.Put(zr)
		if err := zr.Reset(bytes.NewReader(src)); err != nil {
			return dst, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
		}
		return readBounded(dst, zr, limit, c)
	}
	return dst, fmt.Errorf("%w: %d", ErrUnsupportedCodec, c)
}

var (
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(decompressLimit(), DefaultMaxDecompressed))))
		if err != nil {
			panic("record: internal error: " + err.Error())
		}
		return d
	}}
	zstdWriter = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic("record: internal error: " + err.Error())
		}
		return e
	})
)

// readBounded grows dst only as bytes really arrive, so a forged size allocates nothing.
func readBounded(dst []byte, r io.Reader, limit int, c Codec) ([]byte, error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst, fmt.Errorf("%w: %s batch decompresses to more than %d bytes", ErrTooLarge, c, limit)
		}
		switch {
		case err == io.EOF:
			return dst, nil
		case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return dst, fmt.Errorf("%w: %s batch: %w", ErrTooLarge, c, err)
		case err != nil:
			return dst, fmt.Errorf("%w: %s: %w", ErrCorrupt, c, err)
		}
	}
}

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeaderLen {
		return dst, fmt.Errorf("%w: snappy: framing cut short", ErrCorrupt)
	}
	start := len(dst)
	for src = src[xerialHeaderLen:]; len(src) > 0; {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: snappy: block length cut short", ErrCorrupt)
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return dst, fmt.Errorf("%w: snappy: block of %d bytes, %d left", ErrCorrupt, n, len(src))
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return dst, fmt.Errorf("%w: snappy: %w", ErrCorrupt, err)
	}
	// Snappy expands at most about 21 times, so a longer claim is a lie.
	if n > limit || n > 32*len(src)+64 {
		return dst, fmt.Errorf("%w: snappy block claims %d bytes, limit %d", ErrTooLarge, n, limit)
	}
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(dst, make([]byte, n)...)[:at]
	}
	out, err := s2.Decode(dst[at:at:at+n], src)
	if err != nil {
		return dst, fmt.Errorf("%w: snappy: %w", ErrCorrupt, err)
	}
	if n > 0 && &out[0] != &dst[at : at+1][0] {
		return append(dst, out...), nil
	}
	return dst[:at+n], nil
}

// compress appends the compressed form of src to dst.
func (c Codec) compress(dst, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return xerialSnappy(dst, src), nil
	case Zstd:
		return zstdWriter().EncodeAll(src, dst), nil
	case Gzip, LZ4:
		buf := bytes.NewBuffer(dst)
		var zw io.WriteCloser
		if c == Gzip {
			zw, _ = gzip.NewWriterLevel(buf, gzip.BestSpeed)
		} else {
			w := lz4.NewWriter(buf)
			if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
				return dst, fmt.Errorf("record: lz4: %w", err)
			}
			zw = w
		}
		if _, err := zw.Write(src); err != nil {
			return dst, fmt.Errorf("record: %s: %w", c, err)
		}
		if err := zw.Close(); err != nil {
			return dst, fmt.Errorf("record: %s: %w", c, err)
		}
		return buf.Bytes(), nil
	}
	return dst, fmt.Errorf("%w: %d", ErrUnsupportedCodec, c)
}

func xerialSnappy(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1) // version 1, compatible with 1
	for len(src) > 0 {
		n := min(len(src), xerialBlockSize)
		block := s2.EncodeSnappy(nil, src[:n])
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
		dst = append(dst, block...)
		src = src[n:]
	}
	return dst
}
