package bridge_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/sparkplug"
	"github.com/weirmq/weir/testbed/crashfs"
)

// patience bounds a wait for something that must happen.
const patience = 20 * time.Second

// payload is a payload of Sparkplug B: bdSeq is left out below 0.
func payload(seq byte, bdSeq int) []byte {
	b := []byte{1 << 3, 99}
	if bdSeq >= 0 {
		b = append(b, "\x12\x09\x0a\x05bdSeq\x58"...)
		b = append(b, byte(bdSeq))
	}
	return append(b, 3<<3, seq&0x7f)
}

// catalog keeps topics in memory.
type catalog struct{ entries sync.Map }

func (c *catalog) Topics() (out []topic.Entry, err error) {
	c.entries.Range(func(_, v any) bool { out = append(out, v.(topic.Entry)); return true })
	return out, nil
}
func (c *catalog) PutTopic(e topic.Entry) error  { c.entries.Store(e.Name, e); return nil }
func (c *catalog) DeleteTopic(name string) error { c.entries.Delete(name); return nil }

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

// startBridge serves the log of a disk in memory on loopback.
func startBridge(t *testing.T, o bridge.Options) (*bridge.Bridge, *topic.Set) {
	t.Helper()
	set, err := topic.Open(topic.Options{FS: crashfs.New(), Catalog: &catalog{}, LeaderEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	o.Listeners = []bridge.Listener{{Addr: "127.0.0.1:0", MQTT: mqtt.Listener{Name: "test", Takes: mqtt.AnyKind}}}
	b, err := bridge.Start(o, weirLog{set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, set
}

// edgeNode is a paho client that the test can cut off.
func edgeNode(t *testing.T, b *bridge.Bridge, id string, change func(*paho.ClientOptions)) (paho.Client, func()) {
	t.Helper()
	var nc net.Conn
	o := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(uri *url.URL, _ paho.ClientOptions) (c net.Conn, err error) {
		c, err = net.Dial("tcp", uri.Host)
		nc = c
		return c, err
	})
	if change != nil {
		change(o)
	}
	c := paho.NewClient(o)
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c, func() { nc.Close() }
}

func done(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// stales is what the records of a topic are, in order: TYPE, with ! where they are stale.
// Commands are left out: they may overtake the message that is their cause.
func stales(t *testing.T, set *topic.Set, name string) string {
	t.Helper()
	tp := record.TopicPartition{Topic: name}
	next, end, err := weirLog{set}.Offsets(tp)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for next < end {
		bs, err := set.Fetch(context.Background(), tp, next, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for batch := range bs.All() {
			rs, err := batch.Records()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if kind := typeOf(&r); kind != "NCMD" {
					out = append(out, kind)
				}
			}
			next = batch.NextOffset()
		}
	}
	return strings.Join(out, " ")
}

func typeOf(r *record.Record) string {
	kind, _ := r.Header("type")
	if v, _ := r.Header(bridge.HeaderStale); string(v) == "true" {
		return string(kind) + "!"
	}
	return string(kind)
}

// An edge node whose messages have a gap is asked for its birth, by the route of any
// message; its data is marked until it comes. Its will takes it offline.
func TestSparkplug(t *testing.T) {
	b, set := startBridge(t, bridge.Options{
		Sparkplug: bridge.Sparkplug{Enable: true, Limits: sparkplug.Limits{RebirthInterval: time.Hour}},
		Routes:    []bridge.Route{{Filter: "spBv1.0/{group}/{type}/{node}/{device...}", Topic: "edge", Key: "{group}/{node}", Headers: map[string]string{"type": "{type}"}}},
	})
	commands := make(chan paho.Message, 10)
	node, cut := edgeNode(t, b, "n", func(o *paho.ClientOptions) { o.SetBinaryWill("spBv1.0/g/NDEATH/n", payload(0, 7), 1, false) })
	done(t, node.Subscribe("spBv1.0/g/NCMD/n", 1, func(_ paho.Client, m paho.Message) { commands <- m }))
	send := func(kind string, body []byte) { done(t, node.Publish("spBv1.0/g/"+kind, 1, false, body)) }
	send("NDATA/n", payload(5, -1)) // as after a restart of the box
	command(t, commands)
	send("NBIRTH/n", payload(0, 7))
	send("DBIRTH/n/d", payload(1, -1))
	send("DDATA/n/d", payload(2, -1))
	send("NDATA/n", payload(4, -1))
	send("DDATA/n/d", payload(5, -1))
	send("NBIRTH/n", payload(0, 7))
	send("NDATA/n", payload(1, -1))
	if got, want := stales(t, set, "edge"), "NDATA! NBIRTH DBIRTH DDATA NDATA! DDATA! NBIRTH NDATA"; got != want {
		t.Errorf("records are\n%s, want\n%s", got, want)
	}
	st := *b.Status().Sparkplug
	if st.Gaps != 1 || st.Rebirths != 1 || st.NodesOnline != 1 || st.NodesStale != 0 {
		t.Errorf("%+v", st)
	}
	cut()
	waitFor(t, "the will takes the node offline", func() bool { return b.Status().Sparkplug.NodesOnline == 0 })
	w := new(metric.Writer)
	if b.Metrics(w); !strings.Contains(string(w.Bytes()), `weir_sparkplug_nodes{state="offline"} 1`) {
		t.Errorf("metrics are\n%s", w.Bytes())
	}
}

// Following edge nodes costs no memory for a message, of theirs or of others.
func TestSparkplugAllocatesNothing(t *testing.T) {
	b, _ := startBridge(t, bridge.Options{Sparkplug: bridge.Sparkplug{Enable: true}, Routes: []bridge.Route{{Filter: "#", Topic: "all"}}})
	r := b.Router()
	var ways []mqtt.Route
	seq := byte(0)
	topics := [][]byte{[]byte("sensors/a"), []byte("spBv1.0/g/NDATA/n"), []byte("spBv1.0/STATE/host")}
	body := payload(0, -1)
	if _, err := r.Route([]byte("spBv1.0/g/NBIRTH/n"), payload(0, 1), nil); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		seq++
		body[len(body)-1] = seq & 0x7f
		for _, topic := range topics {
			var err error
			if ways, err = r.Route(topic, body, ways[:0]); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if st := b.Status().Sparkplug; st.NodesOnline != 1 || st.NodesStale != 0 {
		t.Errorf("%+v", st)
	}
}

// command wants an NCMD that asks for a birth.
func command(t *testing.T, commands <-chan paho.Message) {
	t.Helper()
	select {
	case m := <-commands:
		if !strings.HasSuffix(string(m.Payload()), "\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01") || m.Qos() != 0 || m.Retained() {
			t.Fatalf("%s: %q, QoS %d, retained %v", m.Topic(), m.Payload(), m.Qos(), m.Retained())
		}
	case <-time.After(patience):
		t.Fatal("no birth is asked for")
	}
}

// Each node is asked for itself, and nobody at all unless it is configured.
func TestSparkplugOfSeveralNodes(t *testing.T) {
	for _, enable := range []bool{true, false} {
		b, set := startBridge(t, bridge.Options{Sparkplug: bridge.Sparkplug{Enable: enable, Limits: sparkplug.Limits{MaxNodes: 3}}})
		var got sync.Map
		host, _ := edgeNode(t, b, "host", nil)
		done(t, host.Subscribe("spBv1.0/+/NCMD/#", 1, func(_ paho.Client, m paho.Message) { got.Store(m.Topic(), true) }))
		for i := range 5 {
			done(t, host.Publish(fmt.Sprintf("spBv1.0/g/NDATA/%d", i), 1, false, payload(1, -1)))
		}
		if !enable {
			if s := stales(t, set, "mqtt"); strings.Contains(s, "!") || b.Status().Sparkplug != nil {
				t.Errorf("records are %s", s)
			}
			continue
		}
		for i := range 3 {
			waitFor(t, "request", func() bool { _, ok := got.Load(fmt.Sprintf("spBv1.0/g/NCMD/%d", i)); return ok })
		}
		if st := b.Status().Sparkplug; st.Untracked != 2 || st.Rebirths != 3 {
			t.Errorf("%+v", st)
		}
	}
}
