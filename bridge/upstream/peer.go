package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/packets"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// disconnectMs is how long a client may take to say DISCONNECT.
const disconnectMs = 250

// ClientIDPrefix begins the client identifiers of links at Weir's own server.
const ClientIDPrefix = "weir.upstream."

// peer is the client of one side: of MQTT 5, which says why a message is refused, or of
// 3.1.1 for a broker that knows no other.
type peer interface {
	// publish sends a message on, unless ctx ends. An error ends the life of the link;
	// what becomes of the message is settled.
	publish(ctx context.Context, m *message, topic string, qos byte) error
	// subscribe returns what was granted for each filter.
	subscribe(ctx context.Context, filters map[string]byte) (map[string]packet.Reason, error)
	close()
	version() string
}

// message is one on its way across.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	props   *packets.Properties // of MQTT 5, as they go on; nil: none
	ack     func()              // tells the side that it came from; may block
	held    bool                // it was refused for now, and is tried again
}

// outcome is what a side says to a message; text is its own words, if it has any.
type outcome struct {
	m      *message
	reason packet.Reason
	text   string
}

// traffic is what a client does with what it hears.
type traffic struct {
	receive func(*message) // may block
	settle  func(outcome)  // of what was published; never blocks
	lost    func(error)    // the connection is over
}

func (l *Link) dialLocal(t traffic) (peer, error) {
	nc, err := l.opts.Local()
	if err != nil {
		return nil, err
	}
	c, err := l.dial5(nc, ClientIDPrefix+l.opts.Name, l.opts.LocalUsername, l.opts.LocalPassword, t)
	if err != nil {
		return nil, fmt.Errorf("connect to Weir's own MQTT server: %w", err)
	}
	return c, nil
}

// dialRemote connects by MQTT 5, and by 3.1.1 to a broker that does not know it: one
// says so, another closes or answers with a packet of 3.1.1.
func (l *Link) dialRemote(t traffic) (peer, error) {
	nc, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", l.opts.URL, err)
	}
	c, err := l.dial5(nc, l.opts.ClientID, l.opts.Username, l.opts.Password, t)
	if err == nil {
		return c, nil
	}
	if errors.Is(err, errVersion) {
		old, oldErr := l.dial311(t)
		if oldErr == nil {
			return old, nil
		}
		err = fmt.Errorf("%w; with MQTT 3.1.1: %w", err, oldErr)
	}
	return nil, fmt.Errorf("connect to %s: %w", l.opts.URL, err)
}

// open opens a network connection to the broker.
func (l *Link) open() (net.Conn, error) {
	if l.opts.dial != nil {
		return l.opts.dial()
	}
	server, err := l.opts.server()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	d := &net.Dialer{Timeout: connectTimeout}
	switch u.Scheme {
	case "ws", "wss":
		return mqtt.NewWebsocket(server, l.opts.TLS, connectTimeout, nil, nil)
	case "ssl":
		return tls.DialWithDialer(d, "tcp", u.Host, l.opts.TLS)
	}
	return d.Dial("tcp", u.Host)
}

// subscribe asks for all filters of one direction.
func subscribe(ctx context.Context, p peer, subs []Subscription, filter func(Subscription) string) error {
	if len(subs) == 0 {
		return nil
	}
	filters := map[string]byte{}
	for _, s := range subs {
		filters[filter(s)] = max(filters[filter(s)], s.QoS)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*connectTimeout, fmt.Errorf("no SUBACK within %v", 2*connectTimeout))
	defer cancel()
	granted, err := p.subscribe(ctx, filters)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for f, reason := range granted {
		if reason.Failed() { // [MQTT-3.9.3-1]
			return fmt.Errorf("subscription to %q was refused (%v): may the user read these topics?", f, reason)
		}
	}
	return nil
}

// wait is how long a client waits for what a broker must answer.
const wait = 2 * connectTimeout

// seconds is a duration as CONNECT has it.
func seconds(d time.Duration) uint16 { return uint16(min(d/time.Second, 65535)) }
