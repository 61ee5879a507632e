package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// qos2Client is one end of QoS 2, publishing or subscribed, that keeps the rules of
// MQTT 5 whatever happens to its connections: its fields are what a device would keep
// in its flash. It uses Weir's codec but nothing of its server.
type qos2Client struct {
	addr, name string
	rng        *rand.Rand
	drops      *atomic.Int64

	// of a sender
	next   int            // message
	sent   map[uint16]int // PUBLISH is unanswered
	freed  map[uint16]int // PUBREL is unanswered
	order  []uint16       // of both
	lastID uint16
	resent int64

	mu         sync.Mutex
	got        map[string]int // messages seen
	open       map[uint16]bool
	subscribed chan struct{}
}

const (
	qos2Window   = 30
	qos2Filter   = "chaos/qos2/#"
	qos2Patience = 2 * time.Second
)

func newQoS2Client(addr, name string, seed uint64, drops *atomic.Int64) *qos2Client {
	return &qos2Client{addr: addr, name: name, rng: rand.New(rand.NewPCG(seed, 3)), drops: drops, sent: map[uint16]int{}, freed: map[uint16]int{},
		got: map[string]int{}, open: map[uint16]bool{}, subscribed: make(chan struct{})}
}

func (c *qos2Client) value(n int) string { return fmt.Sprint(c.name, "/", n) }

