package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

func TestRoundTrip(t *testing.T) {
	for _, codec := range codecs {
		for seed := range uint64(30) {
			t.Run(fmt.Sprintf("%s seed=%d", codec, seed), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				want := randomRecords(rnd)
				b, err := record.NewBatch(codec, want...)
				must(t, err)
				must(t, b.Validate())
				if b.Codec() != codec || int(b.Count()) != len(want) || b.ProducerID() != record.NoProducerID {
					t.Fatalf("codec %s, %d records, producer %d", b.Codec(), b.Count(), b.ProducerID())
				}
				base := rnd.Int64N(1 << 50)
				b.SetBaseOffset(base)
				for i := range want {
					want[i].Offset = base + int64(i)
				}
				got, err := b.Records()
				must(t, err)
				sameRecords(t, got, want)
			})
		}
	}
}

// A batch decoded with RawHeaders and built again is the same bytes.
func TestHeaderBlockPassesThrough(t *testing.T) {
	for _, codec := range codecs {
		b, err := record.NewBatch(codec, clientRecords()...)
		must(t, err)
		d, w := record.Decoder{RawHeaders: true}, record.Builder{}
		must(t, d.Reset(b))
		var r record.Record
		for {
			ok, err := d.Next(&r)
			must(t, err)
			if !ok {
				break
			}
			if r.Headers != nil {
				t.Fatal("RawHeaders parsed the headers")
			}
			w.Add(&r)
		}
		again, err := w.Build(codec)
		must(t, err)
		if !bytes.Equal(again, b) {
			t.Errorf("%s: rebuilt batch differs", codec)
		}
	}
}

func TestBuilderIsReusable(t *testing.T) {
	var w record.Builder
	if b, err := w.Build(record.Zstd); b != nil || err != nil {
		t.Fatalf("an empty Builder builds %v, %v", b, err)
	}
	records := clientRecords()
	for _, codec := range append(codecs, codecs...) {
		w.Reset()
		for i := range records {
			w.Add(&records[i])
		}
		if codec == record.None {
			b, err := w.Build(codec)
			must(t, err)
			if len(b) != w.Size() || w.Len() != len(records) {
				t.Fatalf("Size %d, Len %d; batch of %d bytes", w.Size(), w.Len(), len(b))
			}
		}
		b, err := w.Build(codec)
		must(t, err)
		got, err := b.Records()
		must(t, err)
		sameRecords(t, got, records)
	}
}

