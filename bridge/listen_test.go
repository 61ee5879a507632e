package bridge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pires/go-proxyproto"
)

// echo serves the listener: what each connection says is sent back.
func echo(t *testing.T, o Options, want Listener) (addr net.Addr, conns chan net.Conn) {
	t.Helper()
	raw, err := want.listen()
	if err != nil {
		t.Fatal(err)
	}
	l := o.dress(raw, want)
	conns = make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		<-done
	})
	return raw.Addr(), conns
}

func say(t *testing.T, c io.ReadWriter, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q: %q, %v", text, got, err)
	}
}

func tcp() Listener { return Listener{Addr: "127.0.0.1:0"} }

// A trusted balancer says whose connection it is, and must; nobody else is believed.
func TestProxyHeader(t *testing.T) {
	trusted := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	device := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 4444}
	for _, version := range []byte{1, 2} {
		addr, conns := echo(t, trusted, tcp())
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := proxyproto.HeaderProxyFromAddrs(version, device, addr).WriteTo(c); err != nil {
			t.Fatal(err)
		}
		say(t, c, "after the header")
		if got := (<-conns).RemoteAddr().String(); got != device.String() {
			t.Errorf("version %d: the connection is of %s, want %s", version, got, device)
		}
	}
	addr, _ := echo(t, trusted, tcp())
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00 no header"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a connection without a header got %d bytes", n)
	}
	// From elsewhere a header is not one, but what the client says.
	addr, conns := echo(t, Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, tcp())
	stranger, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	say(t, stranger, "PROXY TCP4 10.1.2.3 10.1.2.4 1 2\r\n")
	if got := (<-conns).RemoteAddr().String(); got != stranger.LocalAddr().String() {
		t.Errorf("a stranger is taken for %s", got)
	}
}

// A balancer that says nothing holds up nobody else, and is let go after a while.
func TestProxyThatSaysNothing(t *testing.T) {
	o := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	o.MQTT.ConnectTimeout = 50 * time.Millisecond
	addr, conns := echo(t, o, tcp())
	silent, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := proxyproto.HeaderProxyFromAddrs(2, addr, addr).WriteTo(c); err != nil {
		t.Fatal(err)
	}
	say(t, c, "hello")
	<-conns
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that says nothing is kept")
	}
}

func TestWebSocket(t *testing.T) {
	addr, conns := echo(t, Options{Origins: []string{"*.example.com"}}, Listener{Addr: "127.0.0.1:0", WebSocket: true})
	dial := func(origin string, protocols ...string) (*websocket.Conn, error) {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		c, _, err := websocket.Dial(t.Context(), "ws://"+addr.String()+"/mqtt", &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: h})
		return c, err
	}
	for _, origin := range []string{"", "http://" + addr.String(), "https://app.example.com"} {
		c, err := dial(origin, "mqtt")
		if err != nil {
			t.Fatalf("origin %q: %v", origin, err)
		}
		say(t, websocket.NetConn(context.Background(), c, websocket.MessageBinary), strings.Repeat("x", 100_000))
		got := <-conns
		if host, _, _ := net.SplitHostPort(got.RemoteAddr().String()); host != "127.0.0.1" || got.LocalAddr().String() != addr.String() {
			t.Errorf("a WebSocket from %s to %s", got.RemoteAddr(), got.LocalAddr())
		}
		c.CloseNow()
	}
	if c, err := dial("https://evil.example.org", "mqtt"); err == nil {
		c.CloseNow()
		t.Error("a page of another site may connect")
	}
	// [MQTT-6.0.0-3]: the client must ask for the subprotocol.
	c, err := dial("", "chat")
	if err == nil {
		_, _, err = c.Read(t.Context())
		c.CloseNow()
	}
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("without the subprotocol mqtt: %v", err)
	}
	// [MQTT-6.0.0-1]: a text frame closes the connection.
	if c, err = dial("", "mqtt"); err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(t.Context()); err == nil {
		t.Errorf("a text frame was answered with %q", b)
	}
}

// A request that does not end, or is none, is let go.
func TestWebSocketRequestThatDoesNotEnd(t *testing.T) {
	var o Options
	o.MQTT.ConnectTimeout = 50 * time.Millisecond
	addr, _ := echo(t, o, Listener{Addr: "127.0.0.1:0", WebSocket: true})
	for _, text := range []string{"GET /mqtt HTTP/1.1\r\nHost: x\r\n", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", ""} {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, bufio.NewReader(c)); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

// One address with many connections that ask for nothing keeps nobody else waiting.
func TestWebSocketRequestsThatNeverCome(t *testing.T) {
	o := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	o.MQTT.ConnectTimeout = time.Hour // it is not time that ends them
	addr, _ := echo(t, o, Listener{Addr: "127.0.0.1:0", WebSocket: true})
	from := func(ip string) net.Conn {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, addr).WriteTo(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var greedy []net.Conn
	for range 3 * maxHandshakesPerIP {
		greedy = append(greedy, from("10.0.0.9"))
	}
	closed := make(chan struct{}, len(greedy))
	for _, c := range greedy {
		go func() {
			if n, err := c.Read(make([]byte, 1)); n == 0 && err != nil {
				closed <- struct{}{}
			}
		}()
	}
	for range 2 * maxHandshakesPerIP {
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			t.Fatal("one address may have any number of connections that ask for nothing")
		}
	}
	polite := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return from("10.0.0.1"), nil }}}
	c, _, err := websocket.Dial(t.Context(), "ws://"+addr.String(), &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: polite})
	if err != nil {
		t.Fatal(err)
	}
	say(t, websocket.NetConn(context.Background(), c, websocket.MessageBinary), "hello")
	c.CloseNow()
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	want := Listener{Addr: filepath.Join(dir, "mqtt.sock"), Unix: true}
	// One that a killed process left is replaced, one in use and a file are not.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: want.Addr, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := want.listen(); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a socket in use: %v", err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	addr, _ := echo(t, Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, want)
	c, err := net.Dial("unix", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "hello")
	if info, err := os.Stat(want.Addr); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	file := filepath.Join(dir, "data")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Listener{Addr: file, Unix: true}).listen(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
}
