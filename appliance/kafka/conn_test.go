package kafka_test

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/topic"
)

// noTopics is enough for what does not touch the log.
func noTopics() kafka.Options { return kafka.Options{Topics: new(topic.Set)} }

func apiVersionsRequest() *kmsg.ApiVersionsRequest {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "wire-test", "1.0"
	return req
}

func TestApiVersionsEveryVersion(t *testing.T) {
	w := pipe(t, newServer(t, noTopics()))
	for v := int16(0); v <= 4; v++ {
		resp := ask[*kmsg.ApiVersionsResponse](w, v, apiVersionsRequest())
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(kafka.Table()) {
			t.Errorf("v%d: error %d and %d keys, want 0 and %d", v, resp.ErrorCode, len(resp.ApiKeys), len(kafka.Table()))
		}
	}
}

// A newer client asks in a version that is not known here. It must be told the true
// range in the form of version 0, or it hangs, fails or spins (KIP-511).
func TestApiVersionsOfUnknownVersion(t *testing.T) {
	w := pipe(t, newServer(t, noTopics()))
	for _, v := range []int16{5, 9, 32767} {
		frame := frameOf(apiVersionsRequest(), 77)
		binary.BigEndian.PutUint16(frame[6:], uint16(v))
		w.write(frame)
		b := w.frame()
		want := []byte{0, 0, 0, 77, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4}
		if string(b) != string(want) {
			t.Errorf("v%d: got % x, want % x", v, b, want)
		}
	}
	if resp := ask[*kmsg.ApiVersionsResponse](w, 4, apiVersionsRequest()); resp.ErrorCode != 0 {
		t.Errorf("the connection is not usable afterwards: error %d", resp.ErrorCode)
	}
}

func TestApiVersionsChecksSoftwareName(t *testing.T) {
	w := pipe(t, newServer(t, noTopics()))
	for _, name := range []string{"", "-x", "a b", "x."} {
		req := apiVersionsRequest()
		req.ClientSoftwareName = name
		if resp := ask[*kmsg.ApiVersionsResponse](w, 3, req); resp.ErrorCode != 42 {
			t.Errorf("software name %q: error %d, want 42 (INVALID_REQUEST)", name, resp.ErrorCode)
		}
	}
}

// What the table must say for the clients of kafka-wire fame: each row is a client
// that breaks otherwise.
func TestAdvertisedRangesAreCoherent(t *testing.T) {
	rows := map[string]kafka.TableRow{}
	for _, r := range kafka.Table() {
		rows[r.Name] = r
	}
	for _, name := range []string{"Produce", "FindCoordinator"} {
		if rows[name].AdvertisedMin != 0 {
			t.Errorf("%s is advertised from %d: librdkafka 2.0.2 switches compression off", name, rows[name].AdvertisedMin)
		}
	}
	if j, ok := rows["JoinGroup"]; ok && j.AdvertisedMin != 0 {
		t.Errorf("JoinGroup is advertised from %d: librdkafka's feature test fails", j.AdvertisedMin)
	}
	// Topic ids are everywhere.
	for name, from := range map[string]int16{"Metadata": 12, "Fetch": 13, "Produce": 13, "OffsetCommit": 10, "OffsetFetch": 10, "DeleteTopics": 6} {
		if rows[name].Max < from {
			t.Errorf("%s goes to %d, topic ids begin with %d", name, rows[name].Max, from)
		}
	}
	// Who sees telemetry pushes it at once; who sees ConsumerGroupHeartbeat expects it all.
	for _, name := range []string{"GetTelemetrySubscriptions", "PushTelemetry"} {
		if _, ok := rows[name]; ok {
			t.Errorf("%s is served, but there is nowhere for it to go", name)
		}
	}
	for name, least := range map[string]int16{"ConsumerGroupHeartbeat": 1, "ConsumerGroupDescribe": 0, "OffsetCommit": 9, "OffsetFetch": 9, "ListGroups": 5} {
		if r, ok := rows[name]; !ok || r.Max < least {
			t.Errorf("%s goes to %d, the consumer protocol needs %d", name, r.Max, least)
		}
	}
	if rows["ListOffsets"].Min < 1 {
		t.Error("ListOffsets 0 has another meaning and must not be offered")
	}
}

