package compat_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// mosquitto is a broker that the site has already.
type mosquitto struct {
	t            *testing.T
	config, port string
	cmd          *exec.Cmd
}

// newMosquitto starts one; each pair of further is a line of its configuration, and the
// text of the file that the line names.
func newMosquitto(t *testing.T, further ...string) *mosquitto {
	t.Helper()
	compat.Require(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	dir := t.TempDir()
	m := &mosquitto{t: t, config: filepath.Join(dir, "mosquitto.conf"), port: port}
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nuser root\n", port, dir)
	for i := 0; i < len(further); i += 2 {
		file := filepath.Join(dir, fmt.Sprintf("further.%d", i))
		if err := os.WriteFile(file, []byte(further[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(further[i], file) + "\n"
	}
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command("mosquitto", "-c", m.config)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatalf("%v: apt-get install mosquitto", err)
	}
	waitUntil(m.t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+m.port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop ends mosquitto, which stores its sessions.
func (m *mosquitto) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	_ = m.cmd.Wait()
}

func (m *mosquitto) at(args ...string) []string {
	return append([]string{"-h", "127.0.0.1", "-p", m.port}, args...)
}

func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// await waits until a figure of the site is that much.
func await(t *testing.T, s *site.Site, metric string, least float64) {
	t.Helper()
	waitUntil(t, fmt.Sprintf("%s is %v", metric, least), func() bool {
		v, err := s.Metric(context.Background(), metric)
		return err == nil && v >= least
	})
}

// What is published to a broker that the site has comes into the log, through kills
// of Weir, all of it and in order; what is published to Weir goes out to that broker,
// also what was published while it was away.
func TestUpstreamBroker(t *testing.T) {
	m := newMosquitto(t)
	s := startWeir(t, fmt.Sprintf(`
upstream:
  - name: plant
    url: mqtt://127.0.0.1:%s
    retry_max: 1s
    in: [{filter: "line/#", remote_prefix: plant/, local_prefix: site7/}]
    out: [{filter: "cmd/#"}]
`, m.port))
	const connected = `weir_upstream_connected{upstream="plant"}`
	await(t, s, connected, 1)
	const n = 400
	published := make(chan struct{})
	go func() {
		defer close(published)
		run(t, lines("in", n), "mosquitto_pub", m.at("-q", "1", "-t", "plant/line/1", "-l")...)
	}()
	for range 3 {
		await(t, s, connected, 1)
		s.Kill()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-published
	await(t, s, connected, 1)
	var got []string
	waitUntil(t, "all messages are in the log", func() bool {
		got = nil
		for line := range strings.Lines(kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%k|%s\n`)) {
			if key, value, _ := strings.Cut(strings.TrimSpace(line), "|"); key == "site7/line/1" {
				got = append(got, value)
			}
		}
		return slices.Contains(got, fmt.Sprintf("in-%05d", n-1))
	})
	want := strings.Fields(lines("in", n))
	if seen := slices.Compact(slices.Sorted(slices.Values(got))); !slices.Equal(seen, want) {
		t.Errorf("%d different messages of %d are in the log", len(seen), n)
	}

	run(t, "", "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#", "-E")...)
	host, port := hostPort(s.Addresses().MQTT)
	publish := func(prefix string) {
		run(t, lines(prefix, 50), "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "cmd/valve", "-l")
	}
	publish("before")
	await(t, s, `weir_upstream_messages_total{upstream="plant",direction="out"}`, 50)
	m.stop()
	publish("away")
	m.start()
	out := run(t, "", "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#", "-C", "100")...)
	all := strings.Fields(lines("before", 50) + lines("away", 50))
	if seen := strings.Fields(out); !slices.Equal(seen, all) {
		t.Errorf("the broker's subscriber got %d messages, not the %d in order: %.300s", len(seen), len(all), out)
	}
}

// A message that the receiver refuses for good does not block those behind it, in either
// direction: it is counted with the reason.
func TestUpstreamPoison(t *testing.T) {
	m := newMosquitto(t, "acl_file %s", "topic readwrite line/#\ntopic readwrite cmd/open\ntopic read cmd/#\n")
	s := startWeir(t, fmt.Sprintf(`
mqtt: {max_packet: 32KiB}
routes: [{filter: "line/{name}/#", topic: "{name}"}]
upstream:
  - name: plant
    url: mqtt://127.0.0.1:%s
    retry_max: 1s
    in: [{filter: "line/#"}]
    out: [{filter: "cmd/#"}]
`, m.port))
	await(t, s, `weir_upstream_connected{upstream="plant"}`, 1)
	large := strings.Repeat("x", 64<<10)
	for _, bad := range [][]string{{"-t", "line/1", "-m", large}, {"-t", "line/__internal", "-m", "name"}} {
		run(t, "", "mosquitto_pub", m.at(append([]string{"-q", "1"}, bad...)...)...)
	}
	run(t, "", "mosquitto_pub", m.at("-q", "1", "-t", "line/1", "-m", "good")...)
	refused := `weir_upstream_refused_total{upstream="plant",direction="in",reason="%s"}`
	await(t, s, `weir_upstream_messages_total{upstream="plant",direction="in"}`, 1)
	await(t, s, fmt.Sprintf(refused, "topic_name_invalid"), 1)
	await(t, s, fmt.Sprintf(refused, "packet_too_large"), 1)
	if got := kcat(t, s, "", "-C", "-t", "1", "-o", "beginning", "-e", "-f", `%s\n`); got != "good\n" {
		t.Errorf("in the log: %.100q", got)
	}

	run(t, "", "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#", "-E")...)
	host, port := hostPort(s.Addresses().MQTT)
	for _, topic := range []string{"cmd/closed", "cmd/open"} {
		run(t, "", "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", topic)
	}
	if got := run(t, "", "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#", "-C", "1")...); got != "cmd/open\n" {
		t.Errorf("the broker's subscriber got %q", got)
	}
	await(t, s, `weir_upstream_refused_total{upstream="plant",direction="out",reason="not_authorized"}`, 1)
}
