package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/appliance/console"
)

// site is an appliance that runs in this process, with the CLI pointed at it.
type site struct {
	t                 *testing.T
	kafka, mqtt, http string
	stop              func() int // ends it and returns the exit code
}

// startSite runs weir serve on free ports and waits for the start log.
func startSite(t *testing.T, args ...string) *site {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := &syncBuffer{grew: make(chan struct{}, 1)}
	args = append([]string{"--json", "serve", "--kafka", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)
	ended := make(chan int, 1)
	go func() {
		ended <- runCLI(&session{ctx: ctx, in: strings.NewReader(""), out: io.Discard, err: log}, args)
	}()
	s := &site{t: t}
	s.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() { s.stop() })
	for {
		if line := log.line("weir is ready"); line != "" {
			var ready struct{ Kafka, MQTT, HTTP string }
			if err := json.Unmarshal([]byte(line), &ready); err != nil {
				t.Fatal(err)
			}
			s.kafka, s.mqtt, s.http = ready.Kafka, ready.MQTT, ready.HTTP
			return s
		}
		select {
		case <-log.grew:
		case code := <-ended:
			ended <- code
			t.Fatalf("weir serve ended with %d:\n%s", code, log.line(""))
		case <-time.After(time.Minute):
			t.Fatalf("weir serve is not ready:\n%s", log.line(""))
		}
	}
}

type syncBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	grew chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.grew <- struct{}{}:
	default:
	}
	return b.buf.Write(p)
}

