package kafka

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/vfs"
)

// replay is a connection on which a client has sent all it ever will.
type replay struct {
	in  bytes.Reader
	out bytes.Buffer
}

func (c *replay) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *replay) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *replay) Close() error                     { return nil }
func (c *replay) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }
func (c *replay) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *replay) SetDeadline(time.Time) error      { return nil }
func (c *replay) SetReadDeadline(time.Time) error  { return nil }
func (c *replay) SetWriteDeadline(time.Time) error { return nil }

const (
	// fuzzSlack is what a connection allocates whatever it reads.
	fuzzSlack = 256 << 10
	// fuzzFactor bounds the bytes allocated for each byte received. The decoder makes
	// an array as soon as its claimed length does not exceed the bytes left, and the
	// largest element has about 250 bytes.
	fuzzFactor = 300
)

// noCatalog is of a box that has no topic and cannot have one.
type noCatalog struct{}

func (noCatalog) Topics() ([]topic.Entry, error) { return nil, nil }
func (noCatalog) PutTopic(topic.Entry) error     { return errors.New("no catalog") }
func (noCatalog) DeleteTopic(string) error       { return errors.New("no catalog") }

// FuzzFrame sends arbitrary bytes. The server must not panic, must not hang, and
// must not be made to allocate out of proportion.
func FuzzFrame(f *testing.F) {
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz"))
	for _, row := range Table() {
		for v := row.AdvertisedMin; v <= row.Max+1; v++ {
			req := kmsg.RequestForKey(row.Key)
			if req.SetVersion(v); v <= req.MaxVersion() {
				f.Add(formatter.AppendRequest(nil, req, 1))
			}
		}
	}
	f.Add([]byte("\x7f\xff\xff\xff\x00\x00\x00\x03\x00\x00\x00\x01"))
	f.Add([]byte("\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff"))
	topics, err := topic.Open(topic.Options{FS: vfs.OS(f.TempDir()), Catalog: noCatalog{}, LeaderEpoch: 1, MaxPartitions: -1})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{Topics: topics, MaxFetchWait: time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _, _ = s.Close(), topics.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &replay{}
		c.in.Reset(data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.ServeConn(c); err == nil {
			t.Fatal("serving ended without a reason")
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > fuzzSlack+uint64(len(data))*fuzzFactor {
			t.Fatalf("%d bytes made the server allocate %d", len(data), grown)
		}
		checkFrames(t, c.out.Bytes())
	})
}

// checkFrames fails unless b is whole responses.
func checkFrames(t *testing.T, b []byte) {
	for r := (reader{b: b}); len(r.b) > 0; {
		if r.span(int(r.int32())); r.bad {
			t.Fatalf("the server sent a response that is not whole: % x", b)
		}
	}
}

// FuzzProduce compares the slicer of Produce with the general decoder.
func FuzzProduce(f *testing.F) {
	for v := int16(produceMin); v <= produceMax; v++ {
		req := kmsg.NewPtrProduceRequest()
		req.Acks = -1
		for _, name := range []string{"a", "b"} {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic = name
			for p := range int32(2) {
				rp := kmsg.NewProduceRequestTopicPartition()
				rp.Partition, rp.Records = p, []byte("records")
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
		}
		req.SetVersion(v)
		f.Add(v, req.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		version = produceMin + (version&0x7fff)%(produceMax-produceMin+1)
		p := &produceReply{version: version, conn: &conn{s: &Server{o: Options{MaxRequestPartitions: 10_000}}}}
		if _, err := p.parse(body); err != nil {
			return
		}
		want := kmsg.NewPtrProduceRequest()
		want.SetVersion(version)
		if err := want.ReadFrom(body); err != nil {
			t.Fatalf("v%d: sliced what does not decode: %v", version, err)
		}
		id := ""
		if want.TransactionID != nil {
			id = *want.TransactionID
		}
		if p.acks != want.Acks || len(p.topics) != len(want.Topics) || p.transactionalID != id {
			t.Fatalf("v%d: acks %d and %d topics, want %d and %d", version, p.acks, len(p.topics), want.Acks, len(want.Topics))
		}
		at := 0
		for i, wt := range want.Topics {
			if p.topics[i] != (produceTopic{topicName{wt.Topic, wt.TopicID, version >= idProduceMin}, len(wt.Partitions)}) {
				t.Fatalf("v%d: topic %+v, want %q with %d partitions", version, p.topics[i], wt.Topic, len(wt.Partitions))
			}
			for _, wp := range wt.Partitions {
				if got := p.parts[at]; got.id != wp.Partition || !bytes.Equal(got.records, wp.Records) {
					t.Fatalf("v%d: part %d is %d with % x, want %d with % x", version, at, got.id, got.records, wp.Partition, wp.Records)
				}
				at++
			}
		}
	})
}

// FuzzFetch compares the slicer of Fetch with the general decoder.
func FuzzFetch(f *testing.F) {
	for v := int16(fetchMin); v <= fetchMax; v++ {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionID = 500, 1, 1<<20, 1, 7
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic = "a"
		for p := range int32(3) {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p, 42, 1<<20, 3
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		forgotten := kmsg.NewFetchRequestForgottenTopic()
		forgotten.Topic, forgotten.TopicID, forgotten.Partitions = "b", topic.ID{7}, []int32{1, 2}
		req.ForgottenTopics = append(req.ForgottenTopics, forgotten)
		req.SetVersion(v)
		f.Add(v, req.AppendTo(nil))
	}
	s := &Server{o: Options{}.withDefaults()}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		version = fetchMin + (version&0x7fff)%(fetchMax-fetchMin+1)
		got := &fetchReply{s: s, version: version}
		want := kmsg.NewPtrFetchRequest()
		want.SetVersion(version)
		if got.parse(&conn{}, body) != nil || want.ReadFrom(body) != nil {
			return // what the slicer does not look at, at the end, may be malformed
		}
		if got.sessionID != want.SessionID || got.sessionEpoch != want.SessionEpoch || got.minBytes != int(want.MinBytes) || len(got.topics) != len(want.Topics) {
			t.Fatalf("v%d: %+v with %d topics, want %+v", version, got.fetchRequest, len(got.topics), want)
		}
		at := 0
		for i, wt := range want.Topics {
			if got.topics[i] != (fetchTopic{topicName{wt.Topic, wt.TopicID, version >= idFetchMin}, len(wt.Partitions)}) {
				t.Fatalf("v%d: topic %+v, want %q with %d partitions", version, got.topics[i], wt.Topic, len(wt.Partitions))
			}
			for _, wp := range wt.Partitions {
				g := got.parts[at]
				if g.id != wp.Partition || g.epoch != wp.CurrentLeaderEpoch || g.offset != wp.FetchOffset || g.maxBytes != max(0, int(wp.PartitionMaxBytes)) {
					t.Fatalf("v%d: part %+v, want %+v", version, g, wp)
				}
				at++
			}
		}
		at = 0
		for _, wt := range want.ForgottenTopics {
			for _, p := range wt.Partitions {
				if key := (sessionKey{topicName{wt.Topic, wt.TopicID, version >= idFetchMin}, p}); at >= len(got.forgotten) || got.forgotten[at] != key {
					t.Fatalf("v%d: forgotten %+v, want %+v at %d", version, got.forgotten, key, at)
				}
				at++
			}
		}
		if at != len(got.forgotten) {
			t.Fatalf("v%d: %d partitions forgotten, want %d", version, len(got.forgotten), at)
		}
	})
}