func (c *qos2Client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// await waits until the subscription stands.
func (c *qos2Client) await(ctx context.Context, d time.Duration) error {
	select {
	case <-c.subscribed:
		return nil
	case <-time.After(d):
		return errors.New("chaos: the subscriber got no SUBACK")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run connects again and again: a sender until feed has ended and all is answered, a
// subscriber until life ends.
func (c *qos2Client) run(life, feed context.Context, subscriber bool) {
	for life.Err() == nil && (subscriber || feed.Err() == nil || len(c.order) > 0) {
		if err := c.connection(life, feed, subscriber); err != nil {
			pause(life, 10*time.Millisecond)
		}
	}
}

// qos2Conn reads packets of one connection.
type qos2Conn struct {
	net.Conn
	buf []byte
}

func (n *qos2Conn) packet() (f packet.Frame, err error) {
	for {
		f, size, err := packet.Split(n.buf, 1<<20)
		if err != nil {
			return f, err
		}
		if size > 0 && size <= len(n.buf) {
			n.buf = n.buf[size:]
			return f, nil
		}
		chunk := make([]byte, 16<<10)
		if err := n.SetReadDeadline(time.Now().Add(qos2Patience)); err != nil {
			return f, err
		}
		k, err := n.Read(chunk)
		if n.buf = append(slices.Clone(n.buf), chunk[:k]...); err != nil {
			return f, err
		}
	}
}

var errDropped = errors.New("dropped")

// connection is one connection from CONNECT to its end.
func (c *qos2Client) connection(life, feed context.Context, subscriber bool) error {
	nc, err := net.DialTimeout("tcp", c.addr, time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(life, func() { nc.Close() })()
	n := &qos2Conn{Conn: nc}
	hello := packet.Connect{Version: packet.V5, ClientID: []byte(c.name)}
	hello.Props.SetUint(packet.SessionExpiry, 3600)
	if _, err := n.Write(hello.Append(nil)); err != nil {
		return err
	}
	f, err := n.packet()
	if err != nil {
		return err
	}
	var ack packet.Connack
	if err := ack.Decode(f, packet.V5); err != nil || ack.Code != 0 {
		return fmt.Errorf("connack %d: %w", ack.Code, err)
	}
	if subscriber {
		s := packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: []byte(qos2Filter), QoS: 2, RetainHandling: 2}}}
		if _, err := n.Write(s.Append(nil, packet.V5)); err != nil {
			return err
		}
	} else if _, err := n.Write(c.again()); err != nil {
		return err
	}
	for subscriber || feed.Err() == nil || len(c.order) > 0 {
		if err := c.step(n, feed, subscriber); err != nil {
			return err
		}
	}
	return nil
}

// step fills the window, takes one packet and answers it, or drops the connection
// before or after the answer.
func (c *qos2Client) step(n *qos2Conn, feed context.Context, subscriber bool) error {
	var out []byte
	for !subscriber && feed.Err() == nil && len(c.order) < qos2Window && c.rng.IntN(10) > 0 {
		out = c.publish(out)
	}
	if _, err := n.Write(out); err != nil {
		return err
	}
	if !subscriber && len(c.order) == 0 {
		return nil
	}
	f, err := n.packet()
	var timeout net.Error
	if subscriber && errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	if err != nil {
		return err
	}
	drop := c.rng.IntN(1000)
	if drop == 0 { // the packet is lost with the connection
		c.drops.Add(1)
		return errDropped
	}
	answer, err := c.take(f)
	if err != nil {
		return err
	}
	if drop == 1 { // its answer is
		c.drops.Add(1)
		return errDropped
	}
	_, err = n.Write(answer)
	return err
}

// take handles one packet and returns the answer.
func (c *qos2Client) take(f packet.Frame) ([]byte, error) {
	if f.Type == packet.TypePublish {
		var p packet.Publish
		if err := p.Decode(f, packet.V5); err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.open[p.PacketID] {
			c.open[p.PacketID] = true
			c.got[string(p.Payload)]++
		}
		return qos2Ack(packet.TypePubrec, p.PacketID), nil
	}
	var a packet.Ack
	switch f.Type {
	case packet.TypeSuback:
		select {
		case <-c.subscribed:
		default:
			close(c.subscribed)
		}
		return nil, nil
	case packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		if err := a.Decode(f, packet.V5); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s", f.Type)
	}
	switch f.Type {
	case packet.TypePubrel:
		c.mu.Lock()
		delete(c.open, a.PacketID)
		c.mu.Unlock()
		return qos2Ack(packet.TypePubcomp, a.PacketID), nil
	case packet.TypePubrec:
		if m, ok := c.sent[a.PacketID]; ok {
			if a.Reason.Failed() {
				return nil, fmt.Errorf("pubrec with %s", a.Reason)
			}
			delete(c.sent, a.PacketID)
			c.freed[a.PacketID] = m
		}
		return qos2Ack(packet.TypePubrel, a.PacketID), nil
	}
	if _, ok := c.freed[a.PacketID]; ok {
		delete(c.freed, a.PacketID)
		c.order = slices.DeleteFunc(c.order, func(id uint16) bool { return id == a.PacketID })
	}
	return nil, nil
}

func qos2Ack(t packet.Type, id uint16) []byte {
	return (&packet.Ack{Type: t, PacketID: id}).Append(nil, packet.V5)
}

func (c *qos2Client) publish(dst []byte) []byte {
	for {
		if c.lastID++; c.lastID > 100 { // few, so that identifiers come again
			c.lastID = 1
		}
		if !slices.Contains(c.order, c.lastID) {
			break
		}
	}
	c.sent[c.lastID] = c.next
	c.order = append(c.order, c.lastID)
	c.next++
	return c.message(dst, c.lastID, false)
}

func (c *qos2Client) message(dst []byte, id uint16, dup bool) []byte {
	m := c.sent[id]
	p := packet.Publish{QoS: 2, Dup: dup, PacketID: id, Topic: fmt.Append(nil, "chaos/qos2/", m%7), Payload: []byte(c.value(m))}
	return p.Append(dst, packet.V5)
}

// again is what a new connection repeats.
func (c *qos2Client) again() (dst []byte) {
	for _, id := range c.order {
		c.resent++
		if _, ok := c.sent[id]; ok {
			dst = c.message(dst, id, true)
		} else {
			dst = append(dst, qos2Ack(packet.TypePubrel, id)...)
		}
	}
	return dst
}
