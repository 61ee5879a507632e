package fleet_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// peer is the least MQTT 3.1.1 server that can misbehave: it speaks through
// paho's own packet codec, logs what is published and decides about each PUBACK.
type peer struct {
	ln net.Listener
	// onPublish is called with the number of the publish, from 1, under mu.
	onPublish func(n int) verdict

	mu       sync.Mutex
	conns    map[net.Conn]bool
	log      []packets.PublishPacket
	connects int
	wg       sync.WaitGroup
}

type verdict int

const (
	ack  verdict = iota
	hold         // log it, do not ack
	drop         // log it, cut the connection
	miss         // cut the connection, do not log
)

func newPeer(t *testing.T, onPublish func(n int) verdict) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{ln: ln, onPublish: onPublish, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *peer) addr() string { return p.ln.Addr().String() }

func (p *peer) close() {
	p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *peer) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *peer) serve(c net.Conn) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	for {
		pkt, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch m := pkt.(type) {
		case *packets.ConnectPacket:
			p.mu.Lock()
			p.connects++
			p.mu.Unlock()
			if packets.NewControlPacket(packets.Connack).Write(c) != nil {
				return
			}
		case *packets.PublishPacket:
			if !p.publish(c, m) {
				return
			}
		case *packets.PingreqPacket:
			if packets.NewControlPacket(packets.Pingresp).Write(c) != nil {
				return
			}
		case *packets.DisconnectPacket:
			return
		}
	}
}

func (p *peer) publish(c net.Conn, m *packets.PublishPacket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.onPublish(len(p.log) + 1)
	if v == miss {
		return false
	}
	p.log = append(p.log, *m)
	if v != ack {
		return v == hold
	}
	a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	a.MessageID = m.MessageID
	return a.Write(c) == nil
}

// published returns the payloads logged for one device, in order.
func (p *peer) published(device string) []packets.PublishPacket {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []packets.PublishPacket
	for _, m := range p.log {
		if strings.Contains(m.TopicName, "/"+device+"/") {
			out = append(out, m)
		}
	}
	return out
}
