package mqtt_test

import (
	"context"
	"testing"

	"github.com/coder/websocket"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// TestWebSocketEnds: the client is told why its socket ends, by a close frame (RFC 6455, 7.1).
func TestWebSocketEnds(t *testing.T) {
	for version, v := range map[string]packet.Version{"5.0": v5, "3.1.1": v3} {
		t.Run(version, func(t *testing.T) {
			k := &kit{box: newBox(t), v: v, t: t}
			ends := make(chan error, 1)
			webSockets(func(k *kit, address string) {
				k.endings(address)
				last := k.mqttSocket(address)
				go func() { // as the bridge closes
					for {
						if _, _, err := last.Read(t.Context()); err != nil {
							ends <- err
							return
						}
					}
				}()
			})(k)
			if got := websocket.CloseStatus(<-ends); got != websocket.StatusGoingAway {
				t.Errorf("the shutdown: the socket ends with %v", got)
			}
		})
	}
}

// endings has sockets end in every way but the shutdown.
func (k *kit) endings(address string) {
	disconnect := (&packet.Disconnect{Type: packet.TypeDisconnect}).Append(nil, k.v)
	for name, end := range map[string]struct {
		typ  websocket.MessageType
		sent []byte
		want websocket.StatusCode
	}{
		"DISCONNECT":                {websocket.MessageBinary, disconnect, websocket.StatusNormalClosure},
		"a second CONNECT":          {websocket.MessageBinary, k.connectPacket("c"), websocket.StatusProtocolError},
		"a packet of no type":       {websocket.MessageBinary, []byte{0, 0}, websocket.StatusProtocolError},
		"a text frame":              {websocket.MessageText, packet.AppendPing(nil, packet.TypePingreq), websocket.StatusUnsupportedData},
		"a packet that is too long": {websocket.MessageBinary, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, websocket.StatusMessageTooBig},
	} {
		c := k.mqttSocket(address)
		k.write(c, end.typ, end.sent)
		k.closed(c, name, end.want)
	}
	old := k.mqttSocket(address)
	k.mqttSocket(address) // takes over, though the old one has not answered
	k.closed(old, "another connection of the client", websocket.StatusPolicyViolation)
}

// mqttSocket is a socket whose client c is in.
func (k *kit) mqttSocket(address string) *websocket.Conn {
	k.t.Helper()
	c := k.socket(address, "mqtt")
	k.write(c, websocket.MessageBinary, k.connectPacket("c"))
	k.read(c) // CONNACK
	return c
}

// closed reads until the server has closed the socket, and expects its close frame.
func (k *kit) closed(c *websocket.Conn, why string, want websocket.StatusCode) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			if got := websocket.CloseStatus(err); got != want {
				k.t.Errorf("%s: the socket ends with %v (%v), want %v", why, got, err, want)
			}
			return
		}
	}
}
