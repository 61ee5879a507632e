// Package compat starts foreign brokers and clients for tests: the peers that
// keep Weir honest. Everything here costs seconds and memory, so it runs only
// when WEIR_COMPAT is set ("make compat" sets it); otherwise tests skip and say why.
package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Env is the environment variable that turns the compatibility tests on.
const Env = "WEIR_COMPAT"

const (
	startTimeout = 90 * time.Second
	stopTimeout  = 30 * time.Second
	toolMissing  = 3 // kafka.sh's exit code when java or mvn is not installed
)

// Require skips the test unless compatibility tests are turned on.
func Require(tb testing.TB) {
	tb.Helper()
	if os.Getenv(Env) == "" {
		tb.Skipf("skipped: starts foreign servers; run \"make compat\" or set %s=1", Env)
	}
}

// Cluster is a real Apache Kafka of one node, reachable on loopback only.
type Cluster struct {
	Addr string // host:port of the Kafka listener; stays the same over restarts

	dir    string
	script string
	env    []string // of the broker's process, such as KAFKA_HEAP=1g

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed once cmd has been waited for
}

// StartKafka formats and starts a broker in a folder of its own and returns
// once it answers. overrides are lines for server.properties, such as
// "message.max.bytes=2000". The broker is killed when the test ends. The test
// is skipped, with the reason, when [Env] is unset or java or mvn is not there.
func StartKafka(tb testing.TB, overrides ...string) *Cluster {
	tb.Helper()
	Require(tb)
	c, err := LaunchKafka(tb.TempDir(), nil, overrides...)
	if ToolMissing(err) {
		tb.Skipf("skipped: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Kill)
	return c
}

// LaunchKafka is StartKafka for programs that are no test: the broker's data are in
// dir, env is for its process (kafka.sh names what it looks at), and the caller kills it.
func LaunchKafka(dir string, env []string, overrides ...string) (*Cluster, error) {
	c := &Cluster{dir: dir, script: kafkaScript(), env: env}
	ports, err := freePorts(2)
	if err != nil {
		return nil, fmt.Errorf("compat: %w", err)
	}
	c.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	args := append([]string{c.script, "format", c.dir, strconv.Itoa(ports[0]), strconv.Itoa(ports[1])}, overrides...)
	if out, err := exec.Command("sh", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compat: format kafka: %w\n%s", err, bytes.TrimSpace(out))
	}
	if err := c.start(); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// Tool runs one of Kafka's own command line tools and returns its output.
func (c *Cluster) Tool(class string, args ...string) (string, error) { return Tool(class, args...) }

// Tool runs one of Kafka's own command line tools, which needs no broker, and
// returns its output.
func Tool(class string, args ...string) (string, error) {
	out, err := exec.Command("sh", append([]string{kafkaScript(), "tool", class}, args...)...).CombinedOutput()
	return string(out), err
}

// ToolMissing reports whether an error of Tool means that java or mvn is not there.
func ToolMissing(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == toolMissing
}

// Stop shuts the broker down as an operator would and waits for its end.
func (c *Cluster) Stop() { c.end(syscall.SIGTERM) }

// Kill ends the broker with SIGKILL and waits until the process is gone.
func (c *Cluster) Kill() { c.end(syscall.SIGKILL) }

// Restart starts the broker again on its data, after killing it if it runs,
// and returns once it answers.
func (c *Cluster) Restart(tb testing.TB) {
	tb.Helper()
	c.Kill()
	if err := c.start(); err != nil {
		tb.Fatal(err)
	}
}

// PID is the process id of the broker, which must run.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cmd.Process.Pid
}

// Log is what the broker wrote so far.
func (c *Cluster) Log() string {
	raw, _ := os.ReadFile(c.logPath())
	return string(raw)
}

func (c *Cluster) logPath() string { return filepath.Join(c.dir, "kafka.log") }

func (c *Cluster) start() error {
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("compat: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("sh", c.script, "run", c.dir) // the script execs java: this pid is the broker's
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), c.env...)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("compat: start kafka: %w", err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	c.mu.Lock()
	c.cmd, c.done = cmd, done
	c.mu.Unlock()
	if err := c.awaitReady(done); err != nil {
		return fmt.Errorf("compat: kafka does not answer: %w\n%s", err, c.Log())
	}
	return nil
}

func (c *Cluster) awaitReady(done <-chan struct{}) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// Only unfenced brokers stand in the metadata: one there means ready to work.
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
		if err == nil && len(resp.Brokers) > 0 {
			return nil
		}
		select {
		case <-done:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

func (c *Cluster) end(sig syscall.Signal) {
	c.mu.Lock()
	cmd, done := c.cmd, c.done
	c.cmd = nil
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	cmd.Process.Signal(sig)
	select {
	case <-done:
	case <-time.After(stopTimeout):
		cmd.Process.Kill()
		<-done
	}
}

// kafkaScript finds kafka.sh beside this source file.
func kafkaScript() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "kafka", "kafka.sh")
}

// freePorts picks ports that nobody listens on now. Kafka cannot be told to
// pick one itself, because it must advertise it.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
