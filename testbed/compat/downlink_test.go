package compat_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/site"
)

// hangup writes the site's file anew and waits until its log says what came of it.
func hangup(t *testing.T, s *site.Site, config, said string) {
	t.Helper()
	before := strings.Count(s.Output(), said)
	if err := os.WriteFile(s.ConfigPath(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the log says "+said, func() bool { return strings.Count(s.Output(), said) > before })
}

// listener is a foreign subscriber whose lines can be read one by one.
func listener(t *testing.T, args ...string) *bufio.Reader {
	t.Helper()
	cmd := command(t, "stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := bufio.NewReader(out)
	if err := waitFor(r, "SUBACK"); err != nil {
		t.Fatal(err)
	}
	return r
}

// line reads the next line of what was received.
func line(t *testing.T, r *bufio.Reader) []string {
	t.Helper()
	for {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := strings.CutPrefix(text, "GOT "); ok {
			return strings.Split(strings.TrimSpace(got), "|")
		}
	}
}

// Routes with captures, headers and several ways, from mosquitto's client to kcat.
func TestRoutesForForeignClients(t *testing.T) {
	s := startWeir(t, `
routes:
  - {filter: "plant/{line}/{sensor}/temp", topic: "temp-{line}", key: "{sensor}", headers: {line: "{line}", of: "{topic}"}, continue: true}
  - {filter: "plant/{all...}", topic: raw, key: "{all}"}
  - {filter: "debug/#", drop: true}
`)
	host, port := hostPort(s.Addresses().MQTT)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for topic, payload := range map[string]string{"plant/a b/s1/temp": "20", "plant/x": "-", "debug/x": "no", "else": "where"} {
			run(t, "", "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", "1", "-t", topic, "-m", payload)
		}
	}
	for topic, want := range map[string]string{
		"temp-a_b": "s1=20 line=a b,of=plant/a b/s1/temp\n",
		"mqtt":     "else=where \n",
	} {
		got := kcat(t, s, "", "-C", "-t", topic, "-o", "beginning", "-e", "-f", `%k=%s %h\n`)
		var kept strings.Builder
		for text := range strings.Lines(got) {
			head, headers, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " mqtt.topic=")
			_, own, _ := strings.Cut(headers, ",line=")
			if own != "" {
				own = "line=" + own
			}
			kept.WriteString(head + " " + own + "\n")
		}
		if kept.String() != want+want {
			t.Errorf("%s holds %q", topic, got)
		}
	}
	got := kcat(t, s, "", "-C", "-t", "raw", "-o", "beginning", "-e", "-f", `%k=%s\n`)
	if strings.Count(got, "a b/s1/temp=20\n") != 2 || strings.Count(got, "x=-\n") != 2 || strings.Count(got, "\n") != 4 {
		t.Errorf("raw holds %q", got)
	}
}

// Downlinks change twelve times while a Kafka client writes commands: a device that is
// connected gets each once, those of one topic and QoS in order, one that comes and goes misses none, and both get
// them by the settings that were in force when they were written.
func TestDownlinkReloadUnderLoad(t *testing.T) {
	const commands, changes = 3000, 12
	config := func(n int) string {
		return fmt.Sprintf("downlink:\n  - {topic: commands, to: \"cmd/%d/{key}\", qos: %d}\n", n, 1+n%2)
	}
	s := startWeir(t, config(0))
	steady, restless := newHearer(t, s, "steady"), newHearer(t, s, "restless")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.DefaultProduceTopic("commands"), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	least := make([]int, commands) // the settings that were in force for certain
	for i := range commands {
		if n := i * changes / commands; i%(commands/changes) == 0 && n > 0 {
			hangup(t, s, config(n), "downlink changed")
			restless.come(n%2 == 0)
		}
		least[i] = i * changes / commands
		cl.Produce(t.Context(), &kgo.Record{Key: []byte("d"), Value: fmt.Append(nil, i)}, nil)
		if (i+1)%(commands/changes) == 0 { // those settings were the last, too
			if err := cl.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	hangup(t, s, "downlink:\n  - {topic: commands, to: \"cmd/#\"}\n", "not reloaded")
	restless.come(true)
	for _, h := range []*hearer{steady, restless} {
		waitUntil(t, h.id+" has all commands", func() bool { return h.different() == commands })
		last := map[int]int{} // by settings
		for _, got := range h.got() {
			var n, number int
			if _, err := fmt.Sscanf(got, "cmd/%d/d %d", &n, &number); err != nil || n != least[number] {
				t.Fatalf("%s got %q, written while settings %d were in force", h.id, got, least[number])
			}
			if before, ok := last[n]; h == steady && ok && number != before+1 { // one topic, one QoS [MQTT-4.6.0-6]
				t.Fatalf("%s got %q after %d", h.id, got, before)
			}
			last[n] = number
		}
	}
	if n := len(steady.got()); n != commands {
		t.Errorf("the device that was connected all the time got %d messages of %d", n, commands)
	}
	hangup(t, s, "", "downlink removed")
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("d"), Value: []byte("gone")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	hangup(t, s, config(0), "downlink added")
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("d"), Value: []byte("back")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the downlink is back", func() bool { return steady.different() == commands+1 })
	if got := steady.got(); got[len(got)-1] != "cmd/0/d back" {
		t.Errorf("the last is %q", got[len(got)-1])
	}
}

// hearer is a paho client of MQTT 3.1.1 with a session, and what it has received.
type hearer struct {
	t      *testing.T
	id     string
	client paho.Client

	mu  sync.Mutex
	all []string
	set map[string]bool
}

func newHearer(t *testing.T, s *site.Site, id string) *hearer {
	t.Helper()
	h := &hearer{t: t, id: id, set: map[string]bool{}}
	o := paho.NewClientOptions().AddBroker("tcp://" + s.Addresses().MQTT).SetClientID(id).SetCleanSession(false).SetOrderMatters(true).
		SetAutoReconnect(false).SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		got := m.Topic() + " " + string(m.Payload())
		h.all, h.set[got] = append(h.all, got), true
	})
	h.client = paho.NewClient(o)
	h.come(true)
	if token := h.client.Subscribe("cmd/#", 2, nil); !token.WaitTimeout(limit) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { h.client.Disconnect(100) })
	return h
}