func TestLogAppendTime(t *testing.T) {
	b, err := record.NewBatch(record.None, clientRecords()...)
	must(t, err)
	b[22] |= 0x08
	got, err := b.Records()
	must(t, err)
	for _, r := range got {
		if r.Timestamp != b.MaxTimestamp() {
			t.Fatalf("timestamp %d, want the batch's %d", r.Timestamp, b.MaxTimestamp())
		}
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	for _, c := range clientBatches(t) {
		if c.client != "java" {
			continue
		}
		for i := range len(c.batch) * 8 {
			if at := i / 8; at < 8 || at >= 12 && at < 16 {
				continue // base offset and leader epoch are the log's
			}
			b := record.Batch(bytes.Clone(c.batch))
			b[i/8] ^= 1 << (i % 8)
			if err := b.Validate(); !errors.Is(err, record.ErrCorrupt) {
				t.Fatalf("%s: bit %d flipped: %v", c.codec, i, err)
			}
		}
		for n := range c.batch {
			if err := c.batch[:n].Validate(); !errors.Is(err, record.ErrCorrupt) {
				t.Fatalf("%s: cut to %d bytes: %v", c.codec, n, err)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	one, err := record.NewBatch(record.None, record.Record{Value: []byte("one")})
	must(t, err)
	two, err := record.NewBatch(record.Gzip, record.Record{Value: []byte("two")})
	must(t, err)
	all := append(append([]byte{}, one...), two...)
	var got []record.Batch
	for b := range record.Batches(all).All() {
		got = append(got, b)
	}
	if len(got) != 2 || !bytes.Equal(got[0], one) || !bytes.Equal(got[1], two) {
		t.Fatalf("%d batches", len(got))
	}
	if cap(got[0]) != len(got[0]) {
		t.Error("appending to a batch would overwrite the next")
	}
	for n := range all {
		var count int
		for range record.Batches(all[:n]).All() {
			count++
		}
		if want := min(n/len(one), 1); count != want {
			t.Fatalf("%d batches in the first %d bytes, want %d", count, n, want)
		}
	}
	for _, length := range []uint32{0, 48, math.MaxInt32, math.MaxUint32 - 11, math.MaxUint32} {
		bad := bytes.Clone(one)
		binary.BigEndian.PutUint32(bad[8:], length)
		if _, rest, ok := record.Split(bad); ok || len(rest) != len(bad) {
			t.Errorf("length field %d was accepted", length)
		}
	}
}

// Giant counts and lengths in a batch with a good CRC: an error, and no memory
// that the bytes did not pay for.
func TestForgedLengths(t *testing.T) {
	for what, payload := range map[string][]byte{
		"record length":        binary.AppendVarint(nil, math.MaxInt32),
		"negative length":      binary.AppendVarint(nil, -5),
		"endless varint":       bytes.Repeat([]byte{0xff}, 20),
		"key length":           recordOf(0, 0, 0, varint(math.MaxInt64)...),
		"negative key length":  recordOf(0, 0, 0, varint(-2)...),
		"value length":         recordOf(0, 0, 0, append(varint(-1), varint(1<<40)...)...),
		"header count":         recordOf(0, 0, 0, append([]byte{1, 1}, varint(1<<31)...)...),
		"negative headers":     recordOf(0, 0, 0, append([]byte{1, 1}, varint(-1)...)...),
		"header key is null":   recordOf(0, 0, 0, 1, 1, 2, 1, 1),
		"header key length":    recordOf(0, 0, 0, append([]byte{1, 1, 2}, varint(1<<30)...)...),
		"bytes after headers":  recordOf(0, 0, 0, 1, 1, 0, 0),
		"offset delta":         append(varint(10), append([]byte{0, 0}, varint(1<<33)...)...),
		"nothing":              {},
		"bytes after the last": append(recordOf(0, 0, 0, 1, 1, 0), 0),
	} {
		b := forged(record.None, 1, payload)
		must(t, b.Validate())
		var err error
		if got := allocated(func() { _, err = b.Records() }); got > 4096 {
			t.Errorf("%s: %d bytes allocated", what, got)
		}
		if !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", what, err)
		}
	}
	b := forged(record.None, math.MaxInt32, recordOf(0, 0, 0, 1, 1, 0))
	if _, err := b.Records(); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("record count: %v, want ErrCorrupt", err)
	}
}

func TestUnknownCodec(t *testing.T) {
	for _, codec := range []record.Codec{5, 6, 7} {
		if _, err := forged(codec, 1, []byte{1}).Records(); !errors.Is(err, record.ErrUnsupportedCodec) {
			t.Errorf("codec %d: %v", codec, err)
		}
	}
	if _, err := record.CodecByName("brotli"); !errors.Is(err, record.ErrUnsupportedCodec) {
		t.Errorf("brotli: %v", err)
	}
	for _, codec := range codecs {
		if c, err := record.CodecByName(codec.String()); c != codec || err != nil {
			t.Errorf("CodecByName(%q) = %v, %v", codec, c, err)
		}
	}
}

// forged is a batch with a good header and CRC around any payload.
func forged(codec record.Codec, count int32, payload []byte) record.Batch {
	b := make(record.Batch, record.HeaderLen, record.HeaderLen+len(payload))
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-record.PrefixLen))
	b[16], b[22] = 2, byte(codec)
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	b.SetProducer(-1, -1, -1) // computes the CRC
	return b
}

// recordOf is a record with a true length: attributes, timestamp and offset
// delta, and the rest.
func recordOf(attributes byte, timestamp, offset int64, rest ...byte) []byte {
	body := append([]byte{attributes}, varint(timestamp)...)
	body = append(append(body, varint(offset)...), rest...)
	return append(varint(int64(len(body))), body...)
}

func varint(v int64) []byte { return binary.AppendVarint(nil, v) }

func randomRecords(rnd *rand.Rand) []record.Record {
	records := make([]record.Record, 1+rnd.IntN(50))
	for i := range records {
		r := &records[i]
		r.Timestamp = 1_700_000_000_000 + rnd.Int64N(10_000) - 5_000
		r.Key, r.Value = randomBytes(rnd, 30), randomBytes(rnd, 3000)
		for range rnd.IntN(4) {
			r.Headers = append(r.Headers, record.Header{Key: string(randomBytes(rnd, 10)), Value: randomBytes(rnd, 20)})
		}
	}
	return records
}

// randomBytes is null, random, or compressible.
func randomBytes(rnd *rand.Rand, most int) []byte {
	n := rnd.IntN(most)
	switch rnd.IntN(3) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{byte(n)}, n)
	}
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}
