package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

// makeBatches is a stretch of a log: batches of all codecs and sizes, some with
// holes as compaction leaves them, some large enough to pass as they are.
func makeBatches(t testing.TB, rng *rand.Rand, n int) (raw record.Batches, want []record.Record) {
	t.Helper()
	offset := rng.Int64N(1000)
	for range n {
		var w record.Builder
		count := 1 + rng.IntN(30)
		var rs []record.Record
		for i := range count {
			value := make([]byte, rng.IntN(1+rng.IntN(3000)))
			for j := range value {
				value[j] = byte(rng.Uint32())
			}
			r := record.Record{Timestamp: rng.Int64N(1 << 40), Value: value, Headers: []record.Header{{Key: "h", Value: []byte{byte(i)}}}}
			if rng.IntN(3) > 0 {
				r.Key = []byte{1, byte(i)}
			}
			w.Add(&r)
			r.Offset = offset + int64(i)
			rs = append(rs, r)
		}
		b, err := w.Build(record.Codec(rng.IntN(5)))
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(offset)
		offset = b.NextOffset()
		raw = append(raw, b...)
		want = append(want, rs...)
		if rng.IntN(8) == 0 {
			offset += rng.Int64N(5) // a hole between batches
		}
	}
	return raw, want
}

func sameRecord(a, b *record.Record) bool {
	return a.Timestamp == b.Timestamp && bytes.Equal(a.Key, b.Key) && (a.Key == nil) == (b.Key == nil) && bytes.Equal(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y record.Header) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

// Whatever is packed, split and counted: the same records, in order, and offsets that resume right.
func TestPackKeepsEveryRecord(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		raw, want := makeBatches(t, rng, 40)
		from := want[rng.IntN(len(want))].Offset
		want = slices.DeleteFunc(want, func(r record.Record) bool { return r.Offset < from })
		p := packer{codec: record.LZ4}
		wires, next, err := p.pack(nil, slices.Clone(raw), from)
		if err != nil || next != want[len(want)-1].Offset+1 {
			t.Fatalf("seed %d: next %d, %v", seed, next, err)
		}
		i := 0
		for _, x := range wires {
			if x.count > 1 && rng.IntN(2) == 0 {
				halves, err := p.split(x)
				if err != nil || len(halves) != 2 || halves[0].count+halves[1].count != x.count {
					t.Fatalf("seed %d: split of %d: %v, %v", seed, x.count, halves, err)
				}
				i = checkWire(t, seed, halves[0], want, i, false)
				i = checkWire(t, seed, halves[1], want, i, false)
				continue
			}
			i = checkWire(t, seed, x, want, i, true)
		}
		if i != len(want) {
			t.Fatalf("seed %d: %d records packed, want %d", seed, i, len(want))
		}
	}
}

func checkWire(t *testing.T, seed uint64, x wire, want []record.Record, i int, offsets bool) int {
	t.Helper()
	if err := x.batch.Validate(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	got, err := x.batch.Records()
	if err != nil || int64(len(got)) != x.count || x.batch.BaseOffset() != 0 || x.batch.LastOffsetDelta()+1 != x.batch.Count() {
		t.Fatalf("seed %d: wire of %d records has %d: %v", seed, x.count, len(got), err)
	}
	if offsets && (x.first != want[i].Offset || x.next != want[i+len(got)-1].Offset+1) {
		t.Fatalf("seed %d: wire spans [%d, %d), its records [%d, %d]", seed, x.first, x.next, want[i].Offset, want[i+len(got)-1].Offset)
	}
	for j := range got {
		if !sameRecord(&got[j], &want[i+j]) {
			t.Fatalf("seed %d: record %d: %+v, want %+v", seed, i+j, got[j], want[i+j])
		}
	}
	return i + len(got)
}

func TestLargeBatchesPassUntouched(t *testing.T) {
	b, err := record.NewBatch(record.None, record.Record{Value: bytes.Repeat([]byte("x"), smallBatchBytes)})
	if err != nil {
		t.Fatal(err)
	}
	b.SetBaseOffset(7)
	var p packer
	wires, next, err := p.pack(nil, record.Batches(b), 7)
	if err != nil || next != 8 || len(wires) != 1 || &wires[0].batch[0] != &b[0] || wires[0].first != 7 || wires[0].next != 8 {
		t.Fatalf("%+v, next %d, %v", wires, next, err)
	}
}

func TestPackStopsBeforeABadBatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	raw, want := makeBatches(t, rng, 3)
	first, rest, _ := record.Split(raw)
	rest[record.HeaderLen] ^= 0xff
	var p packer
	wires, next, err := p.pack(nil, raw, 0)
	var bad *errPack
	if !errors.As(err, &bad) || !errors.Is(err, record.ErrCorrupt) {
		t.Fatalf("error %v", err)
	}
	if second := record.Batch(rest).BaseOffset(); next != second || bad.first != second || bad.next != record.Batch(rest).NextOffset() {
		t.Fatalf("reads on at %d, bad [%d, %d)", next, bad.first, bad.next)
	}
	var n int64
	for i := range wires {
		n += wires[i].count
	}
	if n != int64(first.Count()) || len(want) <= int(n) {
		t.Fatalf("%d records before the bad batch, want %d", n, first.Count())
	}
}

func FuzzPack(f *testing.F) {
	for c := record.None; c <= record.Zstd; c++ {
		b, err := record.NewBatch(c, record.Record{Key: []byte("k"), Value: []byte("value")}, record.Record{Headers: []record.Header{{Key: "h"}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(slices.Concat([]byte(b), []byte(b)), int64(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, from int64) {
		raw = bytes.Clone(raw)
		for b := range record.Batches(raw).All() { // mend CRCs, or nothing gets past them
			if len(b) >= record.HeaderLen && b.Magic() == 2 {
				b.SetProducer(-1, -1, -1)
			}
			if base := int64(binary.BigEndian.Uint64(b)); base < 0 || base > 1<<62 {
				return
			}
		}
		if from < 0 || from > 1<<62 {
			return
		}
		var p packer
		wires, _, _ := p.pack(nil, raw, from)
		for i := range wires {
			if err := wires[i].batch.Validate(); err != nil || wires[i].count < 1 {
				t.Fatalf("wire %d: %v", i, err)
			}
		}
	})
}

func TestChoice(t *testing.T) {
	c := choice{site: "a", include: []string{"*", "edge1.alarms", "edge2.*", "__weir_gaps"}, exclude: []string{"tmp*"}, rename: "{site}.{topic}"}
	inbound := inboundSites([]Topic{{Name: "mqtt"}, {Name: positionsTopic("edge1")}, {Name: positionsTopic("edge2")}})
	for name, want := range map[string]bool{
		"mqtt": true, "tmp1": false, "__consumer_offsets": false, "__weir_gaps": true, "x.internal": false,
		"edge1.mqtt": false, "edge1.alarms": true, "edge2.mqtt": true, "edge3.mqtt": true,
	} {
		if got := c.takes(Topic{Name: name}, inbound); got != want {
			t.Errorf("takes(%s) = %v, want %v", name, got, want)
		}
	}
	if c.takes(Topic{Name: "mqtt", Internal: true}, nil) {
		t.Error("an internal topic is taken by a glob")
	}
	if got := c.remoteName("mqtt"); got != "a.mqtt" {
		t.Errorf("remote name %s", got)
	}
}
