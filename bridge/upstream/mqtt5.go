package upstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// errVersion is that a broker seems not to know MQTT 5.
var errVersion = errors.New("no answer of MQTT 5 to CONNECT")

// client5 is a client of MQTT 5.
type client5 struct {
	traffic
	paho    *paho.Client
	session session
	wire    *wire
	acks    chan packets.ControlPacket
	done    chan struct{} // ends hear

	maxPacket int // bytes that the server takes; 0: any
	maxQoS    byte
	retains   bool

	mu   sync.Mutex
	sent map[uint16]*message // by packet identifier; guarded by mu
}

// session is paho's, but for the acknowledgements: those are sent when the other side
// of the link has a message.
type session struct{ *state.State }

func (session) Ack(*packets.Publish) error { return nil }

// pinger is paho's; the connection keeps what it ended by, for paho may hear first that
// it is closed.
type pinger struct {
	*paho.DefaultPinger
	wire *wire
}

func (p pinger) Run(ctx context.Context, nc net.Conn, keepAlive uint16) error {
	err := p.DefaultPinger.Run(ctx, nc, keepAlive)
	if err != nil {
		p.wire.fail(fmt.Errorf("no answer to PINGREQ within %d s (keep_alive): %w", keepAlive, err))
	}
	return err
}

// dial5 connects over nc, which is closed when that fails. The session is kept: the
// server's has what was not delivered.
func (l *Link) dial5(nc net.Conn, id, user, password string, t traffic) (*client5, error) {
	c := &client5{traffic: t, session: session{state.NewInMemory()}, wire: newWire(nc), sent: map[uint16]*message{},
		acks: make(chan packets.ControlPacket, l.opts.MaxInFlight), done: make(chan struct{})}
	c.paho = paho.NewClient(paho.ClientConfig{
		Conn: c.wire, Session: c.session, PacketTimeout: wait, PingHandler: pinger{paho.NewDefaultPinger(), c.wire},
		OnPublishReceived:  []func(paho.PublishReceived) (bool, error){c.received},
		OnClientError:      func(err error) { t.lost(c.wire.why(err)) },
		OnServerDisconnect: func(d *paho.Disconnect) { t.lost(disconnected(d)) },
	})
	window, forever := uint16(l.opts.MaxInFlight), uint32(math.MaxUint32)
	ack, err := c.paho.Connect(context.Background(), &paho.Connect{
		ClientID: id, KeepAlive: seconds(l.opts.KeepAlive), Username: user, UsernameFlag: user != "",
		Password: []byte(password), PasswordFlag: password != "",
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &forever, ReceiveMaximum: &window, RequestProblemInfo: true},
	})
	if err != nil {
		return nil, refusedConnect(ack, err)
	}
	c.heed(ack.Properties)
	go c.hear()
	return c, nil
}

// refusedConnect says why there is no connection. What is neither an answer of MQTT 5
// nor silence is taken for that of a broker of 3.1.1.
func refusedConnect(ack *paho.Connack, err error) error {
	switch {
	case ack == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)):
		return fmt.Errorf("no CONNACK within %v", wait)
	case ack == nil:
		return fmt.Errorf("%w (%w)", errVersion, err)
	}
	reason := packet.Reason(ack.ReasonCode)
	switch {
	case !reason.Failed():
		return err
	case reason == packet.UnsupportedProtocolVersion:
		return fmt.Errorf("%w (%v)", errVersion, reason)
	case ack.Properties != nil && ack.Properties.ReasonString != "":
		return fmt.Errorf("refused: %v (%s)", reason, ack.Properties.ReasonString)
	}
	return fmt.Errorf("refused: %v", reason)
}

func disconnected(d *paho.Disconnect) error {
	reason := packet.Reason(d.ReasonCode)
	if d.Properties != nil && d.Properties.ReasonString != "" {
		return fmt.Errorf("DISCONNECT: %v (%s)", reason, d.Properties.ReasonString)
	}
	return fmt.Errorf("DISCONNECT: %v", reason)
}

