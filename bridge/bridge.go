// Package bridge joins MQTT and the log: its Router says to which Kafka topic,
// partition and key a message goes and which records go back to devices, and
// bridge/mqtt serves the devices.
package bridge

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/sparkplug"
)

// Log is the partition log as the bridge needs it.
type Log = mqtt.Log

// Options of a Bridge.
type Options struct {
	// Listeners say where to listen, at least one.
	Listeners []Listener
	// ProxyFrom are the networks whose connections begin with a header of the PROXY
	// protocol, which tells whose they are.
	ProxyFrom []netip.Prefix
	// Origins are the sites, as host patterns such as *.example.com, whose pages may open
	// a WebSocket here, beside those that come from the same host and what is no browser.
	Origins   []string
	Routes    []Route
	Downlinks []Downlink
	Sparkplug Sparkplug
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
	server    *mqtt.Server
	router    *Router
	stop      chan struct{} // ends edge
	replacing sync.Mutex    // guards router.downlinks
	bound     []net.Listener
	serving   sync.WaitGroup
}

// Start listens on Options.Listeners and serves MQTT on log until Close.
func Start(opts Options, log Log) (*Bridge, error) {
	router, err := NewRouter(opts.Routes, opts.Downlinks)
	if err != nil {
		return nil, err
	}
	bound, err := bind(opts.Listeners)
	if err != nil {
		return nil, err
	}
	edge := opts.follow(router)
	router.Answer(log, opts.MQTT.Age, opts.MQTT.Log)
	server, err := mqtt.New(context.Background(), opts.MQTT, log, router)
	if err != nil {
		return nil, errors.Join(err, unbind(bound))
	}
	b := &Bridge{server: server, router: router, bound: bound, stop: make(chan struct{})}
	if edge != nil {
		go edge.run(server, b.stop)
	}
	b.serve(&opts)
	return b, nil
}

// Replace puts other routes and downlinks in the place of those there are, for the messages
// and the records that come from now on. An error changes nothing.
func (b *Bridge) Replace(routes []Route, downlinks []Downlink) error {
	b.replacing.Lock()
	defer b.replacing.Unlock()
	oldRoutes, old := *b.router.routes.Load(), b.router.downlinks
	if err := b.router.Replace(routes, downlinks); err != nil {
		return err
	}
	if err := b.server.Follow(b.router.Downlinks()); err != nil {
		b.router.put(oldRoutes, old)
		return err
	}
	return nil
}

// Dial opens a connection from within the process, for a link to another broker.
func (b *Bridge) Dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	b.server.ServeTrusted(theirs)
	return ours, nil
}

// Addr is the address that devices connect to, at the first listener.
func (b *Bridge) Addr() net.Addr { return b.bound[0].Addr() }

// Close ends all connections and returns when all goroutines have ended. The log
// must still be open: sessions are stored.
func (b *Bridge) Close() error {
	if e := b.router.edge; e != nil {
		close(b.stop)
		<-e.done
	}
	err := b.server.Close()
	b.serving.Wait()
	return err
}

// Status is a snapshot for GET /v1/status.
type Status struct {
	Addr string `json:"addr"`
	mqtt.Status
	Downlinks []DownlinkStatus  `json:"downlinks,omitempty"`
	Sparkplug *sparkplug.Status `json:"sparkplug,omitempty"`
}

// Status returns a snapshot.
func (b *Bridge) Status() Status {
	return Status{Addr: b.addrs(), Status: b.server.Status(), Downlinks: b.downlinks(), Sparkplug: b.router.edge.status()}
}

// DownlinkStatus is a downlink in force.
type DownlinkStatus struct {
	Topic  string `json:"topic"`
	To     string `json:"to"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain"`
	Reply  string `json:"reply_to,omitempty"`
}

func (b *Bridge) downlinks() (out []DownlinkStatus) {
	b.replacing.Lock()
	defer b.replacing.Unlock()
	for _, d := range b.router.downlinks {
		out = append(out, DownlinkStatus{Topic: d.spec.Topic, To: d.spec.To, QoS: d.spec.QoS, Retain: d.spec.Retain, Reply: d.spec.Reply.To})
	}
	return out
}

// Metrics writes the bridge's figures.
func (b *Bridge) Metrics(w *metric.Writer) {
	b.server.Metrics(w)
	b.router.replies.metrics(w)
	b.router.edge.metrics(w)
}
