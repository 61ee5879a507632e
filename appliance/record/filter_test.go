package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

func filterInput(t testing.TB, c record.Codec) record.Batch {
	t.Helper()
	var rs []record.Record
	for i := range 20 {
		r := record.Record{Timestamp: int64(1000 + i*(7-i)), Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{byte(i)}, 10*i)}
		if i%4 == 1 {
			r.Value, r.Headers = nil, []record.Header{{Key: "h", Value: []byte("x")}, {Key: "h"}}
		}
		rs = append(rs, r)
	}
	b, err := record.NewBatch(c, rs...)
	if err != nil {
		t.Fatal(err)
	}
	b.SetProducer(9, 3, 40)
	b.SetBaseOffset(500)
	b.SetLeaderEpoch(6)
	return b
}

// What stays is as it was, whatever is taken out, whatever the codec.
func TestFilterKeepsWhatStays(t *testing.T) {
	var f record.Filter
	for c := record.None; c <= record.Zstd; c++ {
		for _, logTime := range []bool{false, true} {
			for _, horizon := range []int64{record.NoHorizon, 1 << 40} {
				b := filterInput(t, c)
				if logTime {
					b.SetLogAppendTime(77777)
				}
				for mask := uint64(0); mask < 1<<20; mask = mask*3 + 1 {
					checkFilter(t, &f, b, horizon, func(r *record.Record) bool { return mask>>(r.Offset-500)&1 == 1 })
				}
				checkFilter(t, &f, b, horizon, func(*record.Record) bool { return true })
			}
		}
	}
}

func checkFilter(t testing.TB, f *record.Filter, b record.Batch, horizon int64, keep func(*record.Record) bool) {
	t.Helper()
	was, err := b.Records()
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(b)
	out, err := f.Apply(b, horizon, keep)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, before) {
		t.Fatal("the batch given was changed")
	}
	if err := out.Batch.Validate(); err != nil {
		t.Fatal(err)
	}
	got, err := out.Batch.Records()
	if err != nil {
		t.Fatal(err)
	}
	var want []record.Record
	tombstones, maxTS := 0, b.MaxTimestamp()
	for i := range was {
		if !keep(&was[i]) {
			continue
		}
		if len(want) == 0 && !b.LogAppendTime() {
			maxTS = was[i].Timestamp
		}
		if want = append(want, was[i]); was[i].Value == nil {
			tombstones++
		}
		maxTS = max(maxTS, was[i].Timestamp)
	}
	if len(want) == len(was) {
		maxTS = b.MaxTimestamp() // as its producer said
	}
	if !reflect.DeepEqual(got, want) || out.Kept != len(want) || out.Removed != len(was)-len(want) || out.Tombstones != tombstones {
		t.Fatalf("%d records, %d kept, %d removed, %d tombstones; want %d of %d, %d tombstones", len(got), out.Kept, out.Removed, out.Tombstones, len(want), len(was), tombstones)
	}
	n := out.Batch
	if n.BaseOffset() != b.BaseOffset() || n.LastOffset() != b.LastOffset() || n.LeaderEpoch() != b.LeaderEpoch() || n.ProducerID() != b.ProducerID() ||
		n.ProducerEpoch() != b.ProducerEpoch() || n.BaseSequence() != b.BaseSequence() || n.LogAppendTime() != b.LogAppendTime() ||
		n.Control() != b.Control() || n.Transactional() != b.Transactional() {
		t.Fatalf("header %x, was %x", []byte(n[:record.HeaderLen]), []byte(b[:record.HeaderLen]))
	}
	if len(want) > 0 && (n.Codec() != b.Codec() || n.MaxTimestamp() != maxTS) || len(want) == 0 && len(was) > 0 && len(n) != record.HeaderLen {
		t.Fatalf("codec %v, max timestamp %d, %d bytes; was %v, want %d", n.Codec(), n.MaxTimestamp(), len(n), b.Codec(), maxTS)
	}
	_, had := b.DeleteHorizon()
	ms, has := n.DeleteHorizon()
	switch {
	case tombstones > 0 && horizon != record.NoHorizon:
		if !has || ms != horizon {
			t.Fatalf("horizon %d, %v; want %d", ms, has, horizon)
		}
	case len(want) == len(was):
		if &n[0] != &b[0] {
			t.Fatal("nothing was to change, and it is a copy")
		}
	case len(want) > 0 && has != had:
		t.Fatalf("horizon %v, was %v", has, had)
	}
}

func TestFilterRefusesWhatItCannotRead(t *testing.T) {
	b := filterInput(t, record.None)
	b[len(b)-1] ^= 0xff
	b[record.HeaderLen] ^= 0x7f
	var f record.Filter
	if _, err := f.Apply(b, record.NoHorizon, func(*record.Record) bool { return false }); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}

func FuzzFilter(f *testing.F) {
	for c := record.None; c <= record.Zstd; c++ {
		f.Add([]byte(filterInput(f, c)), uint64(0b1011), int64(record.NoHorizon))
		f.Add([]byte(filterInput(f, c)), uint64(0xffff_ffff), int64(5))
	}
	f.Fuzz(func(t *testing.T, raw []byte, mask uint64, horizon int64) {
		b := record.Batch(raw)
		if b.ValidateHeader() != nil || b.Codec() > record.Zstd || b.Count() > 10_000 {
			return
		}
		b.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()) // computes the CRC
		if _, err := b.Records(); err != nil {
			return
		}
		var filter record.Filter
		seen := 0
		keep := map[int64]bool{}
		if _, err := filter.Apply(b, record.NoHorizon, func(r *record.Record) bool {
			keep[r.Offset] = keep[r.Offset] || mask>>(seen%64)&1 == 1
			seen++
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if horizon < 0 {
			horizon = record.NoHorizon
		}
		checkFilter(t, &filter, b, horizon, func(r *record.Record) bool { return keep[r.Offset] })
	})
}
