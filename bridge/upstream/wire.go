package upstream

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a connection as packets are written to it: paho holds the lock for one packet,
// which it writes in pieces. When the lock is let go they go out as one.
type wire struct {
	net.Conn
	r  *bufio.Reader
	mu sync.Mutex
	w  *bufio.Writer // guarded by mu

	failed atomic.Pointer[error] // what the connection ended by, when it ended on this side
}

func newWire(nc net.Conn) *wire {
	return &wire{Conn: nc, r: bufio.NewReader(nc), w: bufio.NewWriter(nc)}
}

func (w *wire) Read(p []byte) (int, error) { return w.r.Read(p) }

func (w *wire) Lock() {
	w.mu.Lock()
	_ = w.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
}

// Write is called with the lock held.
func (w *wire) Write(p []byte) (int, error) { return w.w.Write(p) }

// Unlock ends a packet. One that did not get out is the connection's end.
func (w *wire) Unlock() {
	if err := w.w.Flush(); err != nil {
		w.fail(fmt.Errorf("write: %w", err))
		w.Conn.Close()
	}
	w.mu.Unlock()
}

// fail notes what the connection ends by; the first counts.
func (w *wire) fail(err error) { w.failed.CompareAndSwap(nil, &err) }

// why is what the connection ended by: err, or what came before it.
func (w *wire) why(err error) error {
	if first := w.failed.Load(); first != nil {
		return *first
	}
	return err
}
