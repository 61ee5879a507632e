package upstream_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/bridge/upstream"
)

// side is a broker, or Weir's own server, as a test plays it: it takes connections,
// subscriptions and pings, and leaves the messages to the test.
type side struct {
	t         *testing.T
	allows    func(*packet.Connack) // what CONNACK says; may be nil
	old       bool                  // it knows only MQTT 3.1.1
	publishes chan packet.Publish   // what it was sent
	acks      chan packet.Ack
	hung      atomic.Bool // it answers no PINGREQ
	filters   chan packet.Subscription

	mu  sync.Mutex
	v   packet.Version
	nc  net.Conn
	all int // connections
}

func newSide(t *testing.T) *side {
	return &side{t: t, publishes: make(chan packet.Publish, 100), acks: make(chan packet.Ack, 100), filters: make(chan packet.Subscription, 100)}
}

func (s *side) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.mu.Lock()
	s.all++
	s.nc = theirs
	s.mu.Unlock()
	go s.serve(theirs)
	return ours, nil
}

func (s *side) serve(nc net.Conn) {
	defer nc.Close()
	var buf []byte
	piece := make([]byte, 1<<16)
	for {
		f, n, err := packet.Split(buf, 1<<20)
		if err != nil {
			s.t.Error(err)
			return
		}
		if n == 0 || n > len(buf) {
			m, err := nc.Read(piece)
			if err != nil {
				return
			}
			buf = append(buf, piece[:m]...)
			continue
		}
		if !s.handle(f) {
			return
		}
		buf = append([]byte(nil), buf[n:]...)
	}
}

func (s *side) handle(f packet.Frame) bool {
	switch f.Type {
	case packet.TypeConnect:
		var c packet.Connect
		if err := c.Decode(f); err != nil {
			s.t.Error(err)
			return false
		}
		if s.old && c.Version == packet.V5 {
			s.write([]byte{0x20, 2, 0, 1}) // unacceptable protocol version, as 3.1.1 has it
			return false
		}
		s.mu.Lock()
		s.v = c.Version
		s.mu.Unlock()
		var a packet.Connack
		if s.allows != nil {
			s.allows(&a)
		}
		s.write(a.Append(nil, c.Version))
	case packet.TypeSubscribe:
		var p packet.Subscribe
		if err := p.Decode(f, s.version()); err != nil {
			s.t.Error(err)
			return false
		}
		a := packet.Suback{Type: packet.TypeSuback, PacketID: p.PacketID}
		for _, sub := range p.Filters {
			s.filters <- sub
			a.Codes = append(a.Codes, packet.Reason(sub.QoS))
		}
		s.write(a.Append(nil, s.version()))
	case packet.TypePingreq:
		if s.hung.Load() {
			return true
		}
		s.write(packet.AppendPing(nil, packet.TypePingresp))
	case packet.TypePublish:
		var p packet.Publish
		if err := p.Decode(f, s.version()); err != nil {
			s.t.Error(err)
			return false
		}
		s.publishes <- p
	case packet.TypePuback:
		var a packet.Ack
		if err := a.Decode(f, s.version()); err != nil {
			s.t.Error(err)
			return false
		}
		s.acks <- a
	case packet.TypeDisconnect:
		return false
	}
	return true
}

func (s *side) version() packet.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v
}

func (s *side) write(b []byte) {
	s.mu.Lock()
	nc := s.nc
	s.mu.Unlock()
	if _, err := nc.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		s.t.Error(err)
	}
}

func (s *side) publish(p packet.Publish) { s.write(p.Append(nil, s.version())) }

// messages publishes with QoS 1, by the identifiers 1, 2, ...
func (s *side) messages(topics ...string) {
	for i, topic := range topics {
		s.publish(packet.Publish{Topic: []byte(topic), Payload: []byte(topic), QoS: 1, PacketID: uint16(i + 1)})
	}
}

func (s *side) puback(id uint16, r packet.Reason, text string) {
	a := packet.Ack{Type: packet.TypePuback, PacketID: id, Reason: r}
	if text != "" {
		a.Props.SetBytes(packet.ReasonString, []byte(text))
	}
	s.write(a.Append(nil, s.version()))
}

// got is the topic and the identifier of the next message that the side was sent.
func (s *side) got(topic string) uint16 {
	s.t.Helper()
	p := <-s.publishes
	if string(p.Topic) != topic {
		s.t.Fatalf("got a message on %q, want %q", p.Topic, topic)
	}
	return p.PacketID
}

// acked checks which messages of the side are acknowledged next.
func (s *side) acked(ids ...uint16) {
	s.t.Helper()
	for _, id := range ids {
		if a := <-s.acks; a.PacketID != id || a.Reason != packet.Success {
			s.t.Fatalf("PUBACK of %d, %v, want one of %d", a.PacketID, a.Reason, id)
		}
	}
}

// silent checks that nothing more has come.
func (s *side) silent() {
	s.t.Helper()
	synctest.Wait()
	if len(s.publishes) != 0 || len(s.acks) != 0 {
		s.t.Fatalf("%d messages and %d acknowledgements more", len(s.publishes), len(s.acks))
	}
}

// pair is a link between two sides.
type pair struct {
	remote, local *side
	log           *bytes.Buffer
	link          *upstream.Link
}

// joined runs test with a connected link, in the time of synctest.
func joined(t *testing.T, prepare func(*pair), test func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{remote: newSide(t), local: newSide(t), log: new(bytes.Buffer)}
		if prepare != nil {
			prepare(p)
		}
		var err error
		p.link, err = upstream.Start(upstream.Options{Name: "plant", Site: "s", URL: "mqtt://127.0.0.1", Local: p.local.dial, MaxInFlight: 8,
			In: []upstream.Subscription{{Filter: "in/#", QoS: 1}}, Out: []upstream.Subscription{{Filter: "out/#", QoS: 1}},
			Log: slog.New(slog.NewTextHandler(p.log, nil))}.Over(p.remote.dial))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.link.Close(); err != nil {
				t.Error(err)
			}
		}()
		<-p.remote.filters
		<-p.local.filters
		synctest.Wait()
		test(t, p)
	})
}

// measures checks a line of the metrics.
func (p *pair) measures(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	w := new(metric.Writer)
	upstream.Metrics(w, []*upstream.Link{p.link})
	if !strings.Contains(string(w.Bytes()), want+"\n") {
		t.Errorf("no %s in\n%s", want, w.Bytes())
	}
}

// logged checks that a line of the log has all of that.
func (p *pair) logged(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
next:
	for line := range strings.Lines(p.log.String()) {
		for _, w := range want {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return
	}
	t.Errorf("no line of the log has all of %q:\n%s", want, p.log)
}
