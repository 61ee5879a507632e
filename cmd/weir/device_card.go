package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/console"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// card is what a device needs.
type card struct {
	Device      string   `json:"device"`
	URLs        []string `json:"urls"`
	ClientID    string   `json:"client_id"`
	User        string   `json:"user,omitempty"`
	Password    string   `json:"password,omitempty"`
	Certificate string   `json:"certificate,omitempty"` // files
	Key         string   `json:"key,omitempty"`
	CA          string   `json:"ca,omitempty"`
	Fingerprint string   `json:"ca_sha256,omitempty"` // of the authority's certificate, in hex
	Publish     []string `json:"publish"`
	Subscribe   []string `json:"subscribe"`
	URI         string   `json:"uri"` // of what fits into a QR code

	principal         string
	certText, keyText []byte
	warnings          []string
	replace           bool
}

// prepare finds out what a device needs and makes its certificate; nothing is changed yet.
func (f *identityFlags) prepare(s *session, from deviceFlags, name string) (*card, error) {
	cfg, bound, err := from.running(s)
	if err != nil {
		return nil, err
	}
	props, err := from.properties()
	if err != nil {
		return nil, err
	}
	made := &card{Device: name, principal: principalOf(name), replace: f.replace, ClientID: strings.NewReplacer(firmwareconfig.UserVariable, name, "*", "1").Replace(cfg.MQTT.ClientID)}
	if cfg.MQTT.ClientID == "*" {
		made.ClientID = name
	}
	if made.CA = props["ssl.ca.location"]; made.CA != "" {
		if made.Fingerprint, err = fingerprint(made.CA); err != nil {
			return nil, failf(exitUsage, "ssl.ca.location: %w", err)
		}
	}
	kind := firmwareconfig.ByUser
	if f.Certificate {
		kind = firmwareconfig.ByCertificate
	}
	if err := f.addresses(made, &cfg, bound, kind, from.http().base()); err != nil {
		return nil, err
	}
	if !f.Certificate {
		made.User, made.Password = name, rand.Text()
		return made, nil
	}
	return made, f.certify(made, &cfg)
}

// running asks the appliance for its configuration and where it listens for MQTT.
func (f deviceFlags) running(s *session) (cfg firmwareconfig.Config, bound []string, err error) {
	var text []byte
	if err := f.http().call(s.ctx, "GET", "/v1/config", nil, &text); err != nil {
		return cfg, nil, err
	}
	if cfg, err = firmwareconfig.Shown(text); err != nil {
		return cfg, nil, failf(exitFailed, "the configuration of %s: %w", f.http().base(), err)
	}
	var st console.Status
	if err := f.http().call(s.ctx, "GET", "/v1/status", nil, &st); err != nil {
		return cfg, nil, err
	}
	return cfg, strings.Split(st.Addresses["mqtt"], ","), nil
}

// addresses are the URLs of the listeners that take the kind, those that encrypt first,
// and those of this machine alone only where there are no others.
func (f *identityFlags) addresses(made *card, cfg *firmwareconfig.Config, bound []string, kind, base string) error {
	var encrypted, open, local []string
	for i, l := range cfg.MQTTListeners() {
		if l.Unix() || i >= len(bound) || !slices.Contains(cfg.Takes(l), kind) {
			continue
		}
		host, port, err := net.SplitHostPort(bound[i])
		if err != nil {
			continue
		}
		address := l.Scheme + "://" + net.JoinHostPort(f.hostFor(host, base), port)
		switch {
		case firmwareconfig.IsLoopback(bound[i]):
			local = append(local, address)
		case l.Encrypts():
			encrypted = append(encrypted, address)
		default:
			open = append(open, address)
		}
	}
	made.URLs = slices.Concat(encrypted, open)
	if len(made.URLs) == 0 {
		slices.SortStableFunc(local, func(a, b string) int { return strings.Compare(clearLast(a), clearLast(b)) })
		made.URLs = local
		made.warnings = append(made.warnings, "the box takes MQTT from this machine alone: see mqtt.listen")
	}
	if len(made.URLs) == 0 {
		return failf(exitFailed, "no listener of the box takes %s: see mqtt.listen and its auth", kind)
	}
	first, err := url.Parse(made.URLs[0])
	if err != nil {
		return err
	}
	if !secure(first) {
		made.CA, made.Fingerprint = "", ""
		if f.Certificate {
			return failf(exitFailed, "%s has no TLS, so there are no certificates", made.URLs[0])
		}
		made.warnings = append(made.warnings, "the password goes over "+made.URLs[0]+" in clear text")
		return nil
	}
	if err := trusted(first, made.CA, base); err != nil {
		made.warnings = append(made.warnings, fmt.Sprintf("a device will not trust %s: %v; see --host, and weir cert server --host", made.URLs[0], err))
	}
	return nil
}

func clearLast(address string) string {
	if u, err := url.Parse(address); err == nil && secure(u) {
		return "0"
	}
	return "1"
}

