package kafka_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

func batchOf(t testing.TB, codec record.Codec, values ...string) record.Batch {
	t.Helper()
	var rs []record.Record
	for _, v := range values {
		rs = append(rs, record.Record{Value: []byte(v), Timestamp: 1000})
	}
	b, err := record.NewBatch(codec, rs...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// produceOf is a Produce of one batch to each of some partitions of topic "t".
func produceOf(acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "t"
	for i, b := range batches {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = int32(i), b
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func fetchOf(topic string, offset int64, partitions ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p, offset, 1<<20, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func part(resp *kmsg.ProduceResponse) kmsg.ProduceResponseTopicPartition {
	return resp.Topics[0].Partitions[0]
}

func values(t testing.TB, raw []byte) (out []string) {
	t.Helper()
	for b := range record.Batches(raw).All() {
		rs, err := b.Records()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			out = append(out, string(r.Value))
		}
	}
	return out
}

func TestProduceAndFetchEveryVersion(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	id := create(t, topics, "t", 1).ID()
	w := pipe(t, s)
	offset := int64(0)
	for v := int16(3); v <= 13; v++ {
		resp := part(ask[*kmsg.ProduceResponse](w, v, produceByID(id, -1, batchOf(t, record.None, "a", "b"))))
		if resp.ErrorCode != 0 || resp.BaseOffset != offset {
			t.Errorf("Produce v%d: error %d, offset %d; want 0, %d", v, resp.ErrorCode, resp.BaseOffset, offset)
		}
		offset += 2
	}
	if err := topics.Checkpoint(); err != nil { // a read may be faster than the last batches
		t.Fatal(err)
	}
	for v := int16(4); v <= 18; v++ {
		resp := ask[*kmsg.FetchResponse](w, v, fetchByID(id, 0, 0))
		p := resp.Topics[0].Partitions[0]
		if resp.ErrorCode != 0 || resp.SessionID != 0 || p.ErrorCode != 0 || p.HighWatermark != offset || p.LastStableOffset != offset {
			t.Errorf("Fetch v%d: %+v", v, resp)
		}
		if got := strings.Join(values(t, p.RecordBatches), ""); got != strings.Repeat("ab", 11) {
			t.Errorf("Fetch v%d: read %s", v, got)
		}
	}
}

// The batch that comes back is the batch that went in: the same CRC, the same
// bytes but for base offset and leader epoch.
func TestBatchesKeepTheirBytes(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := dial(t, listen(t, s))
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		// Of a size that goes by sendfile, and of one that does not.
		for _, size := range []int{10, 100_000} {
			value := make([]byte, size)
			for i := range value {
				value[i] = byte(i * i >> 3)
			}
			sent := batchOf(t, codec, string(value), "second")
			produced := part(ask[*kmsg.ProduceResponse](w, 9, produceOf(1, sent)))
			if produced.ErrorCode != 0 {
				t.Fatalf("%v: produce: error %d %v", codec, produced.ErrorCode, produced.ErrorMessage)
			}
			got := record.Batch(ask[*kmsg.FetchResponse](w, 12, fetchOf("t", produced.BaseOffset+1, 0)).Topics[0].Partitions[0].RecordBatches)
			if err := got.Validate(); err != nil {
				t.Fatalf("%v: %v", codec, err)
			}
			if got.BaseOffset() != produced.BaseOffset || got.LeaderEpoch() != testEpoch || !bytes.Equal(got[16:], sent[16:]) {
				t.Errorf("%v, %d bytes: the batch was changed", codec, size)
			}
		}
	}
}

func TestProduceErrors(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	good := func() record.Batch { return batchOf(t, record.None, "x") }
	reseal := func(b record.Batch) record.Batch {
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
		return b
	}
	badCRC := good()
	badCRC[len(badCRC)-1] ^= 1
	control := good()
	control[22] |= 0x20
	counts := good()
	binary.BigEndian.PutUint32(counts[57:], 7)
	codec := good()
	codec[22] |= 7
	magic1 := good()
	magic1[16] = 1
	toOther := produceOf(-1, good())
	toOther.Topics[0].Topic = "nobody"
	toSecond := produceOf(-1, good())
	toSecond.Topics[0].Partitions[0].Partition = 1
	negative := produceOf(-1, good())
	negative.Topics[0].Partitions[0].Partition = -1
	inTransaction := good()
	inTransaction.SetTransactional(7, 0, 0)
	transactional := produceOf(-1, inTransaction)
	transactional.TransactionID = kmsg.StringPtr("txn")
	for _, tt := range []struct {
		name    string
		version int16
		req     *kmsg.ProduceRequest
		want    *kerr.Error
	}{
		{"crc", 9, produceOf(-1, badCRC), kerr.CorruptMessage},
		{"cut short", 9, produceOf(-1, good()[:40]), kerr.CorruptMessage},
		{"no records", 9, produceOf(-1, nil), kerr.InvalidRecord},
		{"empty records", 9, produceOf(-1, []byte{}), kerr.InvalidRecord},
		{"two batches", 9, produceOf(-1, append(good(), good()...)), kerr.InvalidRecord},
		{"old format", 9, produceOf(-1, magic1), kerr.InvalidRecord},
		{"control batch", 9, produceOf(-1, reseal(control)), kerr.InvalidRecord},
		{"counts that lie", 9, produceOf(-1, reseal(counts)), kerr.CorruptMessage},
		{"unknown codec", 9, produceOf(-1, reseal(codec)), kerr.UnsupportedCompressionType},
		{"zstd before v7", 6, produceOf(-1, batchOf(t, record.Zstd, "x")), kerr.UnsupportedCompressionType},
		{"too large", 9, produceOf(-1, batchOf(t, record.None, strings.Repeat("x", 2<<20))), kerr.MessageTooLarge},
		{"unknown topic", 9, toOther, kerr.UnknownTopicOrPartition},
		{"unknown partition", 9, toSecond, kerr.UnknownTopicOrPartition},
		{"negative partition", 9, negative, kerr.UnknownTopicOrPartition},
		{"acks=2", 9, produceOf(2, good()), kerr.InvalidRequiredAcks},
		{"acks=-2", 9, produceOf(-2, good()), kerr.InvalidRequiredAcks},
		{"no coordinator", 9, transactional, kerr.NotEnoughReplicas},
		{"v0", 0, produceOf(1, []byte("anything")), kerr.UnsupportedVersion},
		{"v2", 2, produceOf(1, []byte("anything")), kerr.UnsupportedVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pipe(t, s)
			got := part(ask[*kmsg.ProduceResponse](w, tt.version, tt.req))
			if got.ErrorCode != tt.want.Code || got.BaseOffset != -1 {
				t.Errorf("error %v at offset %d, want %v at -1", kerr.ErrorForCode(got.ErrorCode), got.BaseOffset, tt.want)
			}
			if tt.version >= 8 && got.ErrorMessage == nil {
				t.Error("there is no error message")
			}
		})
	}
	if hw := topics.Topic("t").Partitions()[0].HighWatermark(); hw != 0 {
		t.Errorf("%d records were appended by refused requests", hw)
	}
}

// One bad batch does not spoil its neighbours.
func TestProduceErrorsArePerPartition(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 3)
	resp := ask[*kmsg.ProduceResponse](pipe(t, s), 9, produceOf(-1, batchOf(t, record.None, "a"), []byte("junk"), batchOf(t, record.None, "b")))
	var codes []int16
	for i, p := range resp.Topics[0].Partitions {
		if p.Partition != int32(i) {
			t.Errorf("place %d has partition %d", i, p.Partition)
		}
		codes = append(codes, p.ErrorCode)
	}
	if fmt.Sprint(codes) != fmt.Sprint([]int16{0, kerr.CorruptMessage.Code, 0}) {
		t.Errorf("error codes %v", codes)
	}
}

func TestIdempotentProducer(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionTimeoutMillis = 1000
	id := ask[*kmsg.InitProducerIDResponse](w, 4, init)
	if id.ErrorCode != 0 || id.ProducerID < 0 || id.ProducerEpoch != 0 {
		t.Fatalf("InitProducerId: %+v", id)
	}
	send := func(seq int32, epoch int16) kmsg.ProduceResponseTopicPartition {
		b := batchOf(t, record.None, fmt.Sprint(seq))
		b.SetProducer(id.ProducerID, epoch, seq)
		return part(ask[*kmsg.ProduceResponse](w, 9, produceOf(-1, b)))
	}
	for seq := range int32(6) {
		if got := send(seq, 0); got.ErrorCode != 0 || got.BaseOffset != int64(seq) {
			t.Fatalf("sequence %d: error %d, offset %d", seq, got.ErrorCode, got.BaseOffset)
		}
	}
	if got := send(4, 0); got.ErrorCode != 0 || got.BaseOffset != 4 {
		t.Errorf("duplicate: error %d, offset %d; want success at 4", got.ErrorCode, got.BaseOffset)
	}
	if got := send(9, 0); got.ErrorCode != kerr.OutOfOrderSequenceNumber.Code {
		t.Errorf("gap: error %d", got.ErrorCode)
	}
	if got := send(0, 1); got.ErrorCode != 0 || got.BaseOffset != 6 {
		t.Errorf("new epoch: error %d, offset %d", got.ErrorCode, got.BaseOffset)
	}
	if got := send(6, 0); got.ErrorCode != kerr.InvalidProducerEpoch.Code {
		t.Errorf("old epoch: error %d", got.ErrorCode)
	}
}

// acks=0 has no answer, or the client takes it for that of its next request.
func TestAcksZeroIsNotAnswered(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	for range 3 {
		req := produceOf(0, batchOf(t, record.None, "x"))
		req.SetVersion(9)
		w.send(req)
	}
	// The next answer on the connection is that of the next request.
	if got := part(ask[*kmsg.ProduceResponse](w, 9, produceOf(-1, batchOf(t, record.None, "y")))); got.BaseOffset != 3 {
		t.Errorf("offset %d, want 3 after three of acks=0", got.BaseOffset)
	}
}

// An error with acks=0 cannot be answered: the connection is closed.
func TestAcksZeroErrorClosesTheConnection(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := pipe(t, s)
	req := produceOf(0, []byte("junk"))
	req.SetVersion(9)
	w.send(req)
	w.wantClosed()
}

// Many requests on one connection before the first answer is read: the answers come
// in order, whatever takes how long.
func TestPipelinedAnswersKeepTheirOrder(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := dial(t, listen(t, s))
	var sent []kmsg.Request
	var all bytes.Buffer
	for i := range 200 {
		var req kmsg.Request
		switch i % 5 {
		case 3:
			req = apiVersionsRequest()
			req.SetVersion(3)
		case 4:
			req = fetchOf("t", 0, 0)
			req.SetVersion(11)
		default:
			req = produceOf(-1, batchOf(t, record.None, fmt.Sprint(i)))
			req.SetVersion(9)
		}
		sent = append(sent, req)
		all.Write(frameOf(req, int32(i)))
	}
	go func() { _, _ = io.Copy(w.nc, &all) }()
	next := int64(0)
	for i, req := range sent {
		resp := w.receive(req, int32(i))
		p, ok := resp.(*kmsg.ProduceResponse)
		if !ok {
			continue
		}
		if got := part(p); got.ErrorCode != 0 || got.BaseOffset != next {
			t.Fatalf("request %d: error %d, offset %d, want %d", i, got.ErrorCode, got.BaseOffset, next)
		}
		next++
	}
}

// Requests with many batches, which are not pipelined freely. They are all for one
// partition, which is as good and takes less time to set up.
func TestWideProduces(t *testing.T) {
	const batchesEach, requests = 65, 10 // just over wideParts, over maxQueuedReplies
	s, topics := newBroker(t, kafka.Options{})
	create(t, topics, "t", 1)
	w := dial(t, listen(t, s))
	var batches [][]byte
	for range batchesEach {
		batches = append(batches, batchOf(t, record.None, "x"))
	}
	req := produceOf(-1, batches...)
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].Partition = 0
	}
	req.SetVersion(9)
	go func() {
		for i := range requests {
			if _, err := w.nc.Write(frameOf(req, int32(i))); err != nil {
				return // the reader below fails the test
			}
		}
	}()
	for i := range requests {
		for j, p := range w.receive(req, int32(i)).(*kmsg.ProduceResponse).Topics[0].Partitions {
			if want := int64(i*batchesEach + j); p.ErrorCode != 0 || p.BaseOffset != want {
				t.Fatalf("request %d, batch %d: error %d, offset %d, want %d", i, j, p.ErrorCode, p.BaseOffset, want)
			}
		}
	}
}

