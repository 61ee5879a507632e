package bridge

import (
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxied is a listener behind load balancers that put a header of the PROXY protocol,
// version 1 or 2, before each connection: it tells whose connection it is, for limits,
// access rules and logs. It is taken from the networks trusted alone, and there it must
// be: anybody else could write what he likes in it.
type proxied struct {
	*handshaken
	trusted []netip.Prefix
	timeout time.Duration
	slots   chan struct{}
}

func newProxied(l net.Listener, trusted []netip.Prefix, timeout time.Duration) net.Listener {
	p := &proxied{handshaken: newHandshaken(l), trusted: trusted, timeout: timeout, slots: make(chan struct{}, maxHandshakes)}
	go p.run()
	return p
}

// run accepts until the listener is closed.
func (p *proxied) run() {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			select {
			case <-p.closed:
				return
			case <-time.After(acceptPause): // out of file descriptors, most likely: it passes
				continue
			}
		}
		if !trusts(p.trusted, c.RemoteAddr()) {
			p.offer(c)
			continue
		}
		select {
		case p.slots <- struct{}{}:
		case <-p.closed:
			c.Close()
			return
		}
		go func() {
			defer func() { <-p.slots }()
			p.header(c)
		}()
	}
}

const acceptPause = 100 * time.Millisecond

// header reads the header and hands the connection on under its address.
func (p *proxied) header(c net.Conn) {
	pc := proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(p.timeout))
	if pc.ProxyHeader() == nil {
		c.Close()
		return
	}
	p.offer(pc)
}
