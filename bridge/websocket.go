package bridge

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// maxRequestHeader bounds the request that asks for a WebSocket, in bytes.
const maxRequestHeader = 16 << 10

// webSockets is a listener whose connections are WebSockets that speak MQTT, at
// whatever path [MQTT-6.0.0-1] to [MQTT-6.0.0-4].
type webSockets struct {
	*handshaken
	server  *http.Server
	origins []string
	slots   chan struct{} // one token for each connection that is no WebSocket yet
}

func newWebSockets(l net.Listener, origins []string, timeout time.Duration) net.Listener {
	w := &webSockets{handshaken: newHandshaken(l), origins: origins, slots: make(chan struct{}, maxHandshakes)}
	w.server = &http.Server{
		Handler: http.HandlerFunc(w.upgrade), ReadHeaderTimeout: timeout, ReadTimeout: timeout, IdleTimeout: timeout,
		MaxHeaderBytes: maxRequestHeader, ErrorLog: log.New(io.Discard, "", 0), ConnState: w.count,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone upgrades
	}
	go func() { _ = w.server.Serve(l) }() // until Close
	return w
}

// count holds up who accepts while too many connections have not asked yet.
func (w *webSockets) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		w.slots <- struct{}{} // their deadlines free them
	case http.StateHijacked, http.StateClosed:
		<-w.slots
	}
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
	ctx, cancel := context.WithCancel(context.Background())
	w.offer(&webSocket{Conn: websocket.NetConn(ctx, c, websocket.MessageBinary), cancel: cancel, request: r})
}

// webSocket is a WebSocket as a connection.
type webSocket struct {
	net.Conn
	cancel  context.CancelFunc
	request *http.Request
}

// Close ends the connection at once: a client that does not answer to the closing
// handshake holds nobody up.
func (c *webSocket) Close() error {
	c.cancel()
	return c.Conn.Close()
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