// come has the client connected, or not.
func (h *hearer) come(here bool) {
	h.t.Helper()
	switch {
	case !here && h.client.IsConnected():
		h.client.Disconnect(0)
	case here && !h.client.IsConnected():
		if token := h.client.Connect(); !token.WaitTimeout(limit) || token.Error() != nil {
			h.t.Fatal(token.Error())
		}
	}
}

func (h *hearer) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.all...)
}

func (h *hearer) different() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.set)
}

const asking = `
downlink:
  - topic: commands
    to: devices/{key}/cmd/{id}
    qos: 1
    reply: {to: "devices/{key}/reply/{id}", topic: replies, topics: ["mine-*"], timeout: 1h}
routes:
  - {filter: "devices/{key}/reply/{id}", topic: strays, key: "{key}"}
topics:
  - {name: mine-1, partitions: 3}
`

// A Kafka client commands devices of both versions as Spring's template does, the broker is
// killed between command and answer, and each answer is where it was asked for.
func TestCommandsAndReplies(t *testing.T) {
	s := startWeir(t, asking)
	host, port := hostPort(s.Addresses().MQTT)
	old := listener(t, "-h", host, "-p", port, "-V", "mqttv311", "-q", "1", "-i", "old", "-t", "devices/old/cmd/+", "-F", "GOT %t|%p")
	young := listener(t, "-h", host, "-p", port, "-V", "mqttv5", "-q", "1", "-i", "young", "-t", "devices/young/cmd/+", "-F", "GOT %R|%D|%p")
	id := "\x00\x01\xfe\xff binary id" // a UUID is 16 such bytes
	header := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.DefaultProduceTopic("commands"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, r := range []*kgo.Record{
		{Key: []byte("old"), Value: []byte("open"), Headers: []kgo.RecordHeader{header("kafka_correlationId", id),
			header("kafka_replyTopic", "mine-1"), header("kafka_replyPartition", "\x00\x00\x00\x02")}},
		{Key: []byte("young"), Value: []byte("open"), Headers: []kgo.RecordHeader{header("kafka_correlationId", "c2")}},
		{Key: []byte("young"), Value: []byte("open"), Headers: []kgo.RecordHeader{header("kafka_correlationId", "c3"), header("kafka_replyTopic", "audit")}},
	} {
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	name := line(t, old)[0]
	answers := []string{"devices/old/reply/" + name[strings.LastIndexByte(name, '/')+1:]}
	for _, want := range []string{"c2", "c3"} {
		got := line(t, young)
		if got[1] != want || got[2] != "open" {
			t.Fatalf("got %q", got)
		}
		answers = append(answers, got[0])
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	host, port = hostPort(s.Addresses().MQTT)
	for i, version := range []string{"mqttv311", "mqttv5", "mqttv5"} {
		run(t, "", "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", "1", "-t", answers[i], "-m", fmt.Sprint("done ", i))
	}
	run(t, "", "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "devices/old/reply/0-1-00000000", "-m", "guessed")
	text := func(topic string, partition int32) (out []string) {
		for _, r := range partitionOf(t, s, topic, partition) {
			got := string(r.Value)
			for _, h := range r.Headers {
				if h.Key == "kafka_correlationId" || h.Key == "mqtt.command" || h.Key == "mqtt.reply" {
					got += "|" + string(h.Value)
				}
			}
			out = append(out, got)
		}
		return out
	}
	for _, c := range []struct {
		topic     string
		partition int32
		want      []string
	}{
		{"mine-1", 2, []string{"done 0|" + id + "|commands-0@0"}},
		{"replies", 0, []string{"done 1|c2|commands-0@1"}},
		{"strays", 0, []string{"done 2|c3|commands-0@2|refused", "guessed|unmatched"}},
	} {
		if got := text(c.topic, c.partition); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s holds %q, want %q", c.topic, got, c.want)
		}
	}
	if n, err := s.Metric(t.Context(), `weir_mqtt_replies_total{outcome="matched"}`); err != nil || n != 2 {
		t.Errorf("%v answers matched, %v", n, err)
	}
}

// partitionOf reads a whole partition.
func partitionOf(t *testing.T, s *site.Site, topic string, partition int32) (out []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		out = append(out, fetches.Records()...)
		var end int64
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { end = p.HighWatermark })
		if n := len(out); n > 0 && out[n-1].Offset+1 >= end {
			return out
		}
	}
}

// mosquitto_rr asks, a Kafka service answers.
func TestKafkaServiceAnswersMosquittoRR(t *testing.T) {
	s := startWeir(t, `
routes:
  - {filter: "ask/#", topic: questions}
downlink:
  - {topic: answers, to: "{header.mqtt.response-topic}", qos: 1}
topics:
  - {name: questions}
`)
	host, port := hostPort(s.Addresses().MQTT)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics("questions"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	asker := command(t, "mosquitto_rr", "-h", host, "-p", port, "-V", "mqttv5", "-q", "1", "-t", "ask/time", "-e", "told/panel", "-m", "what time", "-D", "publish", "correlation-data", "7", "-F", "%t %D %p")
	out, err := asker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := asker.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	question := cl.PollFetches(ctx).Records()
	if len(question) != 1 {
		t.Fatalf("%d questions", len(question))
	}
	answer := &kgo.Record{Topic: "answers", Value: append(question[0].Value, "? noon"...)}
	for _, h := range question[0].Headers {
		if h.Key == "mqtt.response-topic" || h.Key == "mqtt.correlation-data" {
			answer.Headers = append(answer.Headers, h)
		}
	}
	if err := cl.ProduceSync(ctx, answer).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out)
	if err != nil || asker.Wait() != nil || strings.TrimSpace(string(got)) != "told/panel 7 what time? noon" {
		t.Errorf("mosquitto_rr got %q, %v", got, err)
	}
}
