package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/weirmq/weir/bridge/mqtt"
)

// Listener is a place where devices connect.
type Listener struct {
	// Addr is HOST:PORT, where port 0 picks one, or the path of a Unix socket.
	Addr string
	// Unix says that Addr is a path. Who may connect is what the folder's permissions
	// and the socket's, 0660, say.
	Unix bool
	// WebSocket has devices speak MQTT in binary frames [MQTT-6.0.0-1].
	WebSocket bool
	TLS       *tls.Config // nil: in clear text
	// MQTT is what it asks of devices and allows them.
	MQTT mqtt.Listener
}

// Limits that no option changes.
const (
	// maxHandshakes bounds the connections of one listener that have not said yet what
	// stands before MQTT: a PROXY header, or the request for a WebSocket. More wait.
	maxHandshakes = 1024
	// maxHandshakesPerIP bounds those of one address that want a WebSocket, loopback
	// excepted, so that one device cannot keep all others waiting. More are closed.
	maxHandshakesPerIP = 64
	// socketMode is a Unix socket's permissions.
	socketMode = 0o660
)

func bind(listeners []Listener) (bound []net.Listener, err error) {
	if len(listeners) == 0 {
		return nil, errors.New("bridge: there is no address to listen on")
	}
	for _, want := range listeners {
		l, err := want.listen()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bridge: listen for MQTT: %w", err), unbind(bound))
		}
		bound = append(bound, l)
	}
	return bound, nil
}

func (want Listener) listen() (net.Listener, error) {
	if !want.Unix {
		return net.Listen("tcp", want.Addr)
	}
	if err := clearSocket(want.Addr); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", want.Addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(want.Addr, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// clearSocket removes the socket that a process which was killed has left. What is no
// socket, or is still listened on, stays.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: choose another path", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: another program listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

func unbind(bound []net.Listener) error {
	var errs []error
	for _, l := range bound {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// serve accepts from every listener until the server is closed.
func (b *Bridge) serve(opts *Options) {
	for i, l := range b.bound {
		want := opts.Listeners[i]
		if scheme, ok := strings.CutSuffix(want.MQTT.Name, want.Addr); ok { // port 0 is no name
			want.MQTT.Name = scheme + l.Addr().String()
		}
		l = opts.dress(l, want)
		b.serving.Go(func() { b.server.ServeFor(l, want.MQTT) })
	}
}

// dress puts around a listener what stands between TCP and MQTT, in the order in which
// a connection says it: the PROXY header, TLS, WebSocket.
func (o *Options) dress(l net.Listener, want Listener) net.Listener {
	if len(o.ProxyFrom) > 0 && !want.Unix {
		l = newProxied(l, o.ProxyFrom, o.handshakeTimeout())
	}
	if want.TLS != nil {
		l = tls.NewListener(l, want.TLS)
	}
	if want.WebSocket {
		l = newWebSockets(l, o.Origins, o.handshakeTimeout())
	}
	return l
}

// handshakeTimeout is how long what stands before CONNECT may take.
func (o *Options) handshakeTimeout() time.Duration {
	if o.MQTT.ConnectTimeout > 0 {
		return o.MQTT.ConnectTimeout
	}
	return 10 * time.Second
}

func (b *Bridge) addrs() string {
	var all []string
	for _, l := range b.bound {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, ",")
}

// trusts reports whether an address is in one of the networks.
func trusts(networks []netip.Prefix, addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}
