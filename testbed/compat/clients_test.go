package compat_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// limit is for one whole test, so that a client that hangs is an error.
const limit = 2 * time.Minute

// startWeir starts an appliance for one test.
func startWeir(t *testing.T, config string) *site.Site {
	t.Helper()
	compat.Require(t)
	s, err := site.Start(t.Context(), site.Options{Dir: t.TempDir() + "/data", Config: config, Host: site.LoopbackHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("weir's log:\n%s", s.Output())
		}
	})
	return s
}

// command prepares a foreign program, which ends with the test. Whoever asked
// for these tests has it.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	compat.Require(t)
	for _, program := range []string{name, "kcat", "mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed: apt-get install kcat mosquitto-clients, or unset %s", program, compat.Env)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// run runs a foreign program to its end and returns its output.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := command(t, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// kcat runs kcat against the site.
func kcat(t *testing.T, s *site.Site, stdin string, args ...string) string {
	t.Helper()
	return run(t, stdin, "kcat", append([]string{"-q", "-b", s.Addresses().Kafka}, args...)...)
}

func hostPort(address string) (host, port string) {
	i := strings.LastIndexByte(address, ':')
	return address[:i], address[i+1:]
}

// lines are numbered lines with a prefix.
func lines(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s-%05d\n", prefix, i)
	}
	return b.String()
}

// readGroup reads n records as a franz-go group with default settings.
func readGroup(t *testing.T, s *site.Site, group, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var got []*kgo.Record
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("group %s read %d of %d records: %v", group, len(got), n, err)
		}
		got = append(got, fetches.Records()...)
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestMosquittoPublishesKafkaReads(t *testing.T) {
	s := startWeir(t, "")
	const n = 500
	host, port := hostPort(s.Addresses().MQTT)
	sent := lines("reading", n)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		run(t, sent, "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", "1", "-i", version, "-t", "plant/"+version+"/temp", "-l")
	}
	// In the order sent, keyed by the MQTT topic, with what MQTT knew as headers.
	got := kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%k|%h|%s\n`)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		topic := "plant/" + version + "/temp"
		var values strings.Builder
		for line := range strings.Lines(got) {
			key, rest, _ := strings.Cut(line, "|")
			headers, value, _ := strings.Cut(rest, "|")
			if key != topic {
				continue
			}
			values.WriteString(value)
			for _, want := range []string{"mqtt.topic=" + topic, "mqtt.qos=1", "mqtt.client=" + version, "mqtt.retain="} {
				if !strings.Contains(headers, want) {
					t.Fatalf("headers %s lack %s", headers, want)
				}
			}
		}
		if values.String() != sent {
			t.Errorf("%s: kcat read %d bytes, %d were published", version, values.Len(), len(sent))
		}
	}
	records := readGroup(t, s, "readers", "mqtt", 2*n)
	perKey := map[string]string{}
	for _, r := range records {
		perKey[string(r.Key)] += string(r.Value) + "\n"
	}
	want := map[string]string{"plant/mqttv311/temp": sent, "plant/mqttv5/temp": sent}
	if !maps.Equal(perKey, want) {
		t.Errorf("the group read %d records under %d keys, not what was published", len(records), len(perKey))
	}
}

func TestKcatRecordsReachMosquittoSub(t *testing.T) {
	s := startWeir(t, "downlink:\n  - topic: commands\n    to: devices/{key}/cmd\n    qos: 1\n")
	host, port := hostPort(s.Addresses().MQTT)
	// stdbuf: into a pipe its output would come only at the end.
	sub := command(t, "stdbuf", "-oL", "mosquitto_sub", "-h", host, "-p", port, "-q", "1", "-i", "panel", "-t", "devices/+/cmd", "-C", "300", "-d", "-F", "GOT %t %p")
	out, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	sub.Stderr = sub.Stdout
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	if err := waitFor(reader, "SUBACK"); err != nil {
		t.Fatal(err)
	}
	var produced, want strings.Builder
	for i := range 300 {
		fmt.Fprintf(&produced, "pump-%d:open %d\n", i%3, i)
		fmt.Fprintf(&want, "devices/pump-%d/cmd open %d\n", i%3, i)
	}
	kcat(t, s, produced.String(), "-P", "-t", "commands", "-p", "0", "-K", ":")
	rest, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Wait(); err != nil {
		t.Fatalf("mosquitto_sub: %v\n%s", err, rest)
	}
	var got strings.Builder
	for line := range strings.Lines(string(rest)) {
		if text, ok := strings.CutPrefix(line, "GOT "); ok {
			got.WriteString(text)
		}
	}
	if got.String() != want.String() {
		t.Errorf("mosquitto_sub got\n%.300s\nwant\n%.300s", got.String(), want.String())
	}
}

// waitFor reads up to a line that holds the text.
func waitFor(r *bufio.Reader, text string) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("no line with %s: %w", text, err)
		}
		if strings.Contains(line, text) {
			return nil
		}
	}
}
