package record_test

import (
	"bytes"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

func addSeeds(f *testing.F) {
	for _, c := range clientBatches(f) {
		f.Add([]byte(c.batch))
	}
	f.Add([]byte{})
	f.Add(make([]byte, record.HeaderLen))
	f.Add([]byte(forged(record.None, 1<<30, []byte{1, 2, 3})))
	f.Add([]byte(forged(record.Snappy, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f})))
}

// What Validate accepts, Split accepts whole, and the accessors do not panic.
func FuzzBatchValidate(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := record.Batch(raw)
		if b.Validate() != nil {
			return
		}
		if first, rest, ok := record.Split(raw); !ok || len(rest) != 0 || !bytes.Equal(first, raw) {
			t.Fatal("Split disagrees with Validate")
		}
		if b.LastOffset()-b.BaseOffset() != int64(b.LastOffsetDelta()) || int64(b.Count()) > int64(b.LastOffsetDelta())+1 {
			t.Fatalf("%d records, last offset delta %d", b.Count(), b.LastOffsetDelta())
		}
	})
}

// maxFuzzBytes is small, so that an over-allocation is seen as such.
const maxFuzzBytes = 1 << 16

// The Decoder on bytes whose CRC nobody has checked: no panic, no more memory
// than the limit allows, and what it reads can be written and read again.
func FuzzDecoder(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, _, ok := record.Split(raw)
		if !ok || b.ValidateHeader() != nil {
			return
		}
		d := record.Decoder{MaxBytes: maxFuzzBytes}
		if d.Reset(b) != nil {
			return
		}
		var w record.Builder
		var read []record.Record
		var r record.Record
		for {
			ok, err := d.Next(&r)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if len(r.Headers) > len(r.HeaderBlock) || len(r.Value) > maxFuzzBytes+len(raw) {
				t.Fatalf("%d headers of %d bytes, value of %d", len(r.Headers), len(r.HeaderBlock), len(r.Value))
			}
			kept := r
			kept.Headers, kept.HeaderBlock = append([]record.Header(nil), r.Headers...), nil
			read = append(read, kept)
			w.Add(&kept)
		}
		if len(read) != int(b.Count()) {
			t.Fatalf("%d records read, header says %d", len(read), b.Count())
		}
		again, err := w.Build(record.None)
		must(t, err)
		if len(read) == 0 {
			return
		}
		got, err := again.Records()
		must(t, err)
		for i := range got {
			got[i].Offset = read[i].Offset // a compacted batch has holes; a built one has none
		}
		sameRecords(t, got, read)
	})
}

func FuzzSplit(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		total := 0
		for b := range record.Batches(raw).All() {
			if len(b) < record.HeaderLen {
				t.Fatalf("a batch of %d bytes", len(b))
			}
			total += len(b)
		}
		if total > len(raw) {
			t.Fatalf("%d bytes of batches in %d", total, len(raw))
		}
		if _, _, ok := record.Split(raw[total:]); ok {
			t.Fatal("All stopped before a whole batch")
		}
	})
}
