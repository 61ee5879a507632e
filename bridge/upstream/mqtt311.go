package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// client311 is a client of MQTT 3.1.1, where a message is acknowledged or the
// connection closed: it hears of no refusals.
type client311 struct {
	traffic
	paho  mqtt.Client
	store inFlight
}

func (l *Link) dial311(t traffic) (*client311, error) {
	c := &client311{traffic: t}
	c.store.sent, c.store.acked = map[string]*message{}, func(m *message) { t.settle(outcome{m: m}) }
	c.paho = mqtt.NewClient(l.options311(c))
	token := c.paho.Connect()
	if !token.WaitTimeout(wait) {
		c.paho.Disconnect(0)
		return nil, fmt.Errorf("no CONNACK within %v", wait)
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	return c, nil
}

func (l *Link) options311(c *client311) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker("tcp://broker").SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return l.open() }).
		SetClientID(l.opts.ClientID).SetUsername(l.opts.Username).SetPassword(l.opts.Password)
	o.SetProtocolVersion(4)
	o.SetCleanSession(false)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetKeepAlive(l.opts.KeepAlive)
	o.SetConnectTimeout(connectTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetOrderMatters(true) // the handler may block: that is the backpressure
	o.SetAutoAckDisabled(true)
	o.SetStore(&c.store)
	// Not one for each filter: the session may deliver before there is a SUBSCRIBE.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		c.receive(&message{topic: m.Topic(), payload: m.Payload(), qos: m.Qos(), retain: m.Retained(), ack: m.Ack})
	})
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lost(err) })
	return o
}

func (c *client311) publish(_ context.Context, m *message, topic string, qos byte) error {
	if err := c.store.publish(c.paho, topic, qos, m); err != nil {
		return err
	}
	if qos == 0 {
		c.settle(outcome{m: m})
	}
	return nil
}

func (c *client311) subscribe(ctx context.Context, filters map[string]byte) (map[string]packet.Reason, error) {
	token := c.paho.SubscribeMultiple(filters, nil)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	s, ok := token.(*mqtt.SubscribeToken)
	if !ok {
		return nil, errors.New("no SUBACK")
	}
	granted := map[string]packet.Reason{}
	for f, code := range s.Result() {
		granted[f] = packet.Reason(code) // 0x80 is a failure here, too
	}
	return granted, nil
}

func (c *client311) version() string { return "3.1.1" }

func (c *client311) close() { c.paho.Disconnect(disconnectMs) }

// inFlight is the client's store. It is where acknowledgements are seen: the client
// removes a message from its store on PUBACK and for no other reason, while it
// completes tokens on other occasions, too.
type inFlight struct {
	acked func(*message)

	mu     sync.Mutex
	staged *message // what the next publish carries on
	sent   map[string]*message
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
func (s *inFlight) publish(c mqtt.Client, topic string, qos byte, m *message) error {
	s.mu.Lock()
	s.staged = m
	s.mu.Unlock()
	token := c.Publish(topic, qos, m.retain, m.payload)
	select {
	case <-token.Done():
		return token.Error()
	default:
		return nil
	}
}
