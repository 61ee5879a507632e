package record_test

import (
	"encoding/hex"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

// The record is laid out as Kafka's control record key and EndTxnMarker are.
func TestMarkerIsKafkas(t *testing.T) {
	m := record.Marker{ProducerID: 4000, ProducerEpoch: 7, Commit: true, CoordinatorEpoch: 3}
	b := record.NewMarker(m, 1_700_000_000_000)
	if err := b.Validate(); err != nil || !b.Control() || !b.Transactional() || b.Count() != 1 || b.BaseSequence() != record.NoSequence {
		t.Errorf("%x: %v", []byte(b), err)
	}
	if got, want := hex.EncodeToString(b.Payload()), "200000000800000001"+"0c000000000003"+"00"; got != want {
		t.Errorf("the record is %s, want %s", got, want)
	}
	got, ok, err := b.Marker()
	if got != m || !ok || err != nil {
		t.Errorf("reads back as %+v, %v, %v", got, ok, err)
	}
	if int64(len(b)) > record.MarkerLen {
		t.Errorf("%d bytes, the bound is %d", len(b), record.MarkerLen)
	}
	if _, ok, err := plainBatch(t).Marker(); ok || err != nil {
		t.Errorf("a batch of data is a marker: %v, %v", ok, err)
	}
}

// A batch that compaction has taken the marker out of is none.
func TestEmptiedMarker(t *testing.T) {
	b := record.NewMarker(record.Marker{ProducerID: 1}, 1000)
	kept, err := new(record.Filter).Apply(b, 5000, func(*record.Record) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := kept.Batch.DeleteHorizon(); !ok || at != 5000 || kept.Batch.Validate() != nil {
		t.Errorf("a marker's delete horizon is %d, %v; want 5000", at, ok)
	}
	if m, ok, err := kept.Batch.Marker(); !ok || err != nil || m.ProducerID != 1 {
		t.Errorf("with a delete horizon it is %+v, %v, %v", m, ok, err)
	}
	out, err := new(record.Filter).Apply(b, record.NoHorizon, func(*record.Record) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := out.Batch.Marker(); ok || err != nil || !out.Batch.Control() {
		t.Errorf("emptied it is a marker: %v, %v", ok, err)
	}
}

func plainBatch(t testing.TB) record.Batch {
	t.Helper()
	b, err := record.NewBatch(record.None, record.Record{Key: []byte{0, 0, 0, 1}, Value: make([]byte, 6)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// No control batch makes the parser panic.
func FuzzMarker(f *testing.F) {
	addSeeds(f)
	f.Add([]byte(record.NewMarker(record.Marker{ProducerID: 9, Commit: true}, 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, _, ok := record.Split(raw)
		if !ok || b.ValidateHeader() != nil {
			return
		}
		if m, ok, err := b.Marker(); ok && (err != nil || m.ProducerID != b.ProducerID()) {
			t.Fatal(m, err)
		}
	})
}
