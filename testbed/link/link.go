// Package link is a WAN in a box: a TCP proxy on loopback whose link can be
// delayed, throttled, frozen and cut while connections run over it.
package link

import (
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkBytes = 16 << 10
	// queueChunks bounds what is on the delayed line, per direction.
	queueChunks = 64
)

// Link forwards connections to one address.
type Link struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	to     string
	down   bool
	closed bool
	delay  time.Duration // one way
	rate   int           // bytes per second and direction; 0 is no limit
	frozen chan struct{} // closed when bytes may flow
	conns  map[net.Conn]struct{}
}

// New listens on a free loopback port and forwards to addr, which may be "" until Forward.
func New(addr string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{listener: l, to: addr, frozen: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(k.frozen)
	k.wg.Go(k.accept)
	return k, nil
}

// Addr is where the link listens.
func (k *Link) Addr() string { return k.listener.Addr().String() }

// Forward sets where new connections go.
func (k *Link) Forward(addr string) { k.set(func() { k.to = addr }) }

// Delay sets the time that bytes take one way.
func (k *Link) Delay(d time.Duration) { k.set(func() { k.delay = d }) }

// Rate limits each direction of each connection, in bytes per second; 0 lifts the limit.
func (k *Link) Rate(bytesPerSecond int) { k.set(func() { k.rate = bytesPerSecond }) }

// Cut resets all connections and refuses new ones until Restore.
func (k *Link) Cut() {
	k.set(func() {
		k.down = true
		k.resetAll()
	})
}

// Freeze swallows nothing but forwards nothing either, as a dead radio does, until Restore.
func (k *Link) Freeze() {
	k.set(func() {
		select {
		case <-k.frozen:
			k.frozen = make(chan struct{})
		default:
		}
	})
}

// Restore ends Cut and Freeze.
func (k *Link) Restore() {
	k.set(func() {
		k.down = false
		k.thaw()
	})
}

// Close ends the link and waits for its goroutines.
func (k *Link) Close() error {
	err := k.listener.Close()
	k.set(func() {
		k.closed = true
		k.thaw()
		k.resetAll()
	})
	k.wg.Wait()
	return err
}

func (k *Link) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *Link) thaw() {
	select {
	case <-k.frozen:
	default:
		close(k.frozen)
	}
}

func (k *Link) resetAll() {
	for c := range k.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0) // a reset, not an orderly end
		}
		c.Close()
	}
	clear(k.conns)
}

func (k *Link) accept() {
	for {
		in, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.serve(in) })
	}
}

// keep notes a connection so that it can be cut; false when the link is down.
func (k *Link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down || k.closed {
		c.Close()
		return false
	}
	k.conns[c] = struct{}{}
	return true
}

func (k *Link) drop(c net.Conn) {
	k.set(func() { delete(k.conns, c) })
	c.Close()
}

func (k *Link) serve(in net.Conn) {
	if !k.keep(in) {
		return
	}
	defer k.drop(in)
	k.mu.Lock()
	to := k.to
	k.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil || !k.keep(out) {
		return
	}
	defer k.drop(out)
	var both sync.WaitGroup
	both.Go(func() { k.forward(out, in) })
	both.Go(func() { k.forward(in, out) })
	both.Wait()
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// forward copies one direction. Reading and writing are apart so that a delay
// adds latency and does not cost throughput.
func (k *Link) forward(dst, src net.Conn) {
	line := make(chan chunk, queueChunks)
	var writer sync.WaitGroup
	writer.Go(func() {
		for c := range line {
			time.Sleep(time.Until(c.due))
			k.awaitThaw()
			if _, err := dst.Write(c.bytes); err != nil {
				src.Close()
			}
		}
		dst.Close()
	})
	for {
		buf := make([]byte, chunkBytes)
		n, err := src.Read(buf)
		if n > 0 {
			k.mu.Lock()
			delay, rate := k.delay, k.rate
			k.mu.Unlock()
			if rate > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
			}
			line <- chunk{buf[:n], time.Now().Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(line)
	writer.Wait()
}

func (k *Link) awaitThaw() {
	k.mu.Lock()
	frozen := k.frozen
	k.mu.Unlock()
	<-frozen
}

var _ io.Closer = (*Link)(nil)
