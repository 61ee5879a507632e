package kafka_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/kafka"
)

// wire is a client that sees every byte.
type wire struct {
	t    testing.TB
	nc   net.Conn
	corr int32
}

// newServer makes a server that is closed at the end of the test.
func newServer(t testing.TB, o kafka.Options) *kafka.Server {
	t.Helper()
	s, err := kafka.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// pipe connects a client to s without a network.
func pipe(t testing.TB, s *kafka.Server) *wire {
	t.Helper()
	client, server := net.Pipe()
	go func() { _ = s.ServeConn(server) }()
	t.Cleanup(func() { _ = client.Close() })
	return &wire{t: t, nc: client}
}

// listen serves s on loopback and returns the address.
func listen(t testing.TB, s *kafka.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &wire{t: t, nc: nc}
}

// frameOf is the request as a client puts it on the wire.
func frameOf(req kmsg.Request, corr int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire-test")).AppendRequest(nil, req, corr)
}

func (w *wire) send(req kmsg.Request) (corr int32) {
	w.t.Helper()
	w.corr++
	w.write(frameOf(req, w.corr))
	return w.corr
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// frame reads one response without its size.
func (w *wire) frame() []byte {
	w.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(w.nc, size[:]); err != nil {
		w.t.Fatalf("read size of a response: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w.nc, b); err != nil {
		w.t.Fatalf("read a response of %d bytes: %v", len(b), err)
	}
	return b
}

// receive reads the response to req and fails if it is not the next.
func (w *wire) receive(req kmsg.Request, corr int32) kmsg.Response {
	w.t.Helper()
	b := w.frame()
	if got := int32(binary.BigEndian.Uint32(b)); got != corr {
		w.t.Fatalf("response has correlation id %d, want %d", got, corr)
	}
	resp := req.ResponseKind()
	b = b[4:]
	if resp.IsFlexible() && req.Key() != 18 {
		if b[0] != 0 {
			w.t.Fatalf("response header has %d tagged fields, want 0", b[0])
		}
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		w.t.Fatalf("%s v%d response: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if canonical := resp.AppendTo(nil); len(canonical) != len(b) {
		w.t.Fatalf("%s v%d response has %d bytes, its content takes %d", kmsg.NameForKey(req.Key()), req.GetVersion(), len(b), len(canonical))
	}
	return resp
}

// ask sends req at version and returns the response.
func ask[R kmsg.Response](w *wire, version int16, req kmsg.Request) R {
	w.t.Helper()
	req.SetVersion(version)
	corr := w.send(req)
	return w.receive(req, corr).(R)
}

// wantClosed fails unless the server closes the connection without a byte.
func (w *wire) wantClosed() {
	w.t.Helper()
	_ = w.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	// A server that closes with bytes of the client unread resets the connection.
	if n, err := w.nc.Read(make([]byte, 1)); n != 0 || err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		w.t.Fatalf("read %d bytes, %v; want the connection closed", n, err)
	}
}
