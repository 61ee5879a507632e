package compat_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// An upstream link speaks to its broker over TLS (mosquitto) and over WebSockets, with
// and without TLS (another Weir), both ways.
func TestUpstreamSchemes(t *testing.T) {
	pki := newPKI(t)
	tlsPort := freePort(t)
	m := newMosquitto(t, "listener "+tlsPort+" 127.0.0.1 # %s", "", "certfile %s", pki.read(t, "server.crt"), "keyfile %s", pki.read(t, "server.key"))
	plain, ws, wss := freePort(t), freePort(t), freePort(t)
	pki.serve(t, fmt.Sprintf("mqtt://127.0.0.1:%s,ws://127.0.0.1:%s,wss://127.0.0.1:%s", plain, ws, wss), plain)
	for _, c := range []struct{ url, port string }{
		{"mqtts://127.0.0.1:" + tlsPort, m.port},
		{"ws://127.0.0.1:" + ws + "/mqtt", plain},
		{"wss://127.0.0.1:" + wss + "/mqtt", plain},
	} {
		t.Run(c.url[:4], func(t *testing.T) {
			s := startWeir(t, fmt.Sprintf("upstream: [{name: plant, url: %q, ca: %q, retry_max: 1s, in: [{filter: \"line/#\"}], out: [{filter: \"cmd/#\"}]}]\n", c.url, pki.file("ca.crt")))
			await(t, s, `weir_upstream_connected{upstream="plant"}`, 1)
			at := func(args ...string) []string {
				return append([]string{"-h", "127.0.0.1", "-p", c.port, "-q", "1"}, args...)
			}
			run(t, "", "mosquitto_sub", at("-c", "-i", "keeper", "-t", "cmd/#", "-E")...)
			run(t, lines("in", 100), "mosquitto_pub", at("-t", "line/1", "-l")...)
			await(t, s, `weir_upstream_messages_total{upstream="plant",direction="in"}`, 100)
			if got := kcat(t, s, "", "-C", "-t", "mqtt", "-o", "beginning", "-e", "-f", `%s\n`); got != lines("in", 100) {
				t.Errorf("in the log: %.200q", got)
			}
			host, port := hostPort(s.Addresses().MQTT)
			run(t, lines("out", 100), "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "cmd/1", "-l")
			if got := run(t, "", "mosquitto_sub", at("-c", "-i", "keeper", "-t", "cmd/#", "-C", "100")...); got != lines("out", 100) {
				t.Errorf("the broker's subscriber got %.200q", got)
			}
		})
	}
}

// pki is the folder of an authority that weir init made, with a server's certificate.
type pki string

func newPKI(t *testing.T) pki {
	t.Helper()
	compat.Require(t)
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "box")
	if out, err := exec.Command(binary, "init", dir).CombinedOutput(); err != nil {
		t.Fatalf("weir init: %v: %s", err, out)
	}
	return pki(filepath.Join(dir, "pki"))
}

func (p pki) file(name string) string { return filepath.Join(string(p), name) }

func (p pki) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(p.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serve runs another Weir with these MQTT listeners until the test ends.
func (p pki) serve(t *testing.T, listeners, port string) {
	t.Helper()
	binary, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf("tls: {cert: %q, key: %q}\nmqtt: {anonymous: allow}\n", p.file("server.crt"), p.file("server.key"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", config, "--data", filepath.Join(t.TempDir(), "data"),
		"--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--mqtt", listeners)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitUntil(t, "the other Weir listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
