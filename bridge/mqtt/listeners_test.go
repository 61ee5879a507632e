package mqtt_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pires/go-proxyproto"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// entrance is one kind of listener over real sockets, and how a client comes in.
type entrance struct {
	*box
	t       *testing.T
	kind    string
	address string
	bridge  *bridge.Bridge
	trust   *tls.Config
}

// half is what a client says that stops in the middle of what stands before CONNECT.
var half = map[string]string{
	"tcp":   "\x10\x0c\x00\x04MQTT",
	"tls":   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // the head of a ClientHello of 512 bytes
	"ws":    "GET /mqtt HTTP/1.1\r\nHost: box\r\n",
	"wss":   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"proxy": "\r\n\r\n\x00\r\nQUIT\n\x21\x11",
}

// entrances runs a test for every kind of listener.
func entrances(t *testing.T, set func(*mqtt.Options), run func(*entrance)) {
	serve, trust := testIdentity(t)
	for _, kind := range []string{"tcp", "tls", "ws", "wss", "proxy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			e := &entrance{box: newBox(t), t: t, kind: kind, trust: trust}
			set(&e.opts)
			e.openLog()
			o := bridge.Options{MQTT: e.opts}
			l := bridge.Listener{Addr: "127.0.0.1:0", WebSocket: strings.HasPrefix(kind, "ws"), MQTT: mqtt.Listener{Name: kind + "://127.0.0.1:0", Takes: mqtt.AnyKind}}
			if kind == "tls" || kind == "wss" {
				l.TLS = serve
			}
			if kind == "proxy" {
				o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
			o.Listeners = []bridge.Listener{l}
			b, err := bridge.Start(o, weirLog{e.set})
			if err != nil {
				t.Fatal(err)
			}
			e.bridge, e.address = b, b.Addr().String()
			defer func() {
				if err := errors.Join(b.Close(), e.set.Close()); err != nil {
					t.Error(err)
				}
			}()
			run(e)
		})
	}
}

// dial comes in from an address that a balancer names, or from this machine. Of a
// small one the kernel holds little that it does not read.
func (e *entrance) dial(from string, small bool) net.Conn {
	e.t.Helper()
	reach := dialTCP
	if small {
		reach = dialSmall
	}
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	if e.kind == "ws" || e.kind == "wss" {
		c, _, err := websocket.Dial(ctx, e.kind+"://"+e.address, &websocket.DialOptions{Subprotocols: []string{"mqtt"},
			HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: e.trust.Clone(), DialContext: reach}}})
		if err != nil {
			e.t.Fatal(err)
		}
		c.SetReadLimit(-1)
		return websocket.NetConn(context.Background(), c, websocket.MessageBinary)
	}
	nc, err := reach(ctx, "tcp", e.address)
	if err != nil {
		e.t.Fatal(err)
	}
	switch e.kind {
	case "tls":
		return tls.Client(nc, e.trust)
	case "proxy":
		src := &net.TCPAddr{IP: net.ParseIP(from), Port: 1}
		if _, err := proxyproto.HeaderProxyFromAddrs(2, src, nc.RemoteAddr()).WriteTo(nc); err != nil {
			e.t.Fatal(err)
		}
	}
	return nc
}

func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func dialSmall(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := dialTCP(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return nc, nc.(*net.TCPConn).SetReadBuffer(16 << 10)
}

// over makes a client of a connection; a deaf one never reads.
func (e *entrance) over(nc net.Conn, deaf bool) *client {
	c := &client{t: e.t, v: v5, nc: nc}
	c.has.L = &c.mu
	if !deaf {
		go c.receive()
	}
	return c
}

// honest is a client that is let in.
func (e *entrance) honest(id string, change ...func(*packet.Connect)) *client {
	e.t.Helper()
	c := e.over(e.dial("10.0.0.1", false), false)
	p := packet.Connect{Version: v5, ClientID: []byte(id), CleanStart: true}
	for _, f := range change {
		f(&p)
	}
	c.send(p.Append(nil))
	if got := c.next(); !strings.HasPrefix(got, "CONNACK 00") {
		e.t.Fatal(got)
	}
	return c
}

// connections waits until there are so many.
func (e *entrance) connections(want int) {
	e.t.Helper()
	for end := time.Now().Add(patience); e.bridge.Status().Connections != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("%d connections, want %d", e.bridge.Status().Connections, want)
		}
	}
}

