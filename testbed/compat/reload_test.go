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
