// Package console serves what an operator and the CLI see of an appliance over
// HTTP: health, metrics, the status document, the admin API and one page that
// needs nothing but this binary.
//
// The console starts before the parts it shows, so that /readyz can say what
// recovery waits for. It asks a [Box] for everything and keeps no state.
package console

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/metric"
)

// Limits of the HTTP server.
const (
	MaxConnections   = 128 // one more waits in the kernel's queue
	DefaultMaxUpload = 32 << 20
	maxHeaderBytes   = 16 << 10
	headerTimeout    = 5 * time.Second
	requestTimeout   = time.Minute // an upload over a slow uplink included
	idleTimeout      = time.Minute
	closeTimeout     = 2 * time.Second
)

// Box is the appliance as the console sees it. Every method may be called at
// any time, by several goroutines, also before the appliance is ready.
type Box interface {
	// Ready is nil once recovery is done and all listeners accept; until then
	// the error says what is waited for.
	Ready() error
	// Addresses names each listener that is bound: "kafka", "mqtt", "http".
	Addresses() map[string]string
	// Snapshot is what the page shows.
	Snapshot() Snapshot
	// Parts are the running parts, in the order they were started.
	Parts() []Part
	// Plugins is nil while there is no plugin host.
	Plugins() Plugins
}

// Part is one running part of the appliance.
type Part struct {
	Name   string        // its key in the status document
	Status any           // a JSON-able value; nil if it has none
	Source metric.Source // nil if it has no figures
}

// ErrNotFound is wrapped by errors of Plugins when no plugin has the name.
var ErrNotFound = errors.New("not found")

// Plugins is what the admin API does with plugins.
type Plugins interface {
	// Deploy installs or replaces the plugin that the file's manifest names and
	// returns what is to be shown of it.
	Deploy(ctx context.Context, wasm []byte) (any, error)
	Remove(ctx context.Context, name string) error
	// List is a JSON-able list, one element per plugin.
	List() any
	// Logs is the plugin's latest log lines, oldest first, at most n.
	Logs(name string, n int) ([]string, error)
}

// Options configures New. Box is required.
type Options struct {
	Box     Box
	Version string
	Site    string
	Profile string
	DataDir string
	Hosts   []string      // further names a browser may use for this box
	Config  func() []byte // the configuration in force as YAML, without secrets
	// ConfirmClock makes the machine's time the trusted one and returns what is to be
	// shown of the clock.
	ConfirmClock func() (any, error)
	// Authorize decides whether a request is served, health excepted; change tells one
	// that alters something. An error that wraps ErrLogin asks for a login, one that wraps
	// ErrForbidden refuses for good, and any other means "not yet". Nil serves all.
	Authorize func(r *http.Request, change bool) error
	MaxUpload int64        // bytes of a plugin file; 0: DefaultMaxUpload
	Log       *slog.Logger // nil: discard
}

// Server is the console. Make it with New, run it with Serve.
type Server struct {
	opts    Options
	started time.Time
	http    http.Server

	closing sync.Once
	done    chan struct{}
	serving sync.WaitGroup
}

// New makes a console that does not listen yet.
func New(opts Options) *Server {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.MaxUpload == 0 {
		opts.MaxUpload = DefaultMaxUpload
	}
	s := &Server{opts: opts, started: time.Now(), done: make(chan struct{})}
	s.http = http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(opts.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Handler is the console's routes behind its guards.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/members", s.members)
	mux.HandleFunc("GET /v1/config", s.config)
	mux.HandleFunc("GET /v1/plugins", s.listPlugins)
	mux.HandleFunc("POST /v1/plugins", s.deployPlugin)
	mux.HandleFunc("DELETE /v1/plugins/{name}", s.removePlugin)
	mux.HandleFunc("GET /v1/plugins/{name}/logs", s.pluginLogs)
	mux.HandleFunc("POST /v1/clock/confirm", s.confirmClock)
	mux.HandleFunc("/", s.unknown)
	return s.guard(mux)
}

// Serve answers on ln until Close. It takes ln over and does not block.
func (s *Server) Serve(ln net.Listener) {
	s.serving.Go(func() {
		err := s.http.Serve(&limitListener{Listener: ln, slots: make(chan struct{}, MaxConnections), done: s.done})
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.opts.Log.Error("console stopped", "err", err)
		}
	})
}

// Close ends the listener, gives running requests a moment and then ends them.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.done)
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err = s.http.Shutdown(ctx); err != nil {
			err = s.http.Close()
		}
	})
	s.serving.Wait()
	return err
}

// limitListener accepts while fewer than cap(slots) connections are open.
type limitListener struct {
	net.Listener
	slots chan struct{}
	done  <-chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
