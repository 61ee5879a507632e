package upstream

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// disconnectMs is how long a client may take to say DISCONNECT.
const disconnectMs = 250

func (l *Link) dialRemote(receives, publishes *pump, lost context.CancelCauseFunc) (mqtt.Client, error) {
	server, err := l.opts.server()
	if err != nil {
		return nil, err
	}
	o := l.clientOptions(receives, publishes, func(err error) { lost(fmt.Errorf("connection to %s lost: %w", l.opts.URL, err)) }).
		AddBroker(server).SetClientID(l.opts.ClientID).SetUsername(l.opts.Username).SetPassword(l.opts.Password)
	if l.opts.TLS != nil {
		o.SetTLSConfig(l.opts.TLS)
	}
	return connect(o, l.opts.URL)
}

func (l *Link) dialLocal(receives, publishes *pump, lost context.CancelCauseFunc) (mqtt.Client, error) {
	o := l.clientOptions(receives, publishes, func(err error) { lost(fmt.Errorf("the box's own MQTT server closed the connection: %w", err)) }).
		AddBroker("tcp://weir").SetClientID(ClientIDPrefix + l.opts.Name).SetUsername(l.opts.LocalUsername).SetPassword(l.opts.LocalPassword).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return l.opts.Local() })
	return connect(o, "Weir's own MQTT server")
}

// ClientIDPrefix begins the client identifiers of links at Weir's own server.
const ClientIDPrefix = "weir.upstream."

func (l *Link) clientOptions(receives, publishes *pump, lost func(error)) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.SetProtocolVersion(4)
	o.SetCleanSession(false)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetKeepAlive(l.opts.KeepAlive)
	o.SetConnectTimeout(connectTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetOrderMatters(true) // the handler may block: that is the backpressure
	o.SetAutoAckDisabled(true)
	o.SetStore(&publishes.store)
	// Not one for each filter: the session may deliver before there is a SUBSCRIBE.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { receives.take(m) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost(err) })
	return o
}

func connect(o *mqtt.ClientOptions, name string) (mqtt.Client, error) {
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(2 * connectTimeout) {
		c.Disconnect(0)
		return nil, fmt.Errorf("no CONNACK from %s within %v", name, 2*connectTimeout)
	}
	if err := token.Error(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	return c, nil
}

// subscribe asks for all filters of one direction.
func subscribe(ctx context.Context, c mqtt.Client, subs []Subscription, filter func(Subscription) string) error {
	if len(subs) == 0 {
		return nil
	}
	filters := map[string]byte{}
	for _, s := range subs {
		filters[filter(s)] = max(filters[filter(s)], s.QoS)
	}
	token := c.SubscribeMultiple(filters, nil)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(2 * connectTimeout):
		return fmt.Errorf("no SUBACK within %v", 2*connectTimeout)
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for f, granted := range token.(*mqtt.SubscribeToken).Result() {
		if granted > 2 { // [MQTT-3.9.3-1]
			return fmt.Errorf("subscription to %q was refused (0x%02x): may the user read these topics?", f, granted)
		}
	}
	return nil
}

// inFlight is the client's store. It is where acknowledgements are seen: the client
// removes a message from its store on PUBACK and for no other reason, while it
// completes tokens on other occasions, too.
type inFlight struct {
	acked func(mqtt.Message)

	mu     sync.Mutex
	staged mqtt.Message // what the next publish carries on
	sent   map[string]mqtt.Message
}

func (s *inFlight) Open()                            {}
func (s *inFlight) Close()                           {}
func (s *inFlight) Reset()                           {}
func (s *inFlight) All() []string                    { return nil } // each life of a link begins with nothing
func (s *inFlight) Get(string) packets.ControlPacket { return nil }

// Put is called within Publish, before the message can reach the wire.
func (s *inFlight) Put(key string, m packets.ControlPacket) {
	if _, ok := m.(*packets.PublishPacket); !ok || key[0] != 'o' {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[key], s.staged = s.staged, nil
}

// Del is called when the PUBACK has come.
func (s *inFlight) Del(key string) {
	s.mu.Lock()
	m := s.sent[key]
	delete(s.sent, key)
	s.mu.Unlock()
	if m != nil {
		s.acked(m)
	}
}

// publish sends a message on. The error is that it was not even stored.
func (s *inFlight) publish(c mqtt.Client, topic string, qos byte, m mqtt.Message) error {
	s.mu.Lock()
	s.staged = m
	s.mu.Unlock()
	token := c.Publish(topic, qos, m.Retained(), m.Payload())
	select {
	case <-token.Done():
		return token.Error()
	default:
		return nil
	}
}
