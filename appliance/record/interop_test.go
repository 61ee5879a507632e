package record_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/record"
)

// A consumer, franz-go's, reads what a Builder makes.
func TestFranzGoReadsOurBatches(t *testing.T) {
	for _, codec := range codecs {
		for seed := range uint64(10) {
			t.Run(fmt.Sprintf("%s seed=%d", codec, seed), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				var log []byte
				var want []record.Record
				for range 3 {
					records := randomRecords(rnd)
					b, err := record.NewBatch(codec, records...)
					must(t, err)
					b.SetBaseOffset(int64(len(want)))
					b.SetLeaderEpoch(5)
					log = append(log, b...)
					for i := range records {
						records[i].Offset = int64(len(want))
						want = append(want, records[i])
					}
				}
				sameRecords(t, fetched(t, log), want)
			})
		}
	}
}

// fetched parses log as kgo parses a fetch response, CRCs included.
func fetched(t *testing.T, log []byte) []record.Record {
	t.Helper()
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches, rp.HighWatermark = log, 1<<40
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t"}, &rp, kgo.DefaultDecompressor(), nil)
	must(t, fp.Err)
	var out []record.Record
	for _, r := range fp.Records {
		if r.LeaderEpoch != 5 {
			t.Fatalf("leader epoch %d, want 5", r.LeaderEpoch)
		}
		got := record.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			got.Headers = append(got.Headers, record.Header{Key: h.Key, Value: h.Value})
		}
		out = append(out, got)
	}
	return out
}

// Header and records agree with kmsg in both directions, byte for byte.
func TestAgreesWithKmsg(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		records := randomRecords(rnd)
		ours, err := record.NewBatch(record.None, records...)
		must(t, err)
		ours.SetProducer(rnd.Int64(), int16(rnd.IntN(1<<15)), rnd.Int32())
		ours.SetBaseOffset(rnd.Int64())
		ours.SetLeaderEpoch(rnd.Int32())
		var theirs kmsg.RecordBatch
		must(t, theirs.ReadFrom(ours))
		if theirs.FirstOffset != ours.BaseOffset() || theirs.PartitionLeaderEpoch != ours.LeaderEpoch() || theirs.Magic != ours.Magic() ||
			uint32(theirs.CRC) != ours.CRC() || theirs.Attributes != ours.Attributes() || theirs.LastOffsetDelta != ours.LastOffsetDelta() ||
			theirs.FirstTimestamp != ours.BaseTimestamp() || theirs.MaxTimestamp != ours.MaxTimestamp() || theirs.ProducerID != ours.ProducerID() ||
			theirs.ProducerEpoch != ours.ProducerEpoch() || theirs.FirstSequence != ours.BaseSequence() || theirs.NumRecords != ours.Count() ||
			!bytes.Equal(theirs.Records, ours.Payload()) {
			t.Fatalf("seed %d: kmsg reads %+v", seed, theirs)
		}
		if built := kmsgBatch(records); !bytes.Equal(built, mustBuild(t, records)) {
			t.Fatalf("seed %d: kmsg builds other bytes", seed)
		}
	}
}

func mustBuild(t *testing.T, records []record.Record) record.Batch {
	t.Helper()
	b, err := record.NewBatch(record.None, records...)
	must(t, err)
	return b
}

// kmsgBatch encodes the records as a client made of kmsg alone would.
func kmsgBatch(records []record.Record) []byte {
	rb := kmsg.RecordBatch{Magic: 2, LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: records[0].Timestamp,
		MaxTimestamp: records[0].Timestamp, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(records))}
	for i, r := range records {
		rb.MaxTimestamp = max(rb.MaxTimestamp, r.Timestamp)
		kr := kmsg.Record{TimestampDelta64: r.Timestamp - records[0].Timestamp, OffsetDelta: int32(i), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			kr.Headers = append(kr.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := kr.AppendTo(nil)[1:] // after the length, here 0 in one byte
		rb.Records = append(binary.AppendVarint(rb.Records, int64(len(body))), body...)
	}
	rb.Length = int32(record.HeaderLen - record.PrefixLen + len(rb.Records))
	raw := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}
