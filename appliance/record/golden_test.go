package record_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/record"
)

// testdata/clients.txt holds batches captured from produce requests, a line each:
// client, codec, bytes in hexadecimal. The clients are franz-go 1.22.2, the Java
// client 4.1.1, kafka-go 0.4.51, kafka-python 3.0.12, librdkafka 2.16.0 and sarama
// 1.50, each of which was told to send the three records of clientRecords.
type captured struct {
	client string
	codec  record.Codec
	batch  record.Batch
}

func clientBatches(t testing.TB) []captured {
	t.Helper()
	f, err := os.Open("testdata/clients.txt")
	must(t, err)
	defer f.Close()
	var out []captured
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		codec, err := record.CodecByName(fields[1])
		must(t, err)
		raw, err := hex.DecodeString(fields[2])
		must(t, err)
		out = append(out, captured{fields[0], codec, raw})
	}
	return out
}

func clientRecords() []record.Record {
	return []record.Record{
		{Timestamp: 1700000000000, Key: []byte("key-0"), Value: bytes.Repeat([]byte("value-0 "), 20),
			Headers: []record.Header{{Key: "h", Value: []byte("1")}, {Key: "h"}}},
		{Offset: 1, Timestamp: 1700000000001, Value: bytes.Repeat([]byte("value-1 "), 20)},
		{Offset: 2, Timestamp: 1700000000002, Key: []byte("key-2")},
	}
}

func TestBatchesOfRealClients(t *testing.T) {
	batches := clientBatches(t)
	if len(batches) != 30 {
		t.Fatalf("%d batches, want 6 clients with 5 codecs", len(batches))
	}
	for _, c := range batches {
		t.Run(c.client+" "+c.codec.String(), func(t *testing.T) {
			must(t, c.batch.Validate())
			if c.batch.Codec() != c.codec || c.batch.Count() != 3 || c.batch.LastOffsetDelta() != 2 {
				t.Fatalf("codec %s, %d records, last offset delta %d", c.batch.Codec(), c.batch.Count(), c.batch.LastOffsetDelta())
			}
			if c.batch.BaseTimestamp() != 1700000000000 || c.batch.MaxTimestamp() != 1700000000002 {
				t.Fatalf("timestamps %d to %d", c.batch.BaseTimestamp(), c.batch.MaxTimestamp())
			}
			got, err := c.batch.Records()
			must(t, err)
			want := clientRecords()
			if c.client == "kafka-python" {
				want[0].Headers[1].Value = []byte{} // it cannot send a null
			}
			sameRecords(t, got, want)
		})
	}
}

// What a client compressed must not be changed by placing it in the log.
func TestPlacingKeepsTheCRC(t *testing.T) {
	for _, c := range clientBatches(t) {
		b := record.Batch(bytes.Clone(c.batch))
		b.SetBaseOffset(1 << 40)
		b.SetLeaderEpoch(7)
		must(t, b.Validate())
		if b.CRC() != c.batch.CRC() || b.NextOffset() != 1<<40+3 || b.LeaderEpoch() != 7 {
			t.Fatalf("%s: crc %08x was %08x, next offset %d", c.client, b.CRC(), c.batch.CRC(), b.NextOffset())
		}
		b.SetProducer(42, 3, 9)
		must(t, b.Validate())
		if b.ProducerID() != 42 || b.ProducerEpoch() != 3 || b.BaseSequence() != 9 {
			t.Fatalf("producer %d, %d, %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
		}
	}
}

// sameRecords also tells null from empty.
func sameRecords(t testing.TB, got, want []record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := &got[i], &want[i]
		if g.Offset != w.Offset || g.Timestamp != w.Timestamp || !sameBytes(g.Key, w.Key) || !sameBytes(g.Value, w.Value) || len(g.Headers) != len(w.Headers) {
			t.Fatalf("record %d\ngot  %+v\nwant %+v", i, *g, *w)
		}
		for j := range g.Headers {
			if g.Headers[j].Key != w.Headers[j].Key || !sameBytes(g.Headers[j].Value, w.Headers[j].Value) {
				t.Fatalf("record %d header %d: %q, want %q", i, j, g.Headers[j], w.Headers[j])
			}
		}
	}
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