// Hostile clients must not fill the disk with log lines.
func TestComplaintsAreBounded(t *testing.T) {
	var lines atomic.Int64
	s, _ := newBroker(t, kafka.Options{Log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		lines.Add(1)
		return len(p), nil
	}), nil))})
	for range 200 {
		w := pipe(t, s)
		go func() { _, _ = w.nc.Write([]byte("\xff\xff\xff\xff\x00\x12\x00\x00\x00\x00\x00\x01")) }()
		w.wantClosed()
	}
	_ = s.Close()
	if n := lines.Load(); n < 1 || n > 100 {
		t.Errorf("200 bad requests made %d log lines", n)
	}
	if bad := s.Status().BadRequests; bad != 200 {
		t.Errorf("%d bad requests were counted, want 200", bad)
	}
}

func TestProduceToInternalTopicIsRefused(t *testing.T) {
	s, topics := newBroker(t, kafka.Options{})
	if _, err := topics.Create("__weir_sessions", topic.Spec{Internal: true}); err != nil {
		t.Fatal(err)
	}
	req := produceOf(-1, batchOf(t, record.None, "x"))
	req.Topics[0].Topic = "__weir_sessions"
	if got := part(ask[*kmsg.ProduceResponse](pipe(t, s), 9, req)); got.ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("error %d, want INVALID_TOPIC_EXCEPTION", got.ErrorCode)
	}
}