// testIdentity is a server's certificate for 127.0.0.1 and a client that trusts it.
func testIdentity(t *testing.T) (serve, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// A client that stops in the middle of its first words, of TLS, of the request for a
// WebSocket or of the PROXY header among them, is let go in time and holds up nobody.
func TestHalfWords(t *testing.T) {
	entrances(t, func(o *mqtt.Options) { o.ConnectTimeout = 300 * time.Millisecond }, func(e *entrance) {
		var open []net.Conn
		for _, text := range []string{"", half[e.kind]} {
			for range 20 {
				nc, err := net.Dial("tcp", e.address)
				if err != nil {
					e.t.Fatal(err)
				}
				defer nc.Close()
				if _, err := io.WriteString(nc, text); err != nil {
					e.t.Fatal(err)
				}
				open = append(open, nc)
			}
		}
		c := e.honest("honest")
		c.send(publish(v5, 1, "t", "x"))
		c.expect("PUBACK #1")
		for _, nc := range open {
			nc.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, nc); errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
				e.t.Fatalf("a client that says half of what it should is kept: %v", err)
			}
		}
		e.connections(1)
		c.quiet()
	})
}

// A client that has vanished without a word, as one does whose power fails, is given up
// after its keep alive.
func TestVanishedClients(t *testing.T) {
	entrances(t, func(*mqtt.Options) {}, func(e *entrance) {
		c := e.honest("gone", func(p *packet.Connect) { p.KeepAlive = 1 })
		stays := e.honest("stays")
		c.expect("DISCONNECT 8d", "closed")
		e.connections(1)
		stays.quiet()
		w := new(metric.Writer)
		e.bridge.Metrics(w)
		if want := fmt.Sprintf("weir_mqtt_listener_connections{listener=\"%s://%s\"} 1", e.kind, e.address); !strings.Contains(string(w.Bytes()), want) {
			e.t.Errorf("the metrics lack %s", want)
		}
	})
}

// A subscriber that does not read costs what max_outgoing says and is cut off; nobody
// waits for it, and when it comes again it misses nothing.
func TestDeafSubscribers(t *testing.T) {
	const messages = 160
	payload := strings.Repeat("x", 64<<10)
	entrances(t, func(o *mqtt.Options) { o.WriteTimeout = 300 * time.Millisecond }, func(e *entrance) {
		deaf := e.over(e.dial("10.0.0.2", true), true)
		p := packet.Connect{Version: v5, ClientID: []byte("deaf")}
		keep(&p)
		deaf.send(p.Append(nil), subscribe(v5, 1, "t"))
		reader := e.honest("reader")
		reader.send(subscribe(v5, 1, "t"))
		reader.expect("SUBACK #1 01")
		for end := time.Now().Add(patience); e.bridge.Status().Subscriptions < 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				e.t.Fatal("the subscription does not count")
			}
		}
		sender := e.honest("sender")
		for i := range messages {
			sender.send(publish(v5, uint16(i+1), "t", fmt.Sprint(i, " ", payload)))
			sender.expect(fmt.Sprintf("PUBACK #%d", i+1))
			e.takes(reader, i)
		}
		e.connections(2) // reader and sender
		deaf.nc.Close()
		back := e.honest("deaf", func(p *packet.Connect) { keep(p) })
		for i := range messages {
			e.takes(back, i)
		}
	})
}

// takes expects message i and acknowledges it.
func (e *entrance) takes(c *client, i int) {
	e.t.Helper()
	got := c.next()
	text, rest, _ := strings.Cut(got, " ")
	var number int
	if _, err := fmt.Sscanf(rest, "t=%d ", &number); err != nil || text != "PUBLISH" || number != i {
		e.t.Fatalf("message %d: %.40s", i, got)
	}
	at := strings.LastIndex(strings.TrimSuffix(got, " dup"), "#")
	var id uint16
	if _, err := fmt.Sscanf(got[at:], "#%d", &id); err != nil {
		e.t.Fatalf("message %d: %s", i, got[at:])
	}
	c.send(puback(id))
}

// Limits per address go by the address that the balancer names.
func TestLimitsBehindABalancer(t *testing.T) {
	entrances(t, func(o *mqtt.Options) { o.MaxConnectionsPerIP = 1 }, func(e *entrance) {
		if e.kind != "proxy" {
			e.t.Skip("without a balancer all come from loopback, which has no limit")
		}
		e.honest("first")
		second := e.dial("10.0.0.1", false)
		second.SetReadDeadline(time.Now().Add(patience))
		var out bytes.Buffer
		if _, err := io.Copy(&out, second); err != nil && !strings.Contains(err.Error(), "reset") || out.Len() > 0 {
			e.t.Errorf("a second device of one address: %v, %x", err, out.Bytes())
		}
		e.over(e.dial("10.0.0.2", true), false).enter("other")
	})
}
