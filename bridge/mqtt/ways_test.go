package mqtt_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/testbed/crashfs"
)

// archived has every message go to the topic archive, too; those of r/i to topic-i.
func archived(b *box, topics int) *box {
	b.routes = []bridge.Route{{Filter: "#", Topic: "archive", Key: "k", Continue: true}}
	for i := range topics {
		b.routes = append(b.routes, bridge.Route{Filter: fmt.Sprint("r/", i), Topic: fmt.Sprint("topic-", i)})
	}
	return b
}

func (b *box) values(topic string) (out []string) {
	b.t.Helper()
	for _, r := range b.records(topic) {
		out = append(out, string(r.Value))
	}
	return out
}

// A message of several ways is in each of their topics, and the subscribers have it once.
func TestSeveralWays(t *testing.T) {
	b := archived(newBox(t), 2).start()
	defer func() { b.stop() }()
	s := b.client(v5, "s", keep)
	s.send(subscribe(v5, 1, "r/#@2"))
	s.expect("SUBACK #1 02")
	c := b.client(v5, "c", keep)
	c.send(publish(v5, 1, "r/0", "a"), publish2(v5, 2, "r/1", "b"), publish(v5, 3, "r/0", "c"), publish(v5, 5, "r/1", "d"), retained(v5, 4, "r/0", "e"))
	c.expect("PUBACK #1", "PUBREC #2", "PUBACK #3", "PUBACK #5", "PUBACK #4")
	b.crash()
	if got := strings.Join(b.values("archive"), ""); got != "abcde" {
		t.Errorf("archive has %s", got)
	}
	for i, want := range []string{"ace", "bd"} {
		if got := strings.Join(b.values(fmt.Sprint("topic-", i)), ""); got != want {
			t.Errorf("topic-%d has %s, want %s", i, got, want)
		}
	}
	first, further := b.records("archive")[0], b.records("topic-0")[0]
	if strings.Contains(headerText(first), "mqtt.copy") || !strings.Contains(headerText(further), "mqtt.copy=true") {
		t.Errorf("%s; %s", headerText(first), headerText(further))
	}
	late := b.client(v5, "late")
	late.send(subscribe(v5, 1, "r/#@0"))
	late.expect("SUBACK #1 00", "PUBLISH r/0=e q0 retain")
	late.quiet()
	s, _ = b.connect(v5, "s", keep)
	var got []string
	for range 5 {
		m := s.next()
		topic, value, _ := strings.Cut(strings.Fields(m)[1], "=")
		got = append(got, topic+value)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"r/0a", "r/0c", "r/0e", "r/1b", "r/1d"}) {
		t.Errorf("the subscriber has %s", got)
	}
	s.quiet()
}

// The acknowledgement waits for the sync that covers all ways.
func TestSeveralWaysWaitForTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := archived(newBox(t), 2).start()
		defer b.stop()
		c := b.client(v3, "c", keep)
		release := b.holdSyncs()
		c.send(publish(v3, 1, "r/0", "x"), publish2(v3, 2, "r/1", "y"), publish(v3, 3, "r/1", "z"))
		synctest.Wait()
		c.quiet()
		release()
		c.expect("PUBACK #1", "PUBREC #2", "PUBACK #3")
	})
}

// A message that one of its ways refuses is refused as a whole, and in none of its topics.
func TestSeveralWaysOrNone(t *testing.T) {
	b := newBox(t)
	bad := int32(9)
	b.routes = []bridge.Route{
		{Filter: "#", Topic: "archive", Continue: true},
		{Filter: "bad", Topic: "few", Partition: &bad},
		{Filter: "twice", Topic: "archive"},
		{Filter: "drop", Drop: true},
	}
	b.start()
	defer func() { b.opts.Log = nil; b.srv.Close(); b.set.Close() }()
	c := b.client(v5, "c")
	c.send(publish(v5, 1, "good", "1"), publish2(v5, 2, "bad", "2"), publish(v5, 3, "twice", "3"), publish(v5, 4, "drop", "4"))
	c.expect("PUBACK #1", "PUBREC #2 83", "PUBACK #3", "PUBACK #4")
	if got := strings.Join(b.values("archive"), ""); got != "1334" {
		t.Errorf("archive has %s", got)
	}
	b.fs.OnOp(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync || op.Kind == crashfs.Write {
			return errors.New("input/output error")
		}
		return nil
	}, nil)
	c.send(publish(v5, 5, "twice", "5"), publish2(v5, 6, "twice", "6"))
	c.expect("PUBACK #5 80", "PUBREC #6 80")
	b.fs.OnOp(nil, nil)
}

// Messages of several ways and of one keep their order in a partition they share.
func TestSeveralWaysKeepOrder(t *testing.T) {
	b := newBox(t)
	b.routes = []bridge.Route{{Filter: "many", Topic: "other", Continue: true}, {Filter: "#", Topic: "all"}}
	b.start()
	defer b.stop()
	c := b.client(v5, "c")
	var all [][]byte
	var want []string
	for i := range 60 {
		topic := "many"
		if i%3 == 0 || i%7 == 0 {
			topic = "one"
		}
		p := publish(v5, uint16(i+1), topic, fmt.Sprint(i))
		if i%11 == 0 {
			p[0] |= 1
		}
		all, want = append(all, p), append(want, fmt.Sprint(i))
	}
	c.send(all...)
	for i := range all {
		c.expect(fmt.Sprintf("PUBACK #%d", i+1))
	}
	if got := b.values("all"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
