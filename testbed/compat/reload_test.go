package compat_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGHUP brings new routes into force while devices stay connected, tells what needs a
// restart, and changes nothing where the file has a mistake.
func TestRoutesAreReloaded(t *testing.T) {
	config := func(topic, more string) string {
		return "routes:\n  - {filter: \"line/#\", topic: " + topic + ", key: k, timestamp: /at, timestamp_unit: s}\n" + more
	}
	s := startWeir(t, config("before", ""))
	host, port := hostPort(s.Addresses().MQTT)
	publish := func(text string) {
		run(t, "", "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "line/1", "-m", text)
	}
	path := s.ConfigPath()
	reload := func(text, said string) {
		t.Helper()
		before := strings.Count(s.Output(), said)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the log says "+said, func() bool { return strings.Count(s.Output(), said) > before })
	}
	publish(`{"at":1700000000,"n":1}`)
	reload(config("not/valid", ""), "not reloaded")
	publish(`{"at":1700000001,"n":2}`)
	reload(config("after", "kafka: {num.partitions: 3}\n"), "need a restart")
	publish(`{"at":1700000002,"n":3}`)
	for topic, want := range map[string]string{
		"before": "1700000000000 {\"at\":1700000000,\"n\":1}\n1700000001000 {\"at\":1700000001,\"n\":2}\n",
		"after":  "1700000002000 {\"at\":1700000002,\"n\":3}\n",
	} {
		if got := kcat(t, s, "", "-C", "-t", topic, "-o", "beginning", "-e", "-f", `%T %s\n`); got != want {
			t.Errorf("topic %s holds %q, want %q", topic, got, want)
		}
	}
	if out := s.Output(); !strings.Contains(out, "kafka.num.partitions") {
		t.Errorf("the log does not name the key that needs a restart: %s", out)
	}
	if code, err := s.Stop(20 * time.Second); code != 0 || err != nil {
		t.Errorf("stop: %d, %v", code, err)
	}
}

// SIGHUP joins a broker that the site has, changes how while messages come from there, and
// leaves it again; none is lost meanwhile. A topic of the file is made.
func TestUpstreamIsReloaded(t *testing.T) {
	m := newMosquitto(t)
	config := func(prefix string) string {
		return "topics: [{name: made, partitions: 2}]\nupstream:\n  - {name: plant, url: \"mqtt://127.0.0.1:" + m.port +
			"\", retry_max: 1s, in: [{filter: \"line/#\", local_prefix: \"" + prefix + "/\"}]}\n"
	}
	s := startWeir(t, "# nothing\n")
	hangup(t, s, strings.Replace(config("one"), "mqtt://", "nonsense://", 1), "not reloaded")
	hangup(t, s, config("one"), "upstreams reloaded")
	await(t, s, `weir_upstream_connected{upstream="plant"}`, 1)
	if got := kcat(t, s, "", "-L", "-t", "made"); !strings.Contains(got, "with 2 partitions") {
		t.Errorf("the topic was not made: %s", got)
	}
	const n = 2000
	published := make(chan struct{})
	go func() {
		defer close(published)
		run(t, lines("in", n), "mosquitto_pub", m.at("-q", "1", "-t", "line/1", "-l")...)
	}()
	for _, prefix := range []string{"two", "three", "four"} {
		hangup(t, s, config(prefix), "upstreams reloaded")
		await(t, s, `weir_upstream_connected{upstream="plant"}`, 1)
	}
	<-published
	run(t, "", "mosquitto_pub", m.at("-q", "1", "-t", "line/1", "-m", "last")...)
	seen := map[string]bool{}
	waitUntil(t, "all messages are in the log", func() bool {
		for line := range strings.Lines(kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%k|%s\n`)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "|")
			seen[value] = true
			if value == "last" && key != "four/line/1" {
				t.Fatalf("the last came as %s", key)
			}
		}
		return seen["last"]
	})
	if len(seen) != n+1 {
		t.Errorf("%d different messages of %d are in the log", len(seen), n+1)
	}
	hangup(t, s, "# nothing\n", "upstreams reloaded")
	if _, err := s.Metric(t.Context(), `weir_upstream_connected{upstream="plant"}`); err == nil {
		t.Error("an upstream that was removed is still in the metrics")
	}
}

// A SIGHUP that comes while Weir starts is a reload, and not its end.
func TestHangupWhileStarting(t *testing.T) {
	s := startWeir(t, "# nothing\n")
	for range 5 {
		s.Kill()
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "it starts", func() bool { return strings.Contains(s.Output(), "console started") })
		if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := s.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "it reloads", func() bool { return strings.Contains(s.Output(), "has not changed") })
	}
}