func TestUnknownRequestsCloseTheConnection(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	o := noTopics()
	o.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))
	s := newServer(t, o)
	for _, tt := range []struct{ name, frame, logged string }{
		{"key", "\x00\x00\x00\x0a\x00\x7b\x00\x00\x00\x00\x00\x01\xff\xff", "unknown API key 123"},
		{"negative key", "\x00\x00\x00\x0a\xff\xff\x00\x00\x00\x00\x00\x01\xff\xff", "unknown API key -1"},
		{"version", "\x00\x00\x00\x0a\x00\x03\x00\x63\x00\x00\x00\x01\xff\xff", "unsupported version 99 of Metadata, served are 0 to 13"},
		{"size 0", "\x00\x00\x00\x00\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff", "impossible request size"},
		{"negative size", "\xff\xff\xff\xff\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff", "impossible request size"},
		{"client id beyond the end", "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\x7f\xff", "header cut short"},
		{"body cut short", "\x00\x00\x00\x0a\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff", "malformed request: Metadata v1"},
		{"array of 2^31-1", "\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff", "malformed request: Metadata v1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pipe(t, s)
			go func() { _, _ = w.nc.Write([]byte(tt.frame)) }()
			w.wantClosed()
		})
	}
	_ = s.Close() // so that every connection has been logged
	for _, want := range []string{"unknown API key 123", "unknown API key -1", "unsupported version 99 of Metadata, served are 0 to 13",
		"impossible request size", "header cut short", "malformed request: Metadata v1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A length prefix is a claim. It must be refused, or believed only as bytes come.
func TestHostileLengthPrefixAllocatesNothing(t *testing.T) {
	s := newServer(t, noTopics())
	for _, tt := range []struct {
		name   string
		key    uint16
		size   uint32
		closed bool
	}{
		{"2^31-1 to Produce", 0, 1<<31 - 1, true},
		{"2^31-1 to Metadata", 3, 1<<31 - 1, true},
		{"64 KiB and 1 to CreateTopics", 19, 64<<10 + 1, true},
		{"90 MiB to Produce, which are allowed but do not come", 0, 90 << 20, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pipe(t, s)
			frame := binary.BigEndian.AppendUint32(nil, tt.size)
			frame = binary.BigEndian.AppendUint16(frame, tt.key)
			frame = append(frame, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			w.write(frame)
			if tt.closed {
				w.wantClosed()
			} else {
				w.write(make([]byte, 1000)) // taken, so the server has begun to read the body
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
				t.Errorf("%d bytes sent made the server allocate %d", len(frame), grown)
			}
		})
	}
}

// The memory of large requests is shared; who would go over it is disconnected,
// small requests go on.
func TestQueuedBytesAreBounded(t *testing.T) {
	o := noTopics()
	o.MaxQueuedBytes = 1 << 20
	s := newServer(t, o)
	hog := pipe(t, s)
	frame := binary.BigEndian.AppendUint32(nil, 50<<20)
	frame = append(frame, 0, 0, 0, 3, 0, 0, 0, 1)
	hog.write(frame)
	_, err := hog.nc.Write(make([]byte, 3<<20))
	if err == nil {
		t.Fatal("3 MiB of a request were taken, the budget is 1 MiB")
	}
	if resp := ask[*kmsg.ApiVersionsResponse](pipe(t, s), 0, apiVersionsRequest()); resp.ErrorCode != 0 {
		t.Errorf("error %d for a small request", resp.ErrorCode)
	}
}

func TestDeadlines(t *testing.T) {
	whole := frameOf(apiVersionsRequest(), 1)
	for _, tt := range []struct {
		name  string
		bytes []byte // sent at the beginning
		reply bool   // that is a whole request
		want  time.Duration
	}{
		{"nothing is ever asked", nil, false, 10 * time.Second},
		{"stops within the size", whole[:2], false, 30 * time.Second},
		{"stops within the request", whole[:20], false, 30 * time.Second},
		{"asks once and never again", whole, true, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := kafka.New(noTopics())
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				client, server := net.Pipe()
				go func() { _ = s.ServeConn(server) }()
				start := time.Now()
				if tt.bytes != nil {
					if _, err := client.Write(tt.bytes); err != nil {
						t.Fatal(err)
					}
				}
				if tt.reply {
					w := &wire{t: t, nc: client}
					w.frame()
				}
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("read: %v, want EOF", err)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("closed after %v, want %v", took, tt.want)
				}
			})
		})
	}
}

// A client that asks and never reads is cut off by the write deadline, and what it
// has asked meanwhile is bounded.
func TestClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := kafka.New(noTopics())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		client, server := net.Pipe()
		go func() { _ = s.ServeConn(server) }()
		start, sent := time.Now(), 0
		for ; ; sent++ {
			if _, err := client.Write(frameOf(apiVersionsRequest(), 1)); err != nil {
				break
			}
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("cut off after %v, want 30s", took)
		}
		if sent > 16 {
			t.Errorf("%d requests were taken of a client that does not read", sent)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	o := noTopics()
	o.MaxConnectionsPerIP = 2
	s := newServer(t, o)
	addr := listen(t, s)
	one, two := dial(t, addr), dial(t, addr)
	for _, w := range []*wire{one, two} {
		ask[*kmsg.ApiVersionsResponse](w, 0, apiVersionsRequest())
	}
	dial(t, addr).wantClosed()
	if st := s.Status(); st.Connections != 2 || st.TurnedAway != 1 {
		t.Errorf("status %+v, want 2 connections and 1 turned away", st)
	}
	ask[*kmsg.ApiVersionsResponse](one, 0, apiVersionsRequest())
}

func TestCloseEndsAllConnections(t *testing.T) {
	s := newServer(t, noTopics())
	addr := listen(t, s)
	var conns []*wire
	for range 10 {
		w := dial(t, addr)
		ask[*kmsg.ApiVersionsResponse](w, 0, apiVersionsRequest())
		conns = append(conns, w)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range conns {
		w.wantClosed()
	}
	if st := s.Status(); st.Connections != 0 {
		t.Errorf("%d connections are left", st.Connections)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