// line is the first line that contains text; the whole log when text is empty.
func (b *syncBuffer) line(text string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text == "" {
		return b.buf.String()
	}
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// weir runs a command and returns what it printed and its exit code.
func weir(t *testing.T, stdin string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = runCLI(&session{ctx: ctx, in: strings.NewReader(stdin), out: &o, err: &e}, args)
	return o.String(), e.String(), code
}

// run is weir against the site; the command must succeed.
func (s *site) run(stdin string, args ...string) string {
	s.t.Helper()
	out, errs, code := weir(s.t, stdin, append(args, s.address(args)...)...)
	if code != exitOK {
		s.t.Fatalf("weir %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

func (s *site) address(args []string) []string {
	switch args[0] {
	case "status", "plugin", "mirror", "fleet", "doctor", "clock":
		return []string{"--http", s.http}
	case "config":
		if args[1] != "describe" && args[1] != "alter" {
			return []string{"--http", s.http}
		}
	}
	return []string{"--kafka", s.kafka}
}

// One day of an operator, from an empty folder to a verified log.
func TestOperatorsDay(t *testing.T) {
	data := t.TempDir()
	s := startSite(t, "--data", data, "--site", "test-site")

	s.run("", "topic", "create", "readings", "-p", "2", "-c", "retention.ms=86400000")
	if out := s.run("", "topic", "list"); !strings.Contains(out, "readings") {
		t.Errorf("topic list: %s", out)
	}
	s.run("one\ntwo\n", "produce", "readings", "-k", "k", "-H", "unit=C")
	s.run("", "produce", "readings", "three", "-p", "1")
	out := s.run("", "consume", "readings", "-n", "3", "-f", "json")
	for _, want := range []string{`"value":"one"`, `"value":"three"`, `"key":"k"`, `"headers":{"unit":"C"}`} {
		if !strings.Contains(out, want) {
			t.Errorf("consume: no %s in %s", want, out)
		}
	}
	var d topicDescription
	if err := json.Unmarshal([]byte(s.run("", "topic", "describe", "readings", "--json")), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Partitions) != 2 || d.Configs["retention.ms"] != "86400000" {
		t.Errorf("describe = %+v", d)
	}
	s.run("", "consume", "readings", "-g", "operators", "-n", "3")
	if out := s.run("", "group", "list"); !strings.Contains(out, "operators") {
		t.Errorf("group list: %s", out)
	}
	var g groupDescription
	if err := json.Unmarshal([]byte(s.run("", "group", "describe", "operators", "--json")), &g); err != nil {
		t.Fatal(err)
	}
	if g.Lag != 0 || len(g.Offsets) != 2 {
		t.Errorf("group describe = %+v", g)
	}
	var st console.Status
	if err := json.Unmarshal([]byte(s.run("", "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	if !st.Ready || st.Site != "test-site" || st.Totals.RecordsIn < 3 || st.Disk.FreeBytes == 0 || st.Addresses["mqtt"] == "" {
		t.Errorf("status = %+v", st)
	}
	if out := s.run("", "config", "show"); !strings.Contains(out, "test-site") {
		t.Errorf("config show: %s", out)
	}
	if out := s.run("", "doctor", "--data", data); strings.Contains(out, "failed") {
		t.Errorf("doctor: %s", out)
	}
	s.run("", "topic", "alter", "readings", "-c", "segment.bytes=1048576", "--delete-config", "retention.ms", "--partitions", "3")
	if err := json.Unmarshal([]byte(s.run("", "topic", "describe", "readings", "--json")), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Partitions) != 3 || d.Configs["retention.ms"] != "604800000" || d.Configs["segment.bytes"] != "1048576" {
		t.Errorf("describe after alter = %+v", d)
	}
	if out := s.run("", "clock", "confirm"); !strings.HasPrefix(out, "trusted, since 20") {
		t.Errorf("clock confirm: %s", out)
	}
	if out := s.run("", "clock", "status", "--json"); !strings.Contains(out, `"trusted": true`) && !strings.Contains(out, `"trusted":true`) {
		t.Errorf("clock status: %s", out)
	}
	s.run("", "topic", "delete", "readings")
	s.run("", "produce", "kept", "a", "b")
	if code := s.stop(); code != exitOK {
		t.Errorf("weir serve ended with %d", code)
	}

	out, errs, code := weir(t, "", "log", "verify", data)
	if code != exitOK || !strings.Contains(out, " 0 problems") {
		t.Errorf("log verify: %d %s%s", code, out, errs)
	}
	if out, _, _ := weir(t, "", "log", "dump", "-r", data); !strings.Contains(out, `null="b"`) {
		t.Errorf("log dump: %s", out)
	}
}

// Every error is one line that names the thing and the mend, with its exit code.
func TestErrorsAndExitCodes(t *testing.T) {
	s := startSite(t, "--data", t.TempDir())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("kafak:\n  listen: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(routes, []byte("routes:\n  - {filter: a/#/b, topic: t}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args string
		code int
		says string
	}{
		{"tpoic list", exitUsage, `did you mean "topic"`},
		{"topic list --kafka " + nobody, exitUnreachable, "is weir serve running?"},
		{"status --http " + nobody, exitUnreachable, "is weir serve running?"},
		{"topic describe nope --kafka " + s.kafka, exitNotFound, "topic 'nope' does not exist"},
		{"group describe nope --kafka " + s.kafka, exitNotFound, "group 'nope' does not exist"},
		{"topic alter nope -c retention.ms=1 --kafka " + s.kafka, exitNotFound, "topic 'nope' does not exist"},
		{"topic alter nope -p 4 --kafka " + s.kafka, exitNotFound, "topic 'nope' does not exist"},
		{"topic alter t --kafka " + s.kafka, exitUsage, "--delete-config"},
		{"topic alter __consumer_offsets -p 2 --kafka " + s.kafka, exitFailed, "belongs to the broker"},
		{"topic create t -c retention.mx=1 --kafka " + s.kafka, exitFailed, "retention.mx"},
		{"consume t --from yesterday --kafka " + s.kafka, exitUsage, "no place in a log: give start, end, an offset"},
		{"config check " + bad, exitUsage, "bad.yaml: unknown key 'kafak' at line 1: did you mean 'kafka'?"},
		{"config check " + routes, exitUsage, "a/#/b"},
		{"config profiles pi4", exitNotFound, "did you mean 'pi-4'?"},
		{"config keys nonsense", exitNotFound, "no key contains 'nonsense'"},
		{"log verify /nonexistent", exitNotFound, "does not exist"},
		{"plugin deploy " + bad + " --http " + s.http, exitFailed, "plugin"},
		{"serve --mqtt 0.0.0.0:0", exitUsage, "--insecure-lan"},
		{"serve --kafka " + taken.Addr().String(), exitFailed, "address already in use: another weir? try --kafka 127.0.0.1:0"},
		{"serve --config /nonexistent.yaml", exitUsage, "does not exist: check --config"},
		{"serve --site a.b", exitUsage, "site 'a.b' must be"},
	}
	for _, tt := range tests {
		_, errs, code := weir(t, "", strings.Fields(tt.args)...)
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		last := lines[len(lines)-1]
		if code != tt.code || !strings.HasPrefix(last, "weir: ") || !strings.Contains(last, tt.says) {
			t.Errorf("weir %s: exit %d, want %d with %q:\n%s", tt.args, code, tt.code, tt.says, errs)
		}
	}
}

func TestSecondServeOnTheSameDataIsRefused(t *testing.T) {
	data := t.TempDir()
	startSite(t, "--data", data)
	_, errs, code := weir(t, "", "serve", "--data", data, "--kafka", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != exitFailed || !strings.Contains(errs, "is used by another weir") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	data := t.TempDir()
	s := startSite(t, "--data", data)
	s.run("", "produce", "t", "some value that will be damaged")
	s.stop()
	files, err := filepath.Glob(filepath.Join(data, "topics", "*", "*.log"))
	if err != nil || len(files) == 0 {
		files, _ = segments(data)
	}
	damaged := false
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(raw, []byte("damaged")); i >= 0 {
			raw[i] ^= 1
			damaged = true
			if err := os.WriteFile(f, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !damaged {
		t.Fatal("the value is in no segment")
	}
	out, errs, code := weir(t, "", "log", "verify", data)
	if code != exitUnhealthy || !strings.Contains(out, "! batches: topics/t-0/") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// A length field of a damaged file allocates nothing.
func FuzzReadSegment(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Add(append(make([]byte, 8), 0x7f, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file := filepath.Join(t.TempDir(), "00000000000000000000.log")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = verifySegment(file, map[string]int64{}, &verifyReport{})
	})
}
