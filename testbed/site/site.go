// Package site runs a weir appliance as a child process, as its users do: start
// it, wait until it is ready, kill it, stop it, start it again on the same data.
//
// The first start takes ports that the kernel picks; later starts take the same
// ports, so that clients find the appliance again.
package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

const (
	defaultReadyTimeout = 30 * time.Second
	pollInterval        = 10 * time.Millisecond
	stacksTimeout       = 5 * time.Second
)

// ErrExited is wrapped by errors that say the child ended by itself.
var ErrExited = errors.New("weir has exited")

// Options say what to run.
type Options struct {
	Binary string   // the weir binary; default: Binary()
	Dir    string   // data directory; required
	Host   string   // loopback address to listen on; default 127.0.0.1
	Config string   // contents of the configuration file; none when empty
	Args   []string // further arguments of weir serve
	Env    []string // added to the environment

	Protocol string // of the Kafka listener, such as SASL_SSL; default plain text
	// User and Password log in where the HTTP listener wants it.
	User, Password string

	ReadyTimeout time.Duration // default 30 s
	Log          io.Writer     // gets a copy of the child's output; may be nil
}

// Binary is where the tests look for weir: $WEIR_BIN, or bin/weir of the
// repository that the working directory is in.
func Binary() (string, error) {
	if path := os.Getenv("WEIR_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "bin", "weir")
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("no bin/weir here or above: run make build, or set WEIR_BIN")
		}
		dir = filepath.Dir(dir)
	}
}

// Site is one appliance. Its methods are for one goroutine, except Status,
// ConfigPath is where Options.Config is written.
func (s *Site) ConfigPath() string { return filepath.Clean(s.opts.Dir) + ".yaml" }

// Output, Exited and the addresses.
type Site struct {
	opts   Options
	output *tail

	mu      sync.Mutex
	addrs   Addresses
	process *process // of the last start
}

// Addresses are where a site listens, as host:port.
type Addresses struct {
	Kafka string `json:"kafka"`
	MQTT  string `json:"mqtt"`
	HTTP  string `json:"http"`
}

// process is one run of the binary.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the fields below are set
	code   int
	err    error
}

// New prepares a site without starting it.
func New(o Options) (*Site, error) {
	if o.Dir == "" {
		return nil, errors.New("site: no data directory given")
	}
	if o.Binary == "" {
		var err error
		if o.Binary, err = Binary(); err != nil {
			return nil, fmt.Errorf("site: %w", err)
		}
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = defaultReadyTimeout
	}
	any := o.Host + ":0"
	return &Site{opts: o, output: newTail(o.Log), addrs: Addresses{Kafka: any, MQTT: any, HTTP: any}}, nil
}

// Start makes a site, starts it and waits until it is ready.
func Start(ctx context.Context, o Options) (*Site, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	return s, s.Start(ctx)
}

// Start launches the site and waits until it is ready; on failure it is killed.
func (s *Site) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	if err := s.WaitReady(ctx); err != nil {
		s.Kill()
		return err
	}
	return nil
}

// Launch starts the process and does not wait for anything.
func (s *Site) Launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && !s.process.ended() {
		return errors.New("site: weir runs already")
	}
	kafka := s.addrs.Kafka
	if s.opts.Protocol != "" {
		kafka = s.opts.Protocol + "://" + kafka
	}
	args := []string{"serve", "--data", s.opts.Dir, "--kafka", kafka, "--mqtt", s.addrs.MQTT, "--http", s.addrs.HTTP}
	if s.opts.Config != "" {
		path := s.ConfigPath()
		// Written once: a later start may find the disk read-only or full.
		if old, err := os.ReadFile(path); err != nil || string(old) != s.opts.Config {
			if err := os.WriteFile(path, []byte(s.opts.Config), 0o600); err != nil {
				return fmt.Errorf("site: %w", err)
			}
		}
		args = append(args, "--config", path)
	}
	cmd := exec.Command(s.opts.Binary, append(args, s.opts.Args...)...)
	cmd.Env = append(os.Environ(), s.opts.Env...)
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.SysProcAttr = processAttributes()
	s.output.forget()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("site: start %s: %w", s.opts.Binary, err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go p.wait()
	s.process = p
	return nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	p.code = p.cmd.ProcessState.ExitCode()
	close(p.exited)
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// httpAddress finds the address of the HTTP listener in the start log.
var httpAddress = regexp.MustCompile(`http[^\s\d]*(\d{1,3}(?:\.\d{1,3}){3}:[1-9]\d*)`)

// WaitReady waits until /readyz says so, and learns the addresses.
func (s *Site) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.ReadyTimeout)
	defer cancel()
	p := s.current()
	if p == nil {
		return errors.New("site: weir was never started")
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if m := httpAddress.FindStringSubmatch(s.output.String()); m != nil {
			s.mu.Lock()
			s.addrs.HTTP = m[1]
			s.mu.Unlock()
			if s.ready(ctx) {
				break
			}
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("site: %w before it was ready, code %d; its last words:\n%s", ErrExited, p.code, s.output)
		case <-ctx.Done():
			return fmt.Errorf("site: weir is not ready after %v; its log:\n%s", s.opts.ReadyTimeout, s.output)
		}
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = st.Addresses
	return nil
}

func (s *Site) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Addresses are valid once the site was ready, and stay so over restarts.
func (s *Site) Addresses() Addresses {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs
}

// Kill ends the process by SIGKILL and waits for its end. Killing what does not
// run does nothing.
func (s *Site) Kill() {
	p := s.current()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // ErrProcessDone says that it has ended
	<-p.exited
}

// Stacks ends the process by SIGQUIT: what its goroutines were at is in Output then.
func (s *Site) Stacks() {
	p := s.current()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // ErrProcessDone says that it has ended
	select {
	case <-p.exited:
	case <-time.After(stacksTimeout):
		s.Kill()
	}
}

// Stop asks the process by SIGTERM to end, and returns its exit code. If it does
// not end in time it is killed and that is the error.
func (s *Site) Stop(timeout time.Duration) (code int, err error) {
	p := s.current()
	if p == nil {
		return 0, errors.New("site: weir was never started")
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.code, nil
	case <-time.After(timeout):
		s.Kill()
		return p.code, fmt.Errorf("site: weir did not stop within %v of SIGTERM; its log:\n%s", timeout, s.output)
	}
}

// Exited is closed when the process of the last start has ended.
func (s *Site) Exited() <-chan struct{} { return s.current().exited }

// ExitCode waits for the end of the process and returns its code, -1 if a signal ended it.
func (s *Site) ExitCode() int {
	p := s.current()
	<-p.exited
	return p.code
}

// PID is the process id of the last start.
func (s *Site) PID() int { return s.current().cmd.Process.Pid }

// Output is the end of what the process of the last start wrote.
func (s *Site) Output() string { return s.output.String() }

// Command runs another command of the same binary, such as plugin list, and
// returns its standard output. The error holds what it wrote to standard error.
func (s *Site) Command(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, s.opts.Binary, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, fmt.Errorf("weir %s: %w: %s", args[0], err, exit.Stderr)
	}
	return out, err
}
