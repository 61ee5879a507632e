package mqtt_test

import (
	"bytes"
	"context"

	"github.com/coder/websocket"

	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// websocketCases are of MQTT in WebSockets (section 6), over real sockets.
var websocketCases = map[string]func(*kit){
	"websocket-binary": webSockets(func(k *kit, address string) {
		c := k.socket(address, "mqtt")
		k.write(c, websocket.MessageBinary, k.connectPacket("c"))
		typ, _ := k.read(c) // CONNACK
		if typ != websocket.MessageBinary {
			k.t.Errorf("the server sends frames of type %v", typ)
		}
		k.write(c, websocket.MessageText, packet.AppendPing(nil, packet.TypePingreq))
		for {
			ctx, cancel := context.WithTimeout(k.t.Context(), patience)
			_, b, err := c.Read(ctx)
			cancel()
			if err != nil {
				break
			}
			if bytes.Contains(b, packet.AppendPing(nil, packet.TypePingresp)) {
				k.t.Error("a text frame is answered as MQTT")
			}
		}
	}),
	"websocket-frames": webSockets(func(k *kit, address string) {
		c := k.socket(address, "mqtt")
		for _, b := range append(k.connectPacket("c"), subscribe(k.v, 1, "t")...) { // packets over many frames
			k.write(c, websocket.MessageBinary, []byte{b})
		}
		var all []byte
		for i := range 50 {
			all = append(all, publish(k.v, uint16(i+1), "other", "x")...)
		}
		all = append(all, publish(k.v, 51, "t", "last")...)
		k.write(c, websocket.MessageBinary, all[:len(all)-3]) // many packets in a frame, and a part
		k.write(c, websocket.MessageBinary, nil)
		k.write(c, websocket.MessageBinary, all[len(all)-3:])
		nc := websocket.NetConn(k.t.Context(), c, websocket.MessageBinary)
		in := &client{t: k.t, v: k.v, nc: nc}
		in.has.L = &in.mu
		go in.receive()
		in.expect("CONNACK 00", "SUBACK #1 01")
		acks := map[string]bool{}
		for range 52 {
			acks[in.next()] = true
		}
		if len(acks) != 52 || !acks["PUBLISH t=last q1 #1"] || !acks["PUBACK #51"] {
			k.t.Errorf("%v", acks)
		}
		c.CloseNow()
	}),
	"websocket-subprotocol": webSockets(func(k *kit, address string) {
		for asked, want := range map[string]string{"mqtt": "mqtt", "chat": "", "": ""} {
			c := k.socket(address, asked)
			if got := c.Subprotocol(); got != want {
				k.t.Errorf("asked for %q the server answers %q", asked, got)
			}
			k.write(c, websocket.MessageBinary, k.connectPacket("c"))
			ctx, cancel := context.WithTimeout(k.t.Context(), patience)
			_, _, err := c.Read(ctx)
			cancel()
			if (err == nil) != (want != "") {
				k.t.Errorf("asked for %q: %v", asked, err)
			}
			c.CloseNow()
		}
	}),
}

// webSockets runs a case against a bridge that listens for WebSockets.
func webSockets(run func(k *kit, address string)) func(*kit) {
	return func(k *kit) {
		k.openLog()
		b, err := bridge.Start(bridge.Options{Listeners: []bridge.Listener{{Addr: "127.0.0.1:0", WebSocket: true, MQTT: mqtt.Listener{Takes: mqtt.AnyKind}}}, MQTT: k.opts}, weirLog{k.set})
		if err != nil {
			k.t.Fatal(err)
		}
		defer func() {
			if err := b.Close(); err != nil {
				k.t.Error(err)
			}
			if err := k.set.Close(); err != nil {
				k.t.Error(err)
			}
		}()
		run(k, b.Addr().String())
	}
}

func (k *kit) connectPacket(id string) []byte {
	return (&packet.Connect{Version: k.v, ClientID: []byte(id), CleanStart: true}).Append(nil)
}

func (k *kit) socket(address, protocol string) *websocket.Conn {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	o := &websocket.DialOptions{}
	if protocol != "" {
		o.Subprotocols = []string{protocol}
	}
	c, _, err := websocket.Dial(ctx, "ws://"+address+"/mqtt", o)
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *kit) write(c *websocket.Conn, typ websocket.MessageType, b []byte) {
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	_ = c.Write(ctx, typ, b) // the end shows at the next read
}

func (k *kit) read(c *websocket.Conn) (websocket.MessageType, []byte) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	typ, b, err := c.Read(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	return typ, b
}