// heed takes note of what the server allows (MQTT 5, 3.2.2.3).
func (c *client5) heed(p *paho.ConnackProperties) {
	c.maxQoS, c.retains = 2, true
	if p == nil {
		return
	}
	c.retains = p.RetainAvailable
	if p.MaximumQoS != nil {
		c.maxQoS = *p.MaximumQoS
	}
	if p.MaximumPacketSize != nil {
		c.maxPacket = int(*p.MaximumPacketSize)
	}
}

func (c *client5) received(r paho.PublishReceived) (bool, error) {
	p := r.Packet.Packet()
	m := &message{topic: p.Topic, payload: p.Payload, qos: p.QoS, retain: p.Retain, props: p.Properties, ack: func() {}}
	if m.props != nil { // these two are of one connection alone
		m.props.TopicAlias, m.props.SubscriptionIdentifier = nil, nil
	}
	if p.QoS == 1 {
		m.ack = func() { // not by paho's session, which would write under its lock
			_, _ = (&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}}).WriteTo(c.wire)
		}
	}
	c.receive(m)
	return true, nil
}

func (c *client5) publish(ctx context.Context, m *message, topic string, qos byte) error {
	qos = min(qos, c.maxQoS)
	p := &packets.Publish{Topic: topic, QoS: qos, Retain: m.retain && c.retains, Payload: m.payload, Properties: m.props}
	if p.Properties == nil {
		p.Properties = &packets.Properties{}
	}
	if n := encodedLen(p); c.maxPacket > 0 && n > c.maxPacket { // [MQTT-3.2.2-15]
		c.settle(outcome{m, packet.PacketTooLarge, fmt.Sprintf("a packet of %d bytes, the receiver takes %d", n, c.maxPacket)})
		return nil
	}
	if qos > 0 {
		// It waits for the server's Receive Maximum.
		if err := c.session.AddToSession(ctx, p, c.acks); err != nil {
			<-ctx.Done() // the connection is over, and why is heard
			return context.Cause(ctx)
		}
		c.mu.Lock()
		c.sent[p.PacketID] = m
		c.mu.Unlock()
	}
	if _, err := p.WriteTo(c.wire); err != nil {
		return err
	}
	if qos == 0 {
		c.settle(outcome{m: m})
	}
	return nil
}

// encodedLen is the length of a PUBLISH on the wire, at most.
func encodedLen(p *packets.Publish) (n int) {
	for _, b := range p.Buffers() {
		n += len(b)
	}
	return n + 5
}

// hear takes the PUBACKs.
func (c *client5) hear() {
	for {
		select {
		case <-c.done:
			return
		case a := <-c.acks:
			puback, ok := a.Content.(*packets.Puback)
			if !ok { // the session has ended
				continue
			}
			c.mu.Lock()
			m := c.sent[puback.PacketID]
			delete(c.sent, puback.PacketID)
			c.mu.Unlock()
			if m == nil {
				continue
			}
			o := outcome{m: m, reason: packet.Reason(puback.ReasonCode)}
			if puback.Properties != nil {
				o.text = puback.Properties.ReasonString
			}
			c.settle(o)
		}
	}
}

func (c *client5) subscribe(ctx context.Context, filters map[string]byte) (map[string]packet.Reason, error) {
	s := &paho.Subscribe{}
	for f, qos := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: qos, RetainAsPublished: true})
	}
	ack, err := c.paho.Subscribe(ctx, s)
	switch { // a filter that is refused is an error, too
	case ack == nil:
		return nil, err
	case len(ack.Reasons) != len(s.Subscriptions):
		return nil, errors.New("the SUBACK is for another number of filters")
	}
	granted := map[string]packet.Reason{}
	for i, r := range ack.Reasons {
		granted[s.Subscriptions[i].Topic] = packet.Reason(r)
	}
	return granted, nil
}

func (c *client5) version() string { return "5" }

// close says DISCONNECT, if that is possible soon.
func (c *client5) close() {
	late := time.AfterFunc(disconnectMs*time.Millisecond, func() { c.wire.Conn.Close() })
	defer late.Stop()
	_ = c.paho.Disconnect(&paho.Disconnect{})
	close(c.done)
}
