package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/appliance/console"
	"github.com/weirmq/weir/appliance/metric"
)

// box is an appliance whose answers a test sets.
type box struct {
	mu       sync.Mutex
	notReady error
	snapshot console.Snapshot
	parts    []console.Part
	plugins  console.Plugins
}

func (b *box) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notReady
}
func (b *box) Addresses() map[string]string { return map[string]string{"kafka": "127.0.0.1:9092"} }
func (b *box) Snapshot() console.Snapshot   { return b.snapshot }
func (b *box) Parts() []console.Part        { return b.parts }
func (b *box) Plugins() console.Plugins     { return b.plugins }
func (b *box) Metrics(w *metric.Writer)     { w.Counter("weir_test_total", "A figure.", 7) }
func (b *box) setNotReady(err error)        { b.mu.Lock(); b.notReady = err; b.mu.Unlock() }
func (b *box) server(o console.Options) http.Handler {
	o.Box = b
	return console.New(o).Handler()
}

// shelf keeps deployed plugins by the first word of their file.
type shelf map[string][]byte

func (s shelf) Deploy(_ context.Context, wasm []byte) (any, error) {
	name, _, ok := strings.Cut(string(wasm), " ")
	if !ok {
		return nil, errors.New("the file has no manifest: run weir plugin pack")
	}
	s[name] = wasm
	return map[string]string{"name": name}, nil
}
func (s shelf) Remove(_ context.Context, name string) error {
	if _, ok := s[name]; !ok {
		return fmt.Errorf("plugin '%s': %w", name, console.ErrNotFound)
	}
	delete(s, name)
	return nil
}
func (s shelf) List() any                                 { return len(s) }
func (s shelf) Logs(name string, n int) ([]string, error) { return []string{name, fmt.Sprint(n)}, nil }

