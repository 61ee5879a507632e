package bridge

import (
	"net"
	"sync"
)

// handshaken is a listener whose connections have something to say before they are
// handed on. Each says it on a goroutine of its own, so that one that is slow holds
// nobody up.
type handshaken struct {
	net.Listener
	ready  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandshaken(l net.Listener) *handshaken {
	return &handshaken{Listener: l, ready: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection that is ready.
func (h *handshaken) Accept() (net.Conn, error) {
	select {
	case c := <-h.ready:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener and what waits to be accepted.
func (h *handshaken) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

// offer hands a connection on; after Close it is closed.
func (h *handshaken) offer(c net.Conn) {
	select {
	case h.ready <- c:
	case <-h.closed:
		c.Close()
	}
}
