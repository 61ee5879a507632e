package mqtt_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// refusalRow is a row of the table in docs/bridge.md.
type refusalRow struct {
	qos0, old, new string // what a client sees
	reason         string
}

// refusalTable reads the table of docs/bridge.md by its first column.
func refusalTable(t *testing.T) map[string]refusalRow {
	t.Helper()
	page, err := os.ReadFile("../../docs/bridge.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## When a message is not taken")
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := map[string]refusalRow{}
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 8 || strings.HasPrefix(cells[1], "-") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[cells[1]] = refusalRow{qos0: cells[2], old: cells[3], new: cells[4], reason: strings.Trim(cells[5], "`")}
	}
	delete(rows, "a message that")
	return rows
}

// refusalCase brings about what a row says.
type refusalCase struct {
	set    func(b *box)                            // before the start
	before func(v packet.Version, qos byte) []byte // packets that are taken
	then   func(b *box)                            // before the message
	send   func(v packet.Version, qos byte) []byte // the message; nil: x on t
	mend   func(b *box)                            // after which a message that waits is taken
}

// lastID is the packet identifier of the message that a case is about.
const lastID = 9

// message is a message with what change does to it.
func message(change func(p *packet.Publish)) func(packet.Version, byte) []byte {
	return func(v packet.Version, qos byte) []byte {
		p := packet.Publish{QoS: qos, Topic: []byte("t"), Payload: []byte("x")}
		if qos > 0 {
			p.PacketID = lastID
		}
		change(&p)
		return p.Append(nil, v)
	}
}

func on(topic string) func(packet.Version, byte) []byte {
	return message(func(p *packet.Publish) { p.Topic = []byte(topic) })
}

// one is a message of QoS 1 before the one in question.
func one(topic string, retain bool) func(packet.Version, byte) []byte {
	return func(v packet.Version, _ byte) []byte {
		p := packet.Publish{QoS: 1, PacketID: 1, Topic: []byte(topic), Payload: []byte("first"), Retain: retain}
		return p.Append(nil, v)
	}
}

// faultyLog refuses messages with an error while it has one, but not the server's own state.
type faultyLog struct {
	mqtt.Log
	err *atomic.Pointer[error]
}

func (l faultyLog) AppendAsync(tp record.TopicPartition, b record.Batch, done record.Completion) {
	if err := l.err.Load(); err != nil && !strings.HasPrefix(tp.Topic, "__") {
		done.Complete(-1, *err)
		return
	}
	l.Log.AppendAsync(tp, b, done)
}

func (l faultyLog) AppendGroup(writes []record.AsyncWrite) {
	err := l.err.Load()
	if err == nil {
		l.Log.AppendGroup(writes)
		return
	}
	for _, w := range writes {
		if w.Done != nil {
			w.Done.Complete(-1, *err)
		}
	}
}

// failing has the log fail once the clients are connected, until it is mended.
func failing(err error) refusalCase {
	fault := new(atomic.Pointer[error])
	return refusalCase{
		set:  func(b *box) { fault.Store(nil); b.wrap = func(l mqtt.Log) mqtt.Log { return faultyLog{l, fault} } },
		then: func(*box) { fault.Store(&err) },
		mend: func(*box) { fault.Store(nil) },
	}
}

func routed(routes ...bridge.Route) func(*box) { return func(b *box) { b.routes = routes } }

func someTime(*box) { time.Sleep(time.Minute) }

func limited(change func(*mqtt.Options)) func(*box) { return func(b *box) { change(&b.opts) } }