func request(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

func do(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestReadyzFollowsTheBox(t *testing.T) {
	b := &box{notReady: errors.New("the log is being recovered")}
	h := b.server(console.Options{})
	if code, body := do(h, request("GET", "/readyz", "")); code != 503 || !strings.Contains(body, "being recovered") {
		t.Errorf("before: %d %s", code, body)
	}
	if code, _ := do(h, request("GET", "/healthz", "")); code != 200 {
		t.Errorf("healthz while not ready: %d", code)
	}
	b.setNotReady(nil)
	if code, body := do(h, request("GET", "/readyz", "")); code != 200 {
		t.Errorf("after: %d %s", code, body)
	}
}

func TestStatusShowsPartsAndBoundsLists(t *testing.T) {
	b := &box{parts: []console.Part{{Name: "mqtt", Status: map[string]int{"sessions": 3}}, {Name: "mute"}}}
	b.snapshot.Totals.MessagesIn = 42
	b.snapshot.Topics = make([]console.Topic, console.MaxRows+1)
	code, body := do(b.server(console.Options{Version: "v1", Site: "s", DataDir: "/d"}), request("GET", "/v1/status", ""))
	var st console.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != 200 {
		t.Fatalf("%d %v: %s", code, err, body)
	}
	if st.Version != "v1" || !st.Ready || st.Addresses["kafka"] == "" || st.Totals.MessagesIn != 42 {
		t.Errorf("status = %+v", st)
	}
	if _, ok := st.Parts["mqtt"]; !ok || len(st.Parts) != 1 {
		t.Errorf("parts = %v", st.Parts)
	}
	if len(st.Topics) != console.MaxRows || len(st.Cut) != 1 {
		t.Errorf("%d topics, cut %v", len(st.Topics), st.Cut)
	}
	if strings.Contains(body, "null") {
		t.Error("a list is null: clients want []")
	}
}

func TestMetricsAsksEverySource(t *testing.T) {
	b := &box{}
	b.parts = []console.Part{{Name: "x", Source: b}}
	_, body := do(b.server(console.Options{Version: "v1"}), request("GET", "/metrics", ""))
	for _, want := range []string{"weir_ready 1\n", "weir_test_total 7\n", `weir_info{version="v1",site=""} 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in:\n%s", want, body)
		}
	}
}

// Pages of other origins reach the console through an operator's browser.
func TestForeignPagesAreKeptOut(t *testing.T) {
	b := &box{plugins: shelf{}}
	h := b.server(console.Options{Hosts: []string{"gw.plant.example"}})
	act := []string{console.ActionHeader, "1"}
	tests := map[string]struct {
		r    *http.Request
		want int
	}{
		"cli":                {request("POST", "/v1/plugins", "p x", act...), 200},
		"same origin":        {request("POST", "/v1/plugins", "p x", append(act, "Origin", "http://127.0.0.1:8080")...), 200},
		"no action header":   {request("POST", "/v1/plugins", "p x"), 403},
		"other origin":       {request("POST", "/v1/plugins", "p x", append(act, "Origin", "http://evil.example")...), 403},
		"cross-site fetch":   {request("DELETE", "/v1/plugins/p", "", append(act, "Sec-Fetch-Site", "cross-site")...), 403},
		"rebound name":       {request("GET", "/v1/status", "", "Host", "evil.example:8080"), 421},
		"configured name":    {request("GET", "/v1/status", "", "Host", "GW.plant.example:8080"), 200},
		"localhost":          {request("GET", "/v1/status", "", "Host", "localhost:1"), 200},
		"IPv6":               {request("GET", "/v1/status", "", "Host", "[::1]:8080"), 200},
		"unknown path":       {request("GET", "/etc/passwd", ""), 404},
		"unknown verb":       {request("PUT", "/v1/plugins", "", act...), 404},
		"preflight":          {request("OPTIONS", "/v1/plugins", "", "Origin", "http://evil.example"), 403},
		"get of a mutation":  {request("GET", "/v1/plugins/p", ""), 404},
		"no config to show":  {request("GET", "/v1/config", ""), 404},
		"members of a loner": {request("GET", "/v1/members", ""), 200},
	}
	for name, tt := range tests {
		if code, body := do(h, tt.r); code != tt.want {
			t.Errorf("%s: %d, want %d: %s", name, code, tt.want, body)
		}
	}
}

func TestPluginAPI(t *testing.T) {
	b := &box{}
	h := b.server(console.Options{MaxUpload: 1000})
	act := []string{console.ActionHeader, "1"}
	if code, _ := do(h, request("GET", "/v1/plugins", "")); code != 503 {
		t.Errorf("without a host: %d", code)
	}
	b.plugins = shelf{}
	for _, tt := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/plugins", "p wasm", 200, `"name":"p"`},
		{"GET", "/v1/plugins", "", 200, `{"plugins":1}`},
		{"POST", "/v1/plugins", "nonsense", 422, "weir plugin pack"},
		{"POST", "/v1/plugins", "p " + strings.Repeat("x", 1000), 413, "http.max_upload"},
		{"GET", "/v1/plugins/p/logs?n=5", "", 200, `{"lines":["p","5"]}`},
		{"GET", "/v1/plugins/p/logs?n=many", "", 400, "n must be 1 to"},
		{"DELETE", "/v1/plugins/p", "", 200, `"removed":"p"`},
		{"DELETE", "/v1/plugins/p", "", 404, "plugin 'p': not found"},
	} {
		if code, body := do(h, request(tt.method, tt.path, tt.body, act...)); code != tt.code || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, code, body, tt.code, tt.says)
		}
	}
}

// The page must work in a plant without Internet: nothing in it may point elsewhere.
func TestPageIsSelfContained(t *testing.T) {
	b := &box{}
	w := httptest.NewRecorder()
	b.server(console.Options{}).ServeHTTP(w, request("GET", "/", ""))
	page := w.Body.String()
	if w.Code != 200 || !strings.Contains(page, "/v1/status") {
		t.Fatalf("%d, %d bytes", w.Code, len(page))
	}
	page = strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "") // a name, not an address
	page = strings.ReplaceAll(page, "http%3A", "http:")
	if m := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.]+/|@import|<link[^>]+stylesheet|innerHTML`).FindString(page); m != "" {
		t.Errorf("the page holds %q", m)
	}
	if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the page may load what it likes")
	}
}

func TestServeAndClose(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := console.New(console.Options{Box: &box{}})
	s.Serve(ln)
	res, err := http.Get("http://" + ln.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("healthz says %q", body)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}
