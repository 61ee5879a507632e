package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ClientAuth says whether clients show a certificate (ssl.client.auth).
type ClientAuth string

// What clients are asked for.
const (
	ClientAuthNone      ClientAuth = "none"
	ClientAuthRequested ClientAuth = "requested"
	ClientAuthRequired  ClientAuth = "required"
)

// TLSOptions name the files of a server's identity, all PEM.
type TLSOptions struct {
	Cert, Key  string // the server's certificate, with what leads to its authority, and key
	ClientCA   string // the authorities of client certificates; "": none are taken
	ClientAuth ClientAuth
	Log        *slog.Logger // nil: discard
}

// Certificates are a server's TLS identity. The files are looked at again while
// connections come in: who replaces them need not restart anything. Connections
// that are open stay as they are.
type Certificates struct {
	o TLSOptions

	mu      sync.Mutex
	looked  time.Time
	stamps  [3]stamp
	current map[ClientAuth]*tls.Config
	failed  string // the last failure, which is logged once
}

// stamp tells a file from what it was.
type stamp struct {
	size     int64
	modified time.Time
}

// lookInterval is how often the files are looked at, at most.
const lookInterval = time.Second

// LoadCertificates reads the files.
func LoadCertificates(o TLSOptions) (*Certificates, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ClientAuth == "" {
		o.ClientAuth = ClientAuthNone
	}
	c := &Certificates{o: o, looked: time.Now(), stamps: o.stamps()}
	var err error
	c.current, err = o.load()
	return c, err
}

func (o *TLSOptions) files() [3]string { return [3]string{o.Cert, o.Key, o.ClientCA} }

func (o *TLSOptions) stamps() (s [3]stamp) {
	for i, name := range o.files() {
		if st, err := os.Stat(name); err == nil {
			s[i] = stamp{st.Size(), st.ModTime()}
		}
	}
	return s
}

func (o *TLSOptions) load() (map[ClientAuth]*tls.Config, error) {
	if o.Cert == "" || o.Key == "" {
		return nil, errors.New("tls.cert and tls.key must both name a PEM file: weir init makes them")
	}
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", o.Cert, o.Key, err)
	}
	// Tickets would let a client in that the authorities of today do not know.
	base := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true}
	if o.ClientCA != "" {
		pem, err := os.ReadFile(o.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls: client.ca: %w", err)
		}
		base.ClientCAs = x509.NewCertPool()
		if !base.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: client.ca: %s has no certificate in PEM", o.ClientCA)
		}
	} else if o.ClientAuth != ClientAuthNone {
		return nil, fmt.Errorf("tls: client.auth %s needs client.ca, the authorities whose certificates are taken", o.ClientAuth)
	}
	out := map[ClientAuth]*tls.Config{}
	for auth, typ := range map[ClientAuth]tls.ClientAuthType{
		ClientAuthNone: tls.NoClientCert, ClientAuthRequested: tls.VerifyClientCertIfGiven, ClientAuthRequired: tls.RequireAndVerifyClientCert,
	} {
		out[auth] = base.Clone()
		out[auth].ClientAuth = typ
	}
	return out, nil
}

// Expires is when the server's certificate ends.
func (c *Certificates) Expires() time.Time {
	return c.look()[ClientAuthNone].Certificates[0].Leaf.NotAfter
}

// Server is the configuration of a listener, as client.auth says.
func (c *Certificates) Server(protocols ...string) *tls.Config {
	return c.server(c.o.ClientAuth, protocols)
}

// ServerFor is the configuration of a listener that asks for certificates on its own terms.
func (c *Certificates) ServerFor(auth ClientAuth) *tls.Config { return c.server(auth, nil) }

// Browsers is the configuration of a listener whose clients may lack a certificate
// although all others need one.
func (c *Certificates) Browsers(protocols ...string) *tls.Config {
	auth := c.o.ClientAuth
	if auth == ClientAuthRequired {
		auth = ClientAuthRequested
	}
	return c.server(auth, protocols)
}

func (c *Certificates) server(auth ClientAuth, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cfg := c.look()[auth]
			if len(protocols) > 0 {
				cfg = cfg.Clone()
				cfg.NextProtos = protocols
			}
			return cfg, nil
		},
	}
}

// look returns what the files say, or said when they last made sense.
func (c *Certificates) look() map[ClientAuth]*tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookInterval {
		c.looked = now
		c.refresh()
	}
	return c.current
}

// refresh takes in files that have changed. Certificate and key are two files: while
// only one is new they do not fit, and the next look will find both.
func (c *Certificates) refresh() {
	stamps := c.o.stamps()
	if stamps == c.stamps {
		return
	}
	next, err := c.o.load()
	if err != nil {
		if c.failed != err.Error() {
			c.failed = err.Error()
			c.o.Log.Error("tls: changed files cannot be used, the old ones stay in force", "error", err)
		}
		return
	}
	c.current, c.stamps, c.failed = next, stamps, ""
	c.o.Log.Info("tls: certificates read anew", "cert", c.o.Cert)
}
