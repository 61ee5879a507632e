package mqtt_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// asking is a downlink whose records are answered.
func asking() bridge.Downlink {
	return bridge.Downlink{Topic: "commands", To: "dev/{key}/cmd/{id}", QoS: 1, Reply: bridge.Reply{
		To: "dev/{key}/reply/{id}", Topic: "replies", Topics: []string{"mine-*"}, Timeout: time.Hour,
	}}
}

func from(id string) record.Header {
	return record.Header{Key: "kafka_correlationId", Value: []byte(id)}
}

func replyTo(topic string) record.Header {
	return record.Header{Key: "kafka_replyTopic", Value: []byte(topic)}
}

// command takes the next message, a command, and returns the name for its answer.
func (c *client) command(want string) (reply string) {
	c.t.Helper()
	got := c.next()
	name, rest, _ := strings.Cut(strings.TrimPrefix(got, "PUBLISH "), "=")
	if !strings.HasPrefix(rest, want+" q1") {
		c.t.Fatalf("got %q, want a command %s", got, want)
	}
	reply = strings.Replace(name, "/cmd/", "/reply/", 1)
	if c.v == packet.V5 && !strings.Contains(rest, " response="+reply+" ") {
		c.t.Fatalf("got %q, which does not name %s", got, reply)
	}
	return reply
}

// only returns the one record of a topic, as text: key, value, headers of the answer.
func (b *box) only(name string) string {
	b.t.Helper()
	rs := b.records(name)
	if len(rs) != 1 {
		b.t.Fatalf("%s holds %d records, want 1", name, len(rs))
	}
	return answerText(rs[0])
}

func answerText(r record.Record) string {
	s := fmt.Sprintf("%s=%s", r.Key, r.Value)
	for _, h := range r.Headers {
		if h.Key == "kafka_correlationId" || h.Key == "mqtt.command" || h.Key == "mqtt.reply" {
			s += " " + h.Key + ":" + string(h.Value)
		}
	}
	return s
}

// A device of either version answers, the broker having started anew in between, and the
// answer is where the command said, with what it is matched by.
func TestReplies(t *testing.T) {
	for _, v := range []packet.Version{v3, v5} {
		b := newBox(t)
		b.downlinks = []bridge.Downlink{asking()}
		b.start()
		if _, err := b.set.Ensure("mine-1", topic.Spec{Partitions: 3}); err != nil {
			t.Fatal(err)
		}
		d := b.client(v, "d", keep)
		d.send(subscribe(v, 1, "dev/d/cmd/+"))
		d.expect("SUBACK #1 01")
		b.produce("commands", "d", "one", from("c1"))
		b.produce("commands", "d", "two", from("\x00\xff"), replyTo("mine-1"), record.Header{Key: "kafka_replyPartition", Value: []byte{0, 0, 0, 2}})
		one, two := d.command("one"), d.command("two")
		if v == v5 {
			b.produce("commands", "d", "see", from("c3"))
			got := d.next()
			if !strings.HasSuffix(got, " correlation=c3") || strings.Contains(got, "kafka_") {
				t.Errorf("%q has not the correlation data alone", got)
			}
		}
		b.crash()
		d = b.client(v, "e")
		d.send(publish(v, 1, one, "done 1"), publish(v, 2, two, "done 2"))
		d.expect("PUBACK #1", "PUBACK #2")
		if got, want := b.only("replies"), "d=done 1 kafka_correlationId:c1 mqtt.command:commands-0@0"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		tp := record.TopicPartition{Topic: "mine-1", Partition: 2}
		if _, end, _ := (weirLog{b.set}).Offsets(tp); end != 1 {
			t.Errorf("the partition that the command named holds %d records", end)
		}
		b.stop()
	}
}