// refusalCases has a case for each row.
func refusalCases() map[string]refusalCase {
	keep := message(func(p *packet.Publish) { p.Topic, p.Retain = []byte("other"), true })
	alias := func(n uint32) func(packet.Version, byte) []byte {
		return message(func(p *packet.Publish) { p.Topic = nil; p.Props.SetUint(packet.TopicAlias, n) })
	}
	many := make([]bridge.Route, bridge.MaxWays+1)
	for i := range many {
		many[i] = bridge.Route{Filter: "t", Topic: fmt.Sprint("way-", i), Continue: true}
	}
	partition := int32(7)
	var release func()
	return map[string]refusalCase{
		"is malformed": {send: func(v packet.Version, qos byte) []byte {
			b := message(func(*packet.Publish) {})(v, qos)
			b[0] |= 6 // QoS 3 [MQTT-3.3.1-4]
			return b
		}},
		"has a wildcard in its topic name":              {send: on("t/+")},
		"has a subscription identifier":                 {send: message(func(p *packet.Publish) { p.Props.SubscriptionIDs = []uint32{1} })},
		"has a topic alias that it has not said before": {send: alias(3)},
		"has a topic alias beyond what CONNACK said":    {send: alias(17)},
		"is one more in flight than CONNACK said": {
			set:  limited(func(o *mqtt.Options) { o.ReceiveMaximum = 1 }),
			then: func(b *box) { release = sync.OnceFunc(b.holdSyncs()) },
			send: func(v packet.Version, qos byte) []byte { return append(one("t", false)(v, qos), on("t")(v, qos)...) },
			mend: func(*box) { release() },
		},
		"makes a packet longer than `mqtt.max_packet`": {
			set:  limited(func(o *mqtt.Options) { o.MaxPacketBytes, o.MaxConnectBytes = 100, 100 }),
			send: message(func(p *packet.Publish) { p.Payload = make([]byte, 100) }),
		},
		"has a name longer than `mqtt.max_topic_bytes`":  {send: on(strings.Repeat("x", 1025))},
		"has a name deeper than `mqtt.max_topic_levels`": {send: on(strings.Repeat("/", 16))},
		"has a name below `$SYS/`":                       {send: on("$SYS/x")},
		"no rule allows":                                 {set: func(b *box) { identifyByName(b) }},
		"is beyond `mqtt.max_publish_rate` or `max_publish_bytes`": {
			set: limited(func(o *mqtt.Options) { o.MaxPublishBytes = 6 }), before: one("t", false), mend: someTime,
		},
		"has routes to a Kafka topic of no valid name": {set: routed(bridge.Route{Filter: "{a}", Topic: "__{a}"})},
		"has a route to a partition that the Kafka topic does not have": {
			set: routed(bridge.Route{Filter: "t", Topic: "mqtt", Partition: &partition}),
		},
		"has more than 16 routes": {set: routed(many...)},
		"would make one Kafka topic more than `mqtt.max_topics`": {set: func(b *box) {
			b.opts.MaxTopics = 1
			b.routes = []bridge.Route{{Filter: "{a}", Topic: "to-{a}"}}
		}},
		"is larger than `max.message.bytes` of its Kafka topic": {
			then: func(b *box) { b.smallTopics("small") },
			set:  routed(bridge.Route{Filter: "{a}", Topic: "{a}"}),
			send: message(func(p *packet.Publish) { p.Topic, p.Payload = []byte("small"), make([]byte, 2000) }),
		},
		"would be retained beyond `mqtt.max_retained`": {
			set: limited(func(o *mqtt.Options) { o.MaxRetained = 1 }), before: one("t", true), send: keep,
		},
		"would be retained beyond `mqtt.max_retained_bytes`": {
			set: limited(func(o *mqtt.Options) { o.MaxRetainedBytes = 100 }), before: one("t", true), send: keep,
		},
		"finds the disk full":      failing(fmt.Errorf("%w: 0 bytes left", record.ErrDiskFull)),
		"finds a disk that failed": failing(record.ErrStorage),
		"finds its Kafka topic deleted this moment": {
			before: one("t", false),
			then: func(b *box) {
				if err := b.set.Delete("mqtt"); err != nil {
					b.t.Fatal(err)
				}
			},
		},
		"is beyond the client quota `producer_byte_rate` of its user or client identifier": {
			set: func(b *box) {
				b.opts.Identify = func(mqtt.Login) (mqtt.Identity, error) { return &charged{left: len("t" + "first")}, nil }
			},
			before: one("t", false), mend: someTime,
		},
		"is beyond the rates of its listener": {before: one("t", false), mend: someTime},
	}
}

// Every way in which a message can fail: what docs/bridge.md says of it is what happens,
// at each QoS and in each version, and what happens is counted by its reason.
func TestRefusalTable(t *testing.T) {
	rows, cases := refusalTable(t), refusalCases()
	for what := range cases {
		if _, ok := rows[what]; !ok {
			t.Errorf("docs/bridge.md has no row %q", what)
		}
	}
	for what, row := range rows {
		cs, ok := cases[what]
		if !ok {
			t.Errorf("there is no case for the row %q of docs/bridge.md", what)
			continue
		}
		try := func(v packet.Version, qos byte, want string) {
			if want == "-" {
				return
			}
			t.Run(fmt.Sprintf("%s/v%d/qos%d", what, v, qos), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { row.check(t, what, &cs, v, qos, want) })
			})
		}
		if row.old != "-" {
			try(v3, 0, row.qos0)
		}
		try(v3, 1, row.old)
		try(v3, 2, row.old)
		try(v5, 0, row.qos0)
		try(v5, 1, row.new)
		try(v5, 2, row.new)
	}
}

