// Package bridge joins MQTT and the log: its Router says to which Kafka topic,
// partition and key a message goes and which records go back to devices, and
// bridge/mqtt serves the devices.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/mqtt"
)

// Log is the partition log as the bridge needs it.
type Log = mqtt.Log

// Options of a Bridge.
type Options struct {
	// Addr is where to listen, HOST:PORT; port 0 picks one. Without TLS and
	// Authenticate in MQTT it should be a loopback address.
	Addr      string
	Routes    []Route
	Downlinks []Downlink
	MQTT      mqtt.Options // limits, TLS, log
}

// Validate reports the first option that cannot be. It opens nothing.
func (o Options) Validate() error {
	if _, err := NewRouter(o.Routes, o.Downlinks); err != nil {
		return err
	}
	return o.MQTT.Validate()
}

// Bridge is a running MQTT server. Its methods may be called concurrently.
type Bridge struct {
	server   *mqtt.Server
	listener net.Listener
	serving  sync.WaitGroup
}

// Start listens on Options.Addr and serves MQTT on log until Close.
func Start(opts Options, log Log) (*Bridge, error) {
	router, err := NewRouter(opts.Routes, opts.Downlinks)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("bridge: listen for MQTT: %w", err)
	}
	server, err := mqtt.New(context.Background(), opts.MQTT, log, router)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	b := &Bridge{server: server, listener: l}
	b.serving.Add(1)
	go func() {
		defer b.serving.Done()
		b.server.Serve(l)
	}()
	return b, nil
}

// Dial opens a connection from within the process, for a link to another broker.
func (b *Bridge) Dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	b.server.ServeConn(theirs)
	return ours, nil
}

// Addr is the address that devices connect to.
func (b *Bridge) Addr() net.Addr { return b.listener.Addr() }

// Close ends all connections and returns when all goroutines have ended. The log
// must still be open: sessions are stored.
func (b *Bridge) Close() error {
	err := b.server.Close()
	b.serving.Wait()
	return err
}

// Status is a snapshot for GET /v1/status.
type Status struct {
	Addr string `json:"addr"`
	mqtt.Status
}

// Status returns a snapshot.
func (b *Bridge) Status() Status { return Status{Addr: b.Addr().String(), Status: b.server.Status()} }

// Metrics writes the bridge's figures.
func (b *Bridge) Metrics(w *metric.Writer) { b.server.Metrics(w) }
