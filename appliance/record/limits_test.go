package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/weirmq/weir/appliance/record"
)

// allocated is the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bomb is size zeros, made by the libraries directly.
func bomb(t *testing.T, codec record.Codec, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case record.Gzip:
		w, _ = gzip.NewWriterLevel(&buf, gzip.BestCompression)
	case record.LZ4:
		w = lz4.NewWriter(&buf)
	case record.Zstd:
		zw, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		must(t, err)
		w = zw
	case record.Snappy:
		return s2.EncodeSnappy(nil, make([]byte, size))
	}
	zeros := make([]byte, 1<<20)
	for ; size > 0; size -= len(zeros) {
		_, err := w.Write(zeros)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

func TestBombsAreBounded(t *testing.T) {
	// A reader that the collector took from its pool is made again, windows and all.
	const size, limit, window = 64 << 20, 1 << 20, 16 << 20
	for _, codec := range codecs[1:] {
		payload := bomb(t, codec, size)
		b := forged(codec, 1, payload)
		d := record.Decoder{MaxBytes: limit}
		// The pools' readers and their windows are made once; what counts is the second time.
		if err := d.Reset(b); err == nil {
			t.Fatalf("%s: a bomb was accepted", codec)
		}
		d = record.Decoder{MaxBytes: limit}
		var err error
		got := allocated(func() { err = d.Reset(b) })
		if !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", codec, err)
		}
		// Growing to the limit costs less than 8 times the limit, whatever the bomb claims.
		if got > 8*limit+window {
			t.Errorf("%s: %d MiB allocated for a limit of 1 MiB", codec, got>>20)
		}
		var r record.Record
		if ok, err := d.Next(&r); ok {
			t.Errorf("%s: Next after a failed Reset: %v, %v", codec, ok, err)
		}
		t.Logf("%s: %d bytes would be %d MiB: %v, %d KiB allocated", codec, len(payload), size>>20, err, got>>10)
	}
}

func TestDefaultLimit(t *testing.T) {
	for _, codec := range codecs[1:] {
		b := forged(codec, 1, bomb(t, codec, record.DefaultMaxDecompressed+1<<20))
		if _, err := b.Records(); !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", codec, err)
		}
	}
}

// Just under the limit is no bomb.
func TestLimitIsNotExceededByHonestBatches(t *testing.T) {
	value := make([]byte, 1<<20)
	for _, codec := range codecs {
		b, err := record.NewBatch(codec, record.Record{Value: value})
		must(t, err)
		d := record.Decoder{MaxBytes: 1<<20 + 64}
		must(t, d.Reset(b))
		var r record.Record
		if ok, err := d.Next(&r); !ok || err != nil || len(r.Value) != len(value) {
			t.Errorf("%s: %v, %v", codec, ok, err)
		}
	}
}

// Small frames that claim to be giant.
func TestForgedSizesInsideCompression(t *testing.T) {
	xerial := append([]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}, 0, 0, 0, 1, 0, 0, 0, 1)
	for what, c := range map[string]struct {
		codec   record.Codec
		payload []byte
	}{
		"snappy block of 4 GiB":     {record.Snappy, binary.AppendUvarint(nil, 1<<32-1)},
		"snappy block of 30 MiB":    {record.Snappy, append(binary.AppendUvarint(nil, 30<<20), 0, 0)},
		"xerial block of 2 GiB":     {record.Snappy, append(bytes.Clone(xerial), 0x7f, 0xff, 0xff, 0xff, 0)},
		"xerial negative block":     {record.Snappy, append(bytes.Clone(xerial), 0xff, 0xff, 0xff, 0xff, 0)},
		"xerial cut short":          {record.Snappy, xerial[:10]},
		"xerial length cut short":   {record.Snappy, append(bytes.Clone(xerial), 0, 0)},
		"zstd window of 3.75 TiB":   {record.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00}},
		"zstd content of 1 EiB":     {record.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0x00, 0x00}},
		"zstd garbage":              {record.Zstd, []byte("not zstd at all")},
		"gzip garbage":              {record.Gzip, []byte("not gzip at all")},
		"gzip cut short":            {record.Gzip, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}},
		"lz4 garbage":               {record.LZ4, []byte("not lz4 at all")},
		"lz4 block of 2 GiB":        {record.LZ4, []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 0xff, 0xff, 0xff, 0x7f}},
		"nothing, as gzip":          {record.Gzip, nil},
		"nothing, as framed snappy": {record.Snappy, xerial},
	} {
		b := forged(c.codec, 1, c.payload)
		b.Records() // fills the pools
		var err error
		if got := allocated(func() { _, err = b.Records() }); got > 256<<10 {
			t.Errorf("%s: %d KiB allocated for %d bytes", what, got>>10, len(c.payload))
		}
		if !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A Decoder and a Builder in use allocate nothing per record or batch, where the
// codec's library allows it.
func TestAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("counts allocations, which the race detector's pools change")
	}
	records := clientRecords()
	var w record.Builder
	build := func(codec record.Codec) record.Batch {
		w.Reset()
		for i := range records {
			w.Add(&records[i])
		}
		b, err := w.Build(codec)
		must(t, err)
		return b
	}
	for codec, most := range map[record.Codec]struct{ build, decode, raw float64 }{
		record.None:   {0, 2, 0}, // two header keys become strings
		record.Zstd:   {0, 4, 2},
		record.LZ4:    {20, 6, 4},
		record.Gzip:   {30, 12, 10},
		record.Snappy: {2, 2, 0},
	} {
		build(codec)
		if got := testing.AllocsPerRun(100, func() { build(codec) }); got > most.build {
			t.Errorf("%s: building costs %v allocations, at most %v wanted", codec, got, most.build)
		}
		b := record.Batch(bytes.Clone(build(codec)))
		for _, raw := range []bool{false, true} {
			d := record.Decoder{RawHeaders: raw}
			decode := func() {
				var r record.Record
				must(t, d.Reset(b))
				for ok := true; ok; {
					var err error
					ok, err = d.Next(&r)
					must(t, err)
				}
			}
			decode()
			limit := most.decode
			if raw {
				limit = most.raw
			}
			if got := testing.AllocsPerRun(100, decode); got > limit {
				t.Errorf("%s: decoding (raw headers %v) costs %v allocations, at most %v wanted", codec, raw, got, limit)
			}
		}
	}
}

func TestLimitDecompressed(t *testing.T) {
	defer record.LimitDecompressed(0)
	for _, codec := range codecs[1:] {
		b := forged(codec, 1, bomb(t, codec, record.DefaultMaxDecompressed/2))
		record.LimitDecompressed(1 << 20)
		if _, err := b.Records(); !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v with a limit of 1 MiB, want ErrTooLarge", codec, err)
		}
		record.LimitDecompressed(0)
		if _, err := b.Records(); errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v with the default limit", codec, err)
		}
	}
}
