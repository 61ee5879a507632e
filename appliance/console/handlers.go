package console

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

//go:embed page.html
var pageHTML string

// pagePolicy lets the page run its own script and talk to this server, and
// nothing else: no address outside the box is ever asked.
var pagePolicy = func() string {
	_, rest, _ := strings.Cut(pageHTML, "<script>")
	script, _, _ := strings.Cut(rest, "</script>")
	sum := sha256.Sum256([]byte(script))
	return "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; " +
		"form-action 'none'; frame-ancestors 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, pageHTML)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Box.Ready(); err != nil {
		fail(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var out metric.Writer
	out.Gauge("weir_info", "The version that runs.", 1, "version", s.opts.Version, "site", s.opts.Site)
	out.Gauge("weir_uptime_seconds", "Time since the start.", time.Since(s.started).Seconds())
	ready := 0.0
	if s.opts.Box.Ready() == nil {
		ready = 1
	}
	out.Gauge("weir_ready", "1 once recovery is done and all listeners accept.", ready)
	for _, p := range s.opts.Box.Parts() {
		if p.Source != nil {
			p.Source.Metrics(&out)
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// Status is the document of GET /v1/status.
type Status struct {
	Version       string            `json:"version"`
	Site          string            `json:"site"`
	Profile       string            `json:"profile"`
	DataDir       string            `json:"data_dir"`
	Started       time.Time         `json:"started"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Ready         bool              `json:"ready"`
	WaitingFor    string            `json:"waiting_for,omitempty"` // why not ready
	Addresses     map[string]string `json:"addresses"`             // of the listeners bound
	Snapshot
	Parts map[string]any `json:"parts"` // each part's own words
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	box := s.opts.Box
	st := Status{
		Version: s.opts.Version, Site: s.opts.Site, Profile: s.opts.Profile, DataDir: s.opts.DataDir,
		Started: s.started.UTC(), UptimeSeconds: time.Since(s.started).Seconds(),
		Ready: true, Addresses: box.Addresses(), Snapshot: box.Snapshot(), Parts: map[string]any{},
	}
	st.bound()
	if err := box.Ready(); err != nil {
		st.Ready, st.WaitingFor = false, err.Error()
	}
	for _, p := range box.Parts() {
		if p.Status != nil {
			st.Parts[p.Name] = p.Status
		}
	}
	answer(w, http.StatusOK, st)
}

func (s *Server) members(w http.ResponseWriter, _ *http.Request) {
	snap := s.opts.Box.Snapshot()
	snap.bound()
	answer(w, http.StatusOK, map[string]any{"members": snap.Members})
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Config == nil {
		fail(w, http.StatusNotFound, "this server shows no configuration")
		return
	}
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	_, _ = w.Write(s.opts.Config())
}

func (s *Server) confirmClock(w http.ResponseWriter, r *http.Request) {
	if s.opts.ConfirmClock == nil {
		fail(w, http.StatusNotFound, "this server has no clock to confirm")
		return
	}
	st, err := s.opts.ConfirmClock()
	if err != nil {
		failWith(w, err)
		return
	}
	s.opts.Log.Info("the machine's clock was confirmed", "by", r.RemoteAddr)
	answer(w, http.StatusOK, map[string]any{"clock": st})
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, "there is no "+r.Method+" "+r.URL.Path+" here")
}

// plugins answers for an appliance that has no plugin host (yet) and returns nil.
func (s *Server) plugins(w http.ResponseWriter) Plugins {
	p := s.opts.Box.Plugins()
	if p == nil {
		fail(w, http.StatusServiceUnavailable, "the plugin host is not running (yet): see /readyz")
	}
	return p
}

func (s *Server) listPlugins(w http.ResponseWriter, _ *http.Request) {
	if p := s.plugins(w); p != nil {
		answer(w, http.StatusOK, map[string]any{"plugins": p.List()})
	}
}

func (s *Server) deployPlugin(w http.ResponseWriter, r *http.Request) {
	p := s.plugins(w)
	if p == nil {
		return
	}
	wasm, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			fail(w, http.StatusRequestEntityTooLarge, "the plugin file is larger than http.max_upload ("+
				strconv.FormatInt(tooLarge.Limit, 10)+" bytes)")
			return
		}
		fail(w, http.StatusBadRequest, "the upload broke off: "+err.Error())
		return
	}
	deployed, err := p.Deploy(r.Context(), wasm)
	if err != nil {
		failWith(w, err)
		return
	}
	s.opts.Log.Info("plugin deployed", "bytes", len(wasm), "by", r.RemoteAddr)
	answer(w, http.StatusOK, map[string]any{"plugin": deployed})
}

func (s *Server) removePlugin(w http.ResponseWriter, r *http.Request) {
	p := s.plugins(w)
	if p == nil {
		return
	}
	name := r.PathValue("name")
	if err := p.Remove(r.Context(), name); err != nil {
		failWith(w, err)
		return
	}
	s.opts.Log.Info("plugin removed", "plugin", name, "by", r.RemoteAddr)
	answer(w, http.StatusOK, map[string]any{"removed": name})
}

// maxLogLines bounds one answer of the log endpoint.
const maxLogLines = 1000

func (s *Server) pluginLogs(w http.ResponseWriter, r *http.Request) {
	p := s.plugins(w)
	if p == nil {
		return
	}
	n := 100
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxLogLines {
			fail(w, http.StatusBadRequest, "n must be 1 to "+strconv.Itoa(maxLogLines)+", not '"+text+"'")
			return
		}
	}
	lines, err := p.Logs(r.PathValue("name"), n)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"lines": lines})
}

// failWith answers an error of a part: its fault (404) or the request's (422).
func failWith(w http.ResponseWriter, err error) {
	if errors.Is(err, ErrNotFound) {
		fail(w, http.StatusNotFound, err.Error())
		return
	}
	fail(w, http.StatusUnprocessableEntity, err.Error())
}

func fail(w http.ResponseWriter, code int, text string) {
	answer(w, code, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error":"internal error: the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