// check has a case happen to a new box.
func (row *refusalRow) check(t *testing.T, what string, cs *refusalCase, v packet.Version, qos byte, want string) {
	b := newBox(t)
	if cs.set != nil {
		cs.set(b)
	}
	b.start()
	defer func() {
		if cs.mend != nil {
			cs.mend(b)
		}
		b.stop()
	}()
	dial := b.dial
	if strings.Contains(what, "its listener") {
		dial = b.listener(mqtt.Listener{Name: "slow", Takes: mqtt.AnyKind, MaxPublishBytes: 6})
	}
	c := dial(v).enter("c")
	if cs.before != nil {
		c.send(cs.before(v, qos))
		c.expect("PUBACK #1")
	}
	synctest.Wait()
	if cs.then != nil {
		cs.then(b)
	}
	send := cs.send
	if send == nil {
		send = on("t")
	}
	go c.nc.Write(send(v, qos)) // the server may close before it has read all
	synctest.Wait()
	got := c.outcome()
	code := ""
	if strings.HasPrefix(row.new, "closed, ") && v == v5 {
		code = strings.TrimPrefix(row.new, "closed, ")
	}
	if qos == 0 && want == "closed" && code != "" {
		want = "closed, " + code
	}
	counted, lost := b.refusedBy(row.reason)
	switch got {
	case "nothing":
		got = "waits"
		if qos == 0 {
			got = "lost"
		}
	}
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantCounted, wantLost := 1, 0
	switch want {
	case "waits":
		wantCounted = 0
	case "lost":
		wantLost = 1
	}
	if counted != wantCounted || lost != wantLost {
		t.Errorf("refused for %s: %d, want %d; lost: %d, want %d\n%s", row.reason, counted, wantCounted, lost, wantLost, b.metrics())
	}
	closed := `weir_mqtt_connections_closed_total{reason="message_refused"} 1`
	if row.reason == "protocol" || strings.HasPrefix(row.new, "closed") {
		closed = `weir_mqtt_connections_closed_total{reason="protocol_error"} 1`
	}
	if m := b.metrics(); strings.HasPrefix(want, "closed") && !strings.Contains(m, closed) {
		t.Errorf("no %s in\n%s", closed, m)
	}
	if got == "waits" {
		cs.mend(b)
		time.Sleep(time.Second)
		if got := c.outcome(); got != "0x00" {
			t.Errorf("after what mends it: %s", got)
		}
	}
}

// outcome is what has come of the last message: an acknowledgement with a reason code,
// the end of the connection, or nothing.
func (c *client) outcome() string {
	c.t.Helper()
	closed := ""
	for {
		c.mu.Lock()
		_, n, _ := packet.Split(c.buf, 1<<28)
		whole, over := n > 0 && n <= len(c.buf), c.err != nil
		c.mu.Unlock()
		switch {
		case !whole && over:
			return "closed" + closed
		case !whole:
			return "nothing"
		}
		got := c.next()
		if code, ok := strings.CutPrefix(got, "DISCONNECT "); ok {
			closed = ", 0x" + strings.ToUpper(code)
		}
		if kind, rest, _ := strings.Cut(got, fmt.Sprintf(" #%d", lastID)); kind == "PUBACK" || kind == "PUBREC" {
			return "0x" + strings.ToUpper(fmt.Sprintf("%02s", strings.TrimSpace(rest+" ")))
		}
	}
}

var refusedMetric = regexp.MustCompile(`(?m)^weir_mqtt_(messages_refused|qos0_lost)_total\{reason="(\w+)"\} (\d+)`)

// refusedBy is how many messages were refused for a reason, and lost; a count for another
// is an error.
func (b *box) refusedBy(reason string) (refused, lost int) {
	b.t.Helper()
	known := false
	for _, m := range refusedMetric.FindAllStringSubmatch(b.metrics(), -1) {
		n := 0
		fmt.Sscan(m[3], &n)
		switch {
		case m[2] != reason && n > 0:
			b.t.Errorf("counted as %s, want %s", m[2], reason)
		case m[2] != reason:
		case m[1] == "messages_refused":
			refused, known = n, true
		default:
			lost = n
		}
	}
	if !known {
		b.t.Errorf("there is no reason %q", reason)
	}
	return refused, lost
}

// An alias of a topic name that is too long stands for one that is too long.
func TestAliasOfRefusedTopic(t *testing.T) {
	b := newBox(t).start()
	defer b.stop()
	c := b.client(v5, "c")
	for i, topic := range []string{strings.Repeat("x", 5000), "", strings.Repeat("/", 20), "", "t", ""} {
		p := packet.Publish{QoS: 1, PacketID: uint16(i + 1), Topic: []byte(topic)}
		p.Props.SetUint(packet.TopicAlias, 1)
		c.send(p.Append(nil, v5))
	}
	c.expect("PUBACK #1 90", "PUBACK #2 90", "PUBACK #3 90", "PUBACK #4 90", "PUBACK #5", "PUBACK #6")
}
