package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/testbed/site"
)

// mqttBroker is a broker that is measured: a process, and where it listens.
type mqttBroker struct {
	name    string
	address string
	pid     int
	end     func()
}

// startWeirMQTT starts the binary with the given configuration.
func startWeirMQTT(o options, name, config string) (*mqttBroker, error) {
	binary, err := filepath.Abs(o.weir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.dir, name)
	s, err := site.Start(context.Background(), site.Options{Binary: binary, Dir: dir, Config: config})
	if err != nil {
		return nil, fmt.Errorf("%w: run make build, or give --weir", err)
	}
	return &mqttBroker{"Weir", s.Addresses().MQTT, s.PID(), func() {
		s.Kill()
		os.RemoveAll(dir)
	}}, nil
}

// mosquittoConfig keeps everything in memory: no broker has less to do.
const mosquittoConfig = `listener %s 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
max_connections -1
set_tcp_nodelay true
log_type error
`

func startMosquitto(o options) (*mqttBroker, error) {
	return startPeer(o, "mosquitto", mosquittoConfig, func(config string) *exec.Cmd { return exec.Command("mosquitto", "-c", config) })
}

// natsVersion is what is built where there is no nats-server beside the bench's files.
const natsVersion = "v2.12.1"

const natsConfig = `listen: 127.0.0.1:-1
server_name: bench
jetstream { store_dir: "%[2]s", sync_interval: "%[3]s" }
mqtt { listen: "127.0.0.1:%[1]s", max_ack_pending: 65535 }
`

// startNATS starts nats-server, whose MQTT stores messages in JetStream; sync is its
// sync_interval, "always" or a time.
func startNATS(o options, sync string) (*mqttBroker, error) {
	binary, err := natsServer()
	if err != nil {
		return nil, err
	}
	return startPeer(o, "nats-"+sync, natsConfig, func(config string) *exec.Cmd { return exec.Command(binary, "-c", config) }, sync)
}

// natsServer builds it once, apart from this module.
func natsServer() (string, error) {
	dir, err := filepath.Abs(".cache/bench-bin")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "nats-server")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	build := exec.Command("go", "install", "github.com/nats-io/nats-server/v2@"+natsVersion)
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server %s: %w: %s", natsVersion, err, out)
	}
	return binary, nil
}

// startPeer writes the configuration, whose first verb is the port and the second a
// folder, starts the program and waits until it listens.
func startPeer(o options, name, config string, command func(config string) *exec.Cmd, more ...any) (*mqttBroker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	dir := filepath.Join(o.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	values := append([]any{port, dir}, more...)
	if name == "mosquitto" {
		values = values[:1]
	}
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, fmt.Appendf(nil, config, values...), 0o600); err != nil {
		return nil, err
	}
	cmd := command(path)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w: install it to measure this row", name, err)
	}
	b := &mqttBroker{name, address, cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := dialMQTT(address, "probe", true)
		if err == nil {
			c.nc.Close()
			return b, nil
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			b.end()
			return nil, errors.Join(fmt.Errorf("%s does not serve on %s: %s", name, address, said), err)
		}
	}
}
