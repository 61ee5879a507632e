package site_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/testbed/site"
)

// The test binary, started with "serve", stands in for weir: it listens, logs
// its HTTP address and answers the two paths that the package relies on.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(standIn(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func standIn(args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	if os.Getenv("STAND_IN") == "fails" {
		fmt.Fprintln(os.Stderr, "weir: data directory is locked by process 7")
		return 3
	}
	if path := flags["--config"]; path != "" {
		text, err := os.ReadFile(path)
		fmt.Fprintf(os.Stderr, "config %q %v\n", text, err)
	}
	addrs := map[string]string{}
	var web net.Listener
	for _, name := range []string{"kafka", "mqtt", "http"} {
		ln, err := net.Listen("tcp", flags["--"+name])
		if err != nil {
			fmt.Fprintln(os.Stderr, "weir:", err)
			return 1
		}
		addrs[name], web = ln.Addr().String(), ln
	}
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM)
	start := time.Now()
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(start) < 30*time.Millisecond {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": true, "addresses": addrs, "totals": map[string]int{"messages_in": 7}})
	})
	fmt.Fprintf(os.Stderr, "time=2026-01-01 level=INFO msg=\"weir listens\" kafka=%s mqtt=%s http=%s\n", addrs["kafka"], addrs["mqtt"], addrs["http"])
	go func() { _ = http.Serve(web, nil) }()
	<-sig
	if os.Getenv("STAND_IN") == "stubborn" {
		<-sig
	}
	fmt.Fprintln(os.Stderr, "stopped")
	return 0
}

func options(t *testing.T) site.Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return site.Options{Binary: exe, Dir: t.TempDir() + "/data"}
}

func start(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	s, err := site.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func TestKillAndStartAgainOnTheSamePorts(t *testing.T) {
	o := options(t)
	o.Host = site.LoopbackHost()
	s := start(t, o)
	first := s.Addresses()
	for _, a := range []string{first.Kafka, first.MQTT, first.HTTP} {
		if !strings.HasPrefix(a, o.Host+":") || strings.HasSuffix(a, ":0") {
			t.Errorf("address %s, want one on %s", a, o.Host)
		}
	}
	for range 3 {
		s.Kill()
		if code := s.ExitCode(); code != -1 {
			t.Errorf("exit code %d after SIGKILL", code)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again := s.Addresses(); again != first {
			t.Fatalf("addresses %v after a restart, %v before", again, first)
		}
	}
	st, err := s.Status(t.Context())
	if err != nil || st.Totals.MessagesIn != 7 {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestStopReturnsTheExitCode(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	o := options(t)
	o.Config, o.Log = "site: a", lockedWriter{&mu, &log}
	s := start(t, o)
	if code, err := s.Stop(10 * time.Second); code != 0 || err != nil {
		t.Errorf("stop: code %d, %v", code, err)
	}
	if out := s.Output(); !strings.Contains(out, `config "site: a" <nil>`) || !strings.Contains(out, "stopped") {
		t.Errorf("output %s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if log.String() != s.Output() {
		t.Errorf("the copy is\n%s\nthe output\n%s", log.String(), s.Output())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func TestStubbornProcessIsKilled(t *testing.T) {
	o := options(t)
	o.Env = []string{"STAND_IN=stubborn"}
	s := start(t, o)
	if code, err := s.Stop(50 * time.Millisecond); err == nil || code != -1 {
		t.Errorf("stop: code %d, %v", code, err)
	}
}

func TestFailureToStartTellsTheLog(t *testing.T) {
	o := options(t)
	o.Env = []string{"STAND_IN=fails"}
	s, err := site.Start(t.Context(), o)
	if !errors.Is(err, site.ErrExited) || !strings.Contains(err.Error(), "locked by process 7") || s.ExitCode() != 3 {
		t.Errorf("error %v", err)
	}
	if _, err := site.Start(t.Context(), site.Options{Binary: "/no/such/weir", Dir: t.TempDir()}); err == nil {
		t.Error("a missing binary starts")
	}
	if _, err := site.New(site.Options{}); err == nil {
		t.Error("a site without data directory is made")
	}
}
