package compat_test

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/testbed/site"
)

// signal sends one to mosquitto's process alone.
func (m *mosquitto) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatal(err)
	}
}

// kill ends mosquitto with no warning: what it has not saved is lost.
func (m *mosquitto) kill() {
	m.t.Helper()
	m.signal(syscall.SIGKILL)
	_ = m.cmd.Wait()
}

// save has mosquitto save its sessions, and waits for it. It saves between two packets, so
// that what is answered later is saved.
func (m *mosquitto) save() {
	m.t.Helper()
	m.signal(syscall.SIGUSR1)
	run(m.t, "", "mosquitto_pub", m.at("-q", "1", "-t", "saved", "-n")...)
	run(m.t, "", "mosquitto_pub", m.at("-q", "1", "-t", "saved", "-n")...)
}

// joined is a site with a link to mosquitto. Its keep alive is short, so that a broker that
// does not answer is noticed.
func (m *mosquitto) joined(t *testing.T) *site.Site {
	t.Helper()
	s := startWeir(t, fmt.Sprintf(`
upstream:
  - name: plant
    url: mqtt://127.0.0.1:%s
    keep_alive: 2s
    retry_max: 1s
    in: [{filter: "line/#"}]
    out: [{filter: "cmd/#"}]
`, m.port))
	await(t, s, linked, 1)
	return s
}

const (
	linked    = `weir_upstream_connected{upstream="plant"}`
	cameIn    = `weir_upstream_messages_total{upstream="plant",direction="in"}`
	wentOut   = `weir_upstream_messages_total{upstream="plant",direction="out"}`
	goingOut  = `weir_upstream_inflight{upstream="plant",direction="out"}`
	outStands = `weir_upstream_stalled_seconds{upstream="plant",direction="out"}`
)

// hold subscribes as a session of mosquitto that is away, and keeps what goes out.
func (m *mosquitto) hold() {
	run(m.t, "", "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#", "-E")...)
}

// held checks that the session has all of want, in order but for what came twice.
func (m *mosquitto) held(want []string) {
	m.t.Helper()
	run(m.t, "", "mosquitto_pub", m.at("-q", "1", "-t", "cmd/end", "-m", "end")...)
	sub := command(m.t, "mosquitto_sub", m.at("-c", "-i", "keeper", "-q", "1", "-t", "cmd/#")...)
	out, err := sub.StdoutPipe()
	if err == nil {
		err = sub.Start()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	var first []string
	seen := map[string]bool{}
	for sc := bufio.NewScanner(out); sc.Scan() && sc.Text() != "end"; {
		if v := sc.Text(); !seen[v] {
			first, seen[v] = append(first, v), true
		}
	}
	_ = sub.Process.Kill()
	_ = sub.Wait()
	if !slices.Equal(first, want) {
		m.t.Errorf("the broker has %d different messages, not the %d in order", len(first), len(want))
	}
}

func publishTo(t *testing.T, s *site.Site, stdin string) {
	t.Helper()
	host, port := hostPort(s.Addresses().MQTT)
	run(t, stdin, "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "cmd/valve", "-l")
}

// inLog checks that all of want are in the log, and waits for it.
func inLog(t *testing.T, s *site.Site, want []string) {
	t.Helper()
	slices.Sort(want)
	waitUntil(t, "all messages are in the log", func() bool {
		got := strings.Fields(kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%s\n`))
		got = slices.DeleteFunc(got, func(v string) bool { return !strings.HasPrefix(v, "in") })
		return slices.Equal(slices.Compact(slices.Sorted(slices.Values(got))), want)
	})
}

// A broker that hangs in the midst of both directions loses nothing, and the figures say
// that nothing moves: messages are in flight without progress, and the link is not connected
// any more after its keep alive.
func TestUpstreamHangs(t *testing.T) {
	m := newMosquitto(t)
	s := m.joined(t)
	m.hold()
	const n = 3000
	published := make(chan struct{}, 2)
	go func() {
		run(t, lines("in", n), "mosquitto_pub", m.at("-q", "1", "-t", "line/1", "-l")...)
		run(t, lines("in-two", 100), "mosquitto_pub", m.at("-q", "2", "-t", "line/1", "-l")...)
		published <- struct{}{}
	}()
	go func() {
		publishTo(t, s, lines("out", n))
		published <- struct{}{}
	}()
	await(t, s, cameIn, 100)
	await(t, s, wentOut, 100)
	m.signal(syscall.SIGSTOP)
	await(t, s, goingOut, 1)
	before, err := s.Metric(context.Background(), wentOut)
	if err != nil {
		t.Fatal(err)
	}
	await(t, s, outStands, 0.5)
	waitUntil(t, "the link is not connected", func() bool {
		v, err := s.Metric(context.Background(), linked)
		return err == nil && v == 0
	})
	if after, err := s.Metric(context.Background(), wentOut); err != nil || after > before+256 { // the last acknowledgements were on their way
		t.Errorf("%v messages went out before, %v after, %v", before, after, err)
	}
	m.signal(syscall.SIGCONT)
	await(t, s, linked, 1)
	<-published
	<-published
	inLog(t, s, strings.Fields(lines("in", n)+lines("in-two", 100)))
	waitUntil(t, "nothing is in flight", func() bool {
		v, err := s.Metric(context.Background(), goingOut)
		sent, err2 := s.Metric(context.Background(), wentOut)
		return err == nil && err2 == nil && v == 0 && sent >= n
	})
	m.held(strings.Fields(lines("out", n)))
}

// What a broker has saved comes in also when it is killed in the midst of it, and what it
// has not acknowledged when it is killed goes out once it is back.
func TestUpstreamKilled(t *testing.T) {
	m := newMosquitto(t)
	s := m.joined(t)
	m.hold()
	if _, err := s.Stop(limit); err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	run(t, lines("in", n), "mosquitto_pub", m.at("-q", "1", "-t", "line/1", "-l")...)
	run(t, lines("in-two", 100), "mosquitto_pub", m.at("-q", "2", "-t", "line/1", "-l")...)
	m.save()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, cameIn, 100)
	m.kill()
	if v, err := s.Metric(context.Background(), cameIn); err != nil || v >= n {
		t.Errorf("mosquitto was killed when %v of %d had come in: %v", v, n, err)
	}
	m.start()
	inLog(t, s, strings.Fields(lines("in", n)+lines("in-two", 100)))

	m.save()
	m.signal(syscall.SIGSTOP)
	publishTo(t, s, lines("out", 600)) // more than may be in flight
	await(t, s, goingOut, 1)
	m.kill()
	m.start()
	await(t, s, wentOut, 600)
	m.held(strings.Fields(lines("out", 600)))
}