func secure(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" }

// hostFor is the name for a host that is listened on: where it is every one, the one
// given, the one of --http, or this machine's.
func (f *identityFlags) hostFor(host, base string) string {
	ip := net.ParseIP(host)
	if f.Host != "" {
		return f.Host
	}
	if ip != nil && !ip.IsUnspecified() {
		return host
	}
	if u, err := url.Parse(base); err == nil && !firmwareconfig.IsLoopback(net.JoinHostPort(u.Hostname(), "1")) {
		return u.Hostname()
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

// trusted connects as the device will, and looks at the certificate.
func trusted(u *url.URL, ca, base string) error {
	cfg, err := properties{"ssl.ca.location": ca}.tls()
	if err != nil {
		return err
	}
	cfg.ServerName = u.Hostname()
	host := u.Hostname()
	if b, err := url.Parse(base); err == nil && net.ParseIP(host) == nil {
		host = b.Hostname() // the device's name for the box may mean nothing here
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: connectTimeout}, "tcp", net.JoinHostPort(host, u.Port()), cfg)
	var untrusted *tls.CertificateVerificationError
	switch {
	case err == nil:
		return c.Close()
	case errors.As(err, &untrusted):
		return untrusted.Err
	}
	return nil // not to be reached from here says nothing
}

// certify makes the certificate, whose bearer is the device.
func (f *identityFlags) certify(made *card, cfg *firmwareconfig.Config) error {
	dir := f.PKI
	if dir == "" && made.CA != "" {
		dir = filepath.Dir(made.CA)
	}
	if dir == "" {
		return failf(exitUsage, "name the folder of the authority with --pki DIR")
	}
	rules, err := nameRules(cfg)
	if err != nil {
		return err
	}
	made.Certificate, made.Key = filepath.Join(dir, made.Device+".crt"), filepath.Join(dir, made.Device+".key")
	if err := f.clear(made.Certificate, made.Key); err != nil {
		return err
	}
	made.certText, made.keyText, made.principal, err = f.issue(dir, made.Device, rules)
	if want := string(auth.UserPrincipal(made.Device)); err == nil && made.principal != want {
		return failf(exitFailed, "tls.principal.mapping.rules make %s of the certificate, not %s: add the rule RULE:^CN=([^,+]+).*$/$1/", made.principal, want)
	}
	return err
}

// finish makes the secret count, and shows the card.
func (made *card) finish(s *session, cl *kgo.Client, done, qr string) error {
	if made.Certificate != "" {
		if err := errors.Join(replaceSecret(made.Key, made.keyText), replaceSecret(made.Certificate, made.certText), os.Chmod(made.Certificate, 0o644)); err != nil {
			return fmt.Errorf("write the certificate: %w", err)
		}
	} else if err := storePassword(s.ctx, kadm.NewClient(cl), made.User, made.Password, auth.DefaultIterations); err != nil {
		return err
	}
	made.URI = made.uri()
	err := s.show(made, func(w io.Writer) { made.print(w, done) })
	if err != nil || s.json || qr == "never" || qr == "auto" && !isTerminal(s.out) {
		return err
	}
	return printQR(s.out, made.URI)
}

// may says what the rules come to for this device.
func (made *card) may(publish, subscribe []string) {
	names := strings.NewReplacer("%u", made.Device, "%c", made.ClientID)
	for _, filter := range publish {
		made.Publish = append(made.Publish, names.Replace(filter))
	}
	for _, filter := range subscribe {
		made.Subscribe = append(made.Subscribe, names.Replace(filter))
	}
}

// uri is the card in one line: mqtts://USER:PASSWORD@HOST:PORT?client_id=...&ca_sha256=...
func (made *card) uri() string {
	u, err := url.Parse(made.URLs[0])
	if err != nil {
		return ""
	}
	if made.User != "" {
		u.User = url.UserPassword(made.User, made.Password)
	}
	q := url.Values{"client_id": {made.ClientID}}
	if made.Fingerprint != "" {
		q.Set("ca_sha256", made.Fingerprint)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (made *card) print(w io.Writer, done string) {
	line := func(what, text, more string) {
		if text != "" {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-14s %s%s", what, text, more), " "))
		}
	}
	fmt.Fprintf(w, "device %s %s\n\n", made.Device, done)
	for _, u := range made.URLs {
		line("url", u, "")
	}
	line("client id", made.ClientID, "")
	line("user", made.User, "")
	line("password", made.Password, "   (shown once)")
	line("certificate", made.Certificate, "")
	line("key", made.Key, "")
	line("authority", made.CA, "   (the device needs this file)")
	line("its SHA-256", colons(made.Fingerprint), "")
	line("may publish", strings.Join(made.Publish, " "), "")
	line("may subscribe", strings.Join(made.Subscribe, " "), "")
	line("in one line", made.URI, "")
	if example := made.example(); example != "" {
		fmt.Fprintf(w, "\nTry:\n\n  %s\n", example)
	}
	for _, text := range made.warnings {
		fmt.Fprintf(w, "\n! %s\n", text)
	}
}

// example is a command that publishes as the device.
func (made *card) example() string {
	u, err := url.Parse(made.URLs[0])
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || len(made.Publish) == 0 {
		return ""
	}
	topic := strings.NewReplacer("#", "hello", "+", "x", "...", "hello").Replace(made.Publish[0])
	args := []string{"mosquitto_pub", "-h", u.Hostname(), "-p", u.Port(), "-i", made.ClientID}
	if made.CA != "" && secure(u) {
		args = append(args, "--cafile", made.CA)
	}
	if made.Certificate != "" {
		args = append(args, "--cert", made.Certificate, "--key", made.Key)
	} else {
		args = append(args, "-u", made.User, "-P", made.Password)
	}
	return strings.Join(append(args, "-q", "1", "-t", topic, "-m", "hi"), " ")
}

// fingerprint is the SHA-256 of the first certificate of a PEM file, in hex.
func fingerprint(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s has no certificate in PEM", file)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// colons writes a fingerprint as openssl does.
func colons(digits string) string {
	var pairs []string
	for pair := range slices.Chunk([]byte(strings.ToUpper(digits)), 2) {
		pairs = append(pairs, string(pair))
	}
	return strings.Join(pairs, ":")
}