// What cannot be matched, is late or asks for what is not allowed goes by the routes, says
// so, and is counted.
func TestRepliesThatGoByRoutes(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{asking()}
	b.routes = []bridge.Route{{Filter: "dev/{d}/reply/{id}", Topic: "strays", Key: "{id}"}}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d")
	d.send(subscribe(v5, 1, "dev/d/cmd/+"))
	d.expect("SUBACK #1 01")
	b.produce("elsewhere", "", "what others have written")              // so that it is the rule that refuses
	b.produce("commands", "d", "a", from("c1"), replyTo("elsewhere"))   // not allowed
	b.produce("commands", "d", "b", from("c2"), replyTo("mine-absent")) // allowed, but there is none
	b.produce("commands", "d", "c", from("c3"), replyTo("__weir_retained"))
	b.produceAt("commands", time.Now().Add(-2*time.Hour), "d", "late", from("c4"))
	b.produce("commands", "x", "not d's", from("c5"))
	b.produce("commands", "d", "e", from("c6"))
	var to []string
	for _, want := range []string{"a", "b", "c", "late", "e"} {
		to = append(to, d.command(want))
	}
	id := func(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
	forged := strings.Replace(to[4], "/d/", "/x/", 1)       // e's, as if x had been asked
	guessed := "dev/d/reply/0-4-" + strings.Repeat("0", 8)  // x's, by offset
	beyond := "dev/d/reply/0-99-" + strings.Repeat("0", 8)  // nothing there
	nowhere := "dev/d/reply/77-0-" + strings.Repeat("0", 8) // no such partition
	want := []string{
		id(to[0]) + "=r kafka_correlationId:c1 mqtt.command:commands-0@0 mqtt.reply:refused",
		id(to[1]) + "=r kafka_correlationId:c2 mqtt.command:commands-0@1 mqtt.reply:refused",
		id(to[2]) + "=r kafka_correlationId:c3 mqtt.command:commands-0@2 mqtt.reply:refused",
		id(to[3]) + "=r kafka_correlationId:c4 mqtt.command:commands-0@3 mqtt.reply:late",
	}
	names := append([]string(nil), to[:4]...)
	for _, name := range []string{forged, guessed, beyond, nowhere, "dev/d/reply/nonsense"} {
		names = append(names, name)
		want = append(want, id(name)+"=r mqtt.reply:unmatched")
	}
	for _, name := range names {
		d.send(publish(v5, 9, name, "r"))
		d.expect("PUBACK #9")
	}
	d.send(publish(v5, 9, "dev/d/reply/too/deep", "r"), publish(v5, 10, "other/d/reply/0-0-00000000", "r"))
	d.expect("PUBACK #9", "PUBACK #10")
	var got []string
	for _, r := range b.records("strays") {
		got = append(got, answerText(r))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	d.send(publish(v5, 9, to[4], "r"))
	d.expect("PUBACK #9")
	if got, want := b.only("replies"), "d=r kafka_correlationId:c6 mqtt.command:commands-0@5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(b.records("elsewhere")); n != 1 {
		t.Errorf("%d records in a topic that reply.topics does not allow, want the one of others", n)
	}
	if (weirLog{b.set}).Topic("mine-absent") != nil {
		t.Error("a topic was made because a command named it")
	}
}

// A topic that is deleted and made again has other commands at the same offsets.
func TestReplyToDeletedTopic(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{asking()}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v3, "d")
	d.send(subscribe(v3, 1, "dev/d/cmd/+"))
	d.expect("SUBACK #1 01")
	b.produceAt("commands", time.Now().Add(-time.Minute), "d", "old", from("c1"))
	old := d.command("old")
	if err := b.set.Delete("commands"); err != nil {
		t.Fatal(err)
	}
	b.produce("commands", "d", "new", from("c2"))
	d.send(unsubscribe(v3, 2, "dev/d/cmd/+"))
	for m := d.next(); m != "UNSUBACK #2"; m = d.next() {
	}
	d.send(publish(v3, 9, old, "r"))
	d.expect("PUBACK #9")
	if got, want := b.only("mqtt"), old+"=r mqtt.reply:unmatched"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A command that was sent before its downlink changed, or went, is answered as it asked.
func TestRepliesOverReload(t *testing.T) {
	for _, restart := range []bool{false, true} {
		repliesOverReload(t, restart)
	}
}

func repliesOverReload(t *testing.T, restart bool) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{asking()}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v3, "d")
	d.send(subscribe(v3, 1, "dev/#"))
	d.expect("SUBACK #1 01")
	b.produce("commands", "d", "one", from("c1"))
	one := d.command("one")
	changed := asking()
	changed.To, changed.Reply.To, changed.Reply.Topic = "dev/{key}/do/{id}", "dev/{key}/did/{id}", ""
	b.reload(changed)
	b.produce("commands", "d", "two", from("c2"))
	two := strings.Replace(d.next()[len("PUBLISH "):], "/do/", "/did/", 1)
	two, _, _ = strings.Cut(two, "=")
	b.reload()
	if restart {
		b.restart()
	}
	d = b.client(v3, "e")
	d.send(publish(v3, 9, one, "r1"), publish(v3, 10, two, "r2"))
	d.expect("PUBACK #9", "PUBACK #10")
	if got, want := b.only("replies"), "d=r1 kafka_correlationId:c1 mqtt.command:commands-0@0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := b.only("mqtt"), two+"=r2 kafka_correlationId:c2 mqtt.command:commands-0@1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A command may name its own Response Topic: then the answer is its asker's business.
func TestCommandNamesResponseTopic(t *testing.T) {
	b := newBox(t)
	b.downlinks = []bridge.Downlink{asking()}
	b.start()
	defer func() { b.stop() }()
	d := b.client(v5, "d")
	d.send(subscribe(v5, 1, "dev/d/cmd/+"))
	d.expect("SUBACK #1 01")
	b.produce("commands", "d", "x", record.Header{Key: "mqtt.response-topic", Value: []byte("my/own")}, record.Header{Key: "mqtt.correlation-data", Value: []byte("1")}, from("2"))
	if got := d.next(); !strings.HasSuffix(got, " response=my/own correlation=1") {
		t.Error(got)
	}
}

func TestReplyMistakes(t *testing.T) {
	for _, c := range []struct {
		change func(*bridge.Downlink)
		want   string
	}{
		{func(d *bridge.Downlink) { d.Reply.To = "" }, `reply has no "to"`},
		{func(d *bridge.Downlink) { d.Reply.To = "dev/{key}/reply" }, "must end in a level of text and the level {id}"},
		{func(d *bridge.Downlink) { d.Reply.To = "dev/{key}/{id}" }, "must end in a level of text and the level {id}"},
		{func(d *bridge.Downlink) { d.Reply.To = "{id}/reply/{id}" }, "must end in a level of text and the level {id}"},
		{func(d *bridge.Downlink) { d.Reply.To = "dev/{id}/reply" }, "must end in a level of text and the level {id}"},
		{func(d *bridge.Downlink) { d.Reply.To = "dev/{nobody}/reply/{id}" }, "reply.to \"dev/{nobody}/reply/{id}\": {nobody} is not known"},
		{func(d *bridge.Downlink) { d.Retain = true }, "both retain and reply"},
		{func(d *bridge.Downlink) { d.Reply.Topic = "__x" }, "reply.topic"},
		{func(d *bridge.Downlink) { d.Reply.Topics = []string{"["} }, "neither a name nor a glob"},
		{func(d *bridge.Downlink) { d.Reply.Timeout = -1 }, "reply.timeout"},
	} {
		d := asking()
		c.change(&d)
		if _, err := bridge.NewRouter(nil, []bridge.Downlink{d}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
