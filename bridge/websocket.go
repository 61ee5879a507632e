package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

var _ mqtt.Parting = (*webSocket)(nil)

// maxRequestHeader bounds the request that asks for a WebSocket, in bytes.
const maxRequestHeader = 16 << 10

// webSockets is a listener whose connections are WebSockets that speak MQTT, at
// whatever path [MQTT-6.0.0-1] to [MQTT-6.0.0-4].
type webSockets struct {
	*handshaken
	server  *http.Server
	origins []string
	slots   chan struct{} // one token for each connection that is no WebSocket yet

	mu   sync.Mutex
	from map[string]int // of these, by address
}

func newWebSockets(l net.Listener, origins []string, timeout time.Duration) net.Listener {
	w := &webSockets{handshaken: newHandshaken(l), origins: origins, slots: make(chan struct{}, maxHandshakes), from: map[string]int{}}
	w.server = &http.Server{
		Handler: http.HandlerFunc(w.upgrade), ReadHeaderTimeout: timeout, ReadTimeout: timeout, IdleTimeout: timeout,
		MaxHeaderBytes: maxRequestHeader, ErrorLog: log.New(io.Discard, "", 0), ConnState: w.count,
		ConnContext:  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, rawConn{}, c) },
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone upgrades
	}
	go func() { _ = w.server.Serve(l) }() // until Close
	return w
}

// count holds up who accepts while too many connections have not asked yet, and ends
// those of an address that has more than its share of them.
func (w *webSockets) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if w.note(c, 1) > maxHandshakesPerIP {
			c.Close()
		}
		w.slots <- struct{}{} // their deadlines free them
	case http.StateHijacked, http.StateClosed:
		w.note(c, -1)
		<-w.slots
	}
}

// note counts the connections of an address; loopback is not counted.
func (w *webSockets) note(c net.Conn, more int) int {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || addr.IP.IsLoopback() {
		return 0
	}
	ip := string(addr.IP)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.from[ip] += more; w.from[ip] == 0 {
		delete(w.from, ip)
		return 0
	}
	return w.from[ip]
}

// Close ends the listener, and the connections that are no WebSockets yet.
func (w *webSockets) Close() error {
	err := w.handshaken.Close()
	_ = w.server.Close() // closes the listener once more
	return err
}

// protocols are what clients call MQTT here; the second is of MQTT 3.1's time.
var protocols = []string{"mqtt", "mqttv3.1"}

// upgrade makes a WebSocket of a request and hands it on. The connection is the
// acceptor's then.
func (w *webSockets) upgrade(out http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(out)
	_ = rc.SetReadDeadline(time.Time{}) // MQTT has its own; where there is no deadline there is none to lift
	c, err := websocket.Accept(out, r, &websocket.AcceptOptions{Subprotocols: protocols, OriginPatterns: w.origins, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	if c.Subprotocol() == "" { // [MQTT-6.0.0-3]
		c.Close(websocket.StatusPolicyViolation, "the subprotocol must be mqtt")
		return
	}
	c.SetReadLimit(-1) // a frame may hold any number of packets; they are read as they come
	raw, _ := r.Context().Value(rawConn{}).(net.Conn)
	w.offer(&webSocket{Conn: raw, socket: c, request: r})
}

// rawConn is the key of the connection beneath a request.
type rawConn struct{}

// webSocket is a WebSocket as a connection. Its deadlines are those of the connection
// beneath: a read that they end leaves the socket fit to be written, so that the client
// can still be told why it is over.
type webSocket struct {
	net.Conn // beneath
	socket   *websocket.Conn
	request  *http.Request
	frame    io.Reader // what is left of the message at hand; nil: the next one is due
	text     bool      // the client has sent a frame that is not binary
}

// Read reads what binary frames hold; packets and frames are not aligned [MQTT-6.0.0-2].
func (c *webSocket) Read(p []byte) (int, error) {
	for {
		if c.frame == nil {
			typ, r, err := c.socket.Reader(context.Background())
			if err != nil {
				return 0, ended(err)
			}
			if typ != websocket.MessageBinary { // [MQTT-6.0.0-1]
				c.text = true
				return 0, &packet.Error{Reason: packet.ProtocolError, Clause: "MQTT-6.0.0-1", Text: "a text frame: MQTT takes binary ones; have the client send its packets as binary data"}
			}
			c.frame = r
		}
		n, err := c.frame.Read(p)
		if errors.Is(err, io.EOF) {
			c.frame, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// ended makes io.EOF of a client's farewell.
func ended(err error) error {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway:
		return io.EOF
	}
	return err
}

// Write writes one binary frame.
func (c *webSocket) Write(p []byte) (int, error) {
	if err := c.socket.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the connection at once, without a word: the client is gone, does not read,
// or is one of too many.
func (c *webSocket) Close() error { return c.socket.CloseNow() }

// Part implements mqtt.Parting: the close frame goes out, and the client has until then to
// take it and to answer with its own (RFC 6455, 7.1).
func (c *webSocket) Part(reason packet.Reason, within time.Duration) {
	_ = c.Conn.SetDeadline(time.Now().Add(within))
	code := closeCode(reason)
	if c.text {
		code, reason = websocket.StatusUnsupportedData, packet.ProtocolError
	}
	_ = c.socket.Close(code, reason.String()) // it is over in any case
}

// closeCode is what a WebSocket calls the reason of an end (RFC 6455, 7.4.1). What is
// neither a fault in the bytes nor of the server is policy.
func closeCode(reason packet.Reason) websocket.StatusCode {
	switch reason {
	case packet.Success:
		return websocket.StatusNormalClosure
	case packet.ServerShuttingDown, packet.UseAnotherServer:
		return websocket.StatusGoingAway
	case packet.MalformedPacket, packet.ProtocolError, packet.UnsupportedProtocolVersion, packet.TopicAliasInvalid,
		packet.TopicNameInvalid, packet.TopicFilterInvalid, packet.ReceiveMaximumExceeded, packet.PayloadFormatInvalid:
		return websocket.StatusProtocolError
	case packet.PacketTooLarge:
		return websocket.StatusMessageTooBig
	case packet.UnspecifiedError, packet.ImplementationSpecificError:
		return websocket.StatusInternalError
	case packet.ServerBusy, packet.ServerUnavailable:
		return websocket.StatusTryAgainLater
	}
	return websocket.StatusPolicyViolation
}

// RemoteAddr is the client's address.
func (c *webSocket) RemoteAddr() net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", c.request.RemoteAddr) // numbers: nothing is looked up
	if err != nil {
		return c.Conn.RemoteAddr()
	}
	return addr
}

// LocalAddr is the address that the client dialled.
func (c *webSocket) LocalAddr() net.Addr {
	if addr, ok := c.request.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return addr
	}
	return c.Conn.LocalAddr()
}

// TLSState is the state of the connection beneath; nil without TLS.
func (c *webSocket) TLSState() *tls.ConnectionState { return c.request.TLS }

// DeadlineEnds marks the connection as one that a read's deadline ends.
func (c *webSocket) DeadlineEnds() {}
