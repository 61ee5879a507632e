package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
	"github.com/weirmq/weir/testbed/crashfs"
)

// box is a disk in memory with the real log on it, and an MQTT server on that.
type box struct {
	t         testing.TB
	fs        *crashfs.FS
	entries   sync.Map
	epoch     int32
	opts      mqtt.Options
	routes    []bridge.Route
	downlinks []bridge.Downlink
	wrap      func(mqtt.Log) mqtt.Log // between server and log, to hold things up

	set    *topic.Set
	srv    *mqtt.Server
	router *bridge.Router
}

func (b *box) Topics() (out []topic.Entry, err error) {
	b.entries.Range(func(_, v any) bool { out = append(out, v.(topic.Entry)); return true })
	return out, nil
}
func (b *box) PutTopic(e topic.Entry) error  { b.entries.Store(e.Name, e); return nil }
func (b *box) DeleteTopic(name string) error { b.entries.Delete(name); return nil }

// weirLog is a topic.Set as the bridge wants it.
type weirLog struct{ *topic.Set }

func (l weirLog) Ensure(name string, partitions int32, configs map[string]string) (int32, error) {
	t, err := l.Set.Ensure(name, topic.Spec{Partitions: partitions, Configs: configs, Internal: strings.HasPrefix(name, "__")})
	if err != nil {
		return 0, err
	}
	return int32(len(t.Partitions())), nil
}

func (l weirLog) TopicID(name string) (id [16]byte, ok bool) {
	t := l.Topic(name)
	if t == nil {
		return id, false
	}
	return t.ID(), true
}

func (l weirLog) MaxMessageBytes(name string) int {
	t := l.Topic(name)
	if t == nil {
		return math.MaxInt
	}
	return t.MaxMessageBytes()
}

func (l weirLog) Offsets(tp record.TopicPartition) (start, end int64, err error) {
	p, err := l.Partition(tp)
	if err != nil {
		return 0, 0, err
	}
	return p.LogStartOffset(), p.HighWatermark(), nil
}

func (l weirLog) DeleteRecords(tp record.TopicPartition, before int64) error {
	p, err := l.Partition(tp)
	if err != nil {
		return err
	}
	_, err = p.DeleteRecords(before)
	return err
}

func newBox(t testing.TB) *box { return &box{t: t, fs: crashfs.New()} }

// start opens the log and the server.
func (b *box) start() *box {
	b.t.Helper()
	b.openLog()
	b.serve()
	return b
}

func (b *box) openLog() {
	b.t.Helper()
	b.epoch++
	set, err := topic.Open(topic.Options{FS: b.fs, Catalog: b, LeaderEpoch: b.epoch, WAL: wal.Options{FileBytes: 1 << 20}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.set = set
}

func (b *box) serve() {
	b.t.Helper()
	if b.opts.Log == nil && testing.Verbose() {
		b.opts.Log = slog.New(slog.NewTextHandler(testWriter{b.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	router, err := bridge.NewRouter(b.routes, b.downlinks)
	if err != nil {
		b.t.Fatal(err)
	}
	b.router = router
	router.Answer(weirLog{b.set}, b.opts.Age, b.opts.Log)
	log := mqtt.Log(weirLog{b.set})
	if b.wrap != nil {
		log = b.wrap(log)
	}
	if b.srv, err = mqtt.New(context.Background(), b.opts, log, router); err != nil {
		b.t.Fatal(err)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	defer func() { recover() }() // a line after the end of the test
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// stop closes the server and the log.
func (b *box) stop() {
	b.t.Helper()
	b.opts.Log = nil
	if err := b.srv.Close(); err != nil {
		b.t.Error(err)
	}
	if err := b.set.Close(); err != nil {
		b.t.Error(err)
	}
}

func (b *box) restart() {
	b.t.Helper()
	b.stop()
	b.start()
}

// crash pulls the plug: what is not durable is gone.
func (b *box) crash() {
	b.t.Helper()
	clone := b.fs.Clone(crashfs.CloneConfig{})
	b.stop()
	b.fs = clone
	b.start()
}

// metrics returns the server's figures as text.
func (b *box) metrics() string {
	w := new(metric.Writer)
	b.srv.Metrics(w)
	return string(w.Bytes())
}

// values reads the values of a partition.
func (b *box) records(name string) (out []record.Record) {
	b.t.Helper()
	tp := record.TopicPartition{Topic: name}
	start, end, err := weirLog{b.set}.Offsets(tp)
	if err != nil {
		b.t.Fatal(err)
	}
	for start < end {
		bs, err := b.set.Fetch(context.Background(), tp, start, 1<<20)
		if errors.Is(err, record.ErrOffsetOutOfRange) { // records were deleted meanwhile
			return b.records(name)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		for batch := range bs.All() {
			rs, err := batch.Records()
			if err != nil {
				b.t.Fatal(err)
			}
			out = append(out, rs...)
			start = batch.NextOffset()
		}
	}
	return out
}

// produce appends one record as a Kafka client would.
func (b *box) produce(name, key, value string, headers ...record.Header) {
	b.t.Helper()
	b.produceAt(name, time.Now(), key, value, headers...)
}

func (b *box) produceAt(name string, at time.Time, key, value string, headers ...record.Header) {
	b.t.Helper()
	if _, err := b.set.Ensure(name, topic.Spec{}); err != nil {
		b.t.Fatal(err)
	}
	batch, err := record.NewBatch(record.LZ4, record.Record{Key: []byte(key), Value: []byte(value), Headers: headers, Timestamp: at.UnixMilli()})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.set.Append(context.Background(), record.TopicPartition{Topic: name}, batch); err != nil {
		b.t.Fatal(err)
	}
}

// client is the other end of one connection, bytes in its hands.
type client struct {
	t  testing.TB
	v  packet.Version
	nc net.Conn

	mu  sync.Mutex
	has sync.Cond
	buf []byte
	err error
}

// dial connects over a pipe.
func (b *box) dial(v packet.Version) *client {
	c := b.dialDeaf(v)
	go c.receive()
	return c
}

// dialDeaf connects and never reads.
func (b *box) dialDeaf(v packet.Version) *client {
	here, there := net.Pipe()
	b.srv.ServeConn(there)
	return b.over(here, v)
}

// over is the client of a connection.
func (b *box) over(nc net.Conn, v packet.Version) *client {
	c := &client{t: b.t, v: v, nc: nc}
	c.has.L = &c.mu
	return c
}

func (c *client) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.nc.Read(buf)
		c.mu.Lock()
		c.buf = append(c.buf, buf[:n]...)
		if err != nil {
			c.err = err
		}
		c.has.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes packets in one write.
func (c *client) send(packets ...[]byte) {
	c.t.Helper()
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	if _, err := c.nc.Write(all); err != nil && err != io.ErrClosedPipe {
		c.t.Fatal(err)
	}
}

// next returns the next packet as text; "closed" at the end.
func (c *client) next() string {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		f, n, err := packet.Split(c.buf, 1<<28)
		if err != nil {
			c.t.Fatal(err)
		}
		if n > 0 && n <= len(c.buf) {
			s := render(c.t, f, c.v)
			c.buf = c.buf[n:]
			return s
		}
		if c.err != nil {
			return "closed"
		}
		c.has.Wait()
	}
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// anyOrder expects packets whose order nothing decides.
func (c *client) anyOrder(want ...string) {
	c.t.Helper()
	var got []string
	for range want {
		got = append(got, c.next())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
}

// quiet checks with a ping that nothing came meanwhile.
func (c *client) quiet() {
	c.t.Helper()
	c.send(packet.AppendPing(nil, packet.TypePingreq))
	c.expect("PINGRESP")
}

func render(t testing.TB, f packet.Frame, v packet.Version) string {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v", f.Type, err)
		}
	}
	switch f.Type {
	case packet.TypeConnack:
		var p packet.Connack
		if v > packet.V5 {
			v = packet.V5 // the newest that the server can answer in
		}
		check(p.Decode(f, v))
		s := fmt.Sprintf("CONNACK %02x", p.Code)
		if p.SessionPresent {
			s += " present"
		}
		return s
	case packet.TypePublish:
		var p packet.Publish
		check(p.Decode(f, v))
		s := fmt.Sprintf("PUBLISH %s=%s q%d", p.Topic, p.Payload, p.QoS)
		if p.PacketID != 0 {
			s += fmt.Sprintf(" #%d", p.PacketID)
		}
		if p.Dup {
			s += " dup"
		}
		if p.Retain {
			s += " retain"
		}
		for _, u := range p.Props.User {
			s += fmt.Sprintf(" %s:%s", u.Name, u.Value)
		}
		if alias, ok := p.Props.Uint(packet.TopicAlias); ok {
			s += fmt.Sprintf(" alias%d", alias)
		}
		if to, ok := p.Props.Bytes(packet.ResponseTopic); ok {
			s += fmt.Sprintf(" response=%s", to)
		}
		if data, ok := p.Props.Bytes(packet.CorrelationData); ok {
			s += fmt.Sprintf(" correlation=%s", data)
		}
		for _, id := range p.Props.SubscriptionIDs {
			s += fmt.Sprintf(" sub%d", id)
		}
		return s
	case packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		var p packet.Ack
		check(p.Decode(f, v))
		s := fmt.Sprintf("%s #%d", f.Type, p.PacketID)
		if p.Reason != 0 {
			s += fmt.Sprintf(" %02x", byte(p.Reason))
		}
		return s
	case packet.TypeSuback, packet.TypeUnsuback:
		var p packet.Suback
		check(p.Decode(f, v))
		s := fmt.Sprintf("%s #%d", f.Type, p.PacketID)
		for _, c := range p.Codes {
			s += fmt.Sprintf(" %02x", byte(c))
		}
		return s
	case packet.TypeAuth:
		var p packet.Disconnect
		check(p.Decode(f, v))
		method, _ := p.Props.Bytes(packet.AuthMethod)
		data, _ := p.Props.Bytes(packet.AuthData)
		return fmt.Sprintf("AUTH %02x %s %s", byte(p.Reason), method, data)
	case packet.TypeDisconnect:
		var p packet.Disconnect
		check(p.Decode(f, v))
		return fmt.Sprintf("DISCONNECT %02x", byte(p.Reason))
	}
	return f.Type.String()
}

// connect sends CONNECT and takes the CONNACK.
func (b *box) connect(v packet.Version, id string, change ...func(*packet.Connect)) (*client, string) {
	b.t.Helper()
	c := b.dial(v)
	p := packet.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
	for _, f := range change {
		f(&p)
	}
	c.send(p.Append(nil))
	return c, c.next()
}

func (b *box) client(v packet.Version, id string, change ...func(*packet.Connect)) *client {
	b.t.Helper()
	c, ack := b.connect(v, id, change...)
	if !strings.HasPrefix(ack, "CONNACK 00") {
		b.t.Fatalf("client %s: %s", id, ack)
	}
	return c
}

// keep makes CONNECT ask for a session that outlives the connection.
func keep(p *packet.Connect) {
	p.CleanStart = false
	p.Props.SetUint(packet.SessionExpiry, 3600)
}

func publish(v packet.Version, id uint16, topic, payload string) []byte {
	p := packet.Publish{Topic: []byte(topic), Payload: []byte(payload), PacketID: id}
	if id != 0 {
		p.QoS = 1
	}
	return p.Append(nil, v)
}

func retained(v packet.Version, id uint16, topic, payload string) []byte {
	b := publish(v, id, topic, payload)
	b[0] |= 1
	return b
}

func subscribe(v packet.Version, id uint16, filters ...string) []byte {
	p := packet.Subscribe{PacketID: id}
	for _, f := range filters {
		f, qos, _ := strings.Cut(f, "@")
		sub := packet.Subscription{Filter: []byte(f), QoS: 1}
		if qos != "" {
			sub.QoS = qos[0] - '0'
		}
		p.Filters = append(p.Filters, sub)
	}
	return p.Append(nil, v)
}

func unsubscribe(v packet.Version, id uint16, filters ...string) []byte {
	p := packet.Unsubscribe{PacketID: id}
	for _, f := range filters {
		p.Filters = append(p.Filters, []byte(f))
	}
	return p.Append(nil, v)
}

// publish2 is publish with QoS 2.
func publish2(v packet.Version, id uint16, topic, payload string) []byte {
	return (&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), PacketID: id, QoS: 2}).Append(nil, v)
}

// again sets DUP.
func again(p []byte) []byte {
	p[0] |= 8
	return p
}

func puback(id uint16) []byte { return ack(packet.TypePuback, id) }

func ack(t packet.Type, id uint16) []byte {
	return (&packet.Ack{Type: t, PacketID: id}).Append(nil, packet.V311)
}

func pubrec(id uint16) []byte  { return ack(packet.TypePubrec, id) }
func pubrel(id uint16) []byte  { return ack(packet.TypePubrel, id) }
func pubcomp(id uint16) []byte { return ack(packet.TypePubcomp, id) }

func disconnect() []byte { return packet.AppendPing(nil, packet.TypeDisconnect) }
